"""`GET /`: the built-in page, and the files it is made of."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.http.problems import refuse
from app.http.static import PAGE, Files

router = APIRouter(include_in_schema=False)

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

FILES = Files(
    {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
        # Kept by the browser, but asked for again each time: a new version of the service is a new page at once.
        "Cache-Control": "no-cache",
    }
)

NAMES = frozenset(file.name for file in PAGE.iterdir() if file.suffix != ".html")


@router.get("/")
async def get_page(request: Request) -> Response:
    """The page."""
    return await FILES.get_response("index.html", request.scope)


@router.get("/page/{name}")
async def get_page_file(request: Request, name: str) -> Response:
    """A style sheet, script or picture of the page.

    Raises:
        ProblemError: 404, there is no such file.
    """
    if name not in NAMES:
        raise refuse(404, "The page has no such file.")
    return await FILES.get_response(name, request.scope)
