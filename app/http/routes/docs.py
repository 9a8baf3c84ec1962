"""`GET /docs`: the OpenAPI description to read and try, with Swagger UI served from here: it works without internet."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.http.problems import refuse
from app.http.static import Files

router = APIRouter(include_in_schema=False)

FILES = Files(
    {
        # Swagger UI writes style attributes; scripts are files alone.
        "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    },
    package=("fastapi_swagger", "resources"),
)
NAMES = ("docs.js", "swagger-ui-bundle.js", "swagger-ui.css")


@router.get("/docs")
async def get_docs(request: Request) -> Response:
    """The page."""
    return await FILES.get_response("docs.html", request.scope)


@router.get("/docs/{name}")
async def get_docs_file(request: Request, name: str) -> Response:
    """A script or style sheet of the page.

    Raises:
        ProblemError: 404, there is no such file.
    """
    if name not in NAMES:
        raise refuse(404, "The documentation has no such file.")
    return await FILES.get_response(name, request.scope)
