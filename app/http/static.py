"""Files that are part of the service, as the framework serves them: entity tags, ranges, and no way out of a folder."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

import app
from app.http.problems import refuse

PAGE = Path(app.__file__).parent / "page"

# What these are called differs between machines, and a browser runs no script under a wrong name.
for suffix, media_type in ((".js", "text/javascript"), (".css", "text/css"), (".webp", "image/webp")):
    mimetypes.add_type(media_type, suffix)


class Files(StaticFiles):
    """The files of the page, or of a package as well, each answer with further headers.

    Args:
        headers: of every answer.
        package: name of a package, and of the folder in it.
    """

    def __init__(self, headers: Mapping[str, str], package: tuple[str, str] | None = None) -> None:
        super().__init__(directory=PAGE, packages=[package] if package else None)
        self._headers = headers

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """A file, or the news that the client has it already."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(self._headers)
        return response


def routes(address: str, index: str, folder: str, names: Collection[str], files: Files) -> APIRouter:
    """A page at an address, and the files that it is made of below a folder.

    Args:
        address: of the page.
        index: the file that is the page.
        folder: address of the others.
        names: which those are; no other is served.
        files: where all of them are.
    """
    router = APIRouter(include_in_schema=False)

    @router.get(address)
    async def get_page(request: Request) -> Response:
        return await files.get_response(index, request.scope)

    @router.get(folder + "/{name}")
    async def get_file(request: Request, name: str) -> Response:
        if name not in names:
            raise refuse(404, "The page has no such file.")
        return await files.get_response(name, request.scope)

    return router
