"""`GET /`: the built-in page, and the files it is made of.

They are few and small, so they are read once and answered from memory: no request's path reaches the file system.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

from fastapi import APIRouter, Request, Response

from app.http.problems import refuse

router = APIRouter(include_in_schema=False)

INDEX = "index.html"

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    # Kept by the browser, but asked for again each time: a new version of the service is a new page at once.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class PageFile:
    """One file of the page, with its media type and its entity tag."""

    content: bytes
    media_type: str
    tag: str


def _read() -> dict[str, PageFile]:
    files = {}
    for entry in resources.files("app").joinpath("page").iterdir():
        media_type = MEDIA_TYPES.get("." + entry.name.rpartition(".")[2])
        if media_type:
            content = entry.read_bytes()
            files[entry.name] = PageFile(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:24]}"')
    return files


FILES = _read()


@router.get("/")
async def get_page(request: Request) -> Response:
    """The page."""
    return _answer(request, FILES[INDEX])


@router.get("/page/{name}")
async def get_page_file(request: Request, name: str) -> Response:
    """A style sheet, script or picture of the page.

    Raises:
        ProblemError: 404, there is no such file.
    """
    if name not in FILES or name == INDEX:
        raise refuse(404, "The page has no such file.")
    return _answer(request, FILES[name])


def _answer(request: Request, file: PageFile) -> Response:
    headers = HEADERS | {"ETag": file.tag}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if file.tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
