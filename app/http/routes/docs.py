"""`GET /docs`: the OpenAPI description to read and try, with Swagger UI served from here: it works without internet."""

from __future__ import annotations

from app.http.static import Files, routes

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

router = routes("/docs", "docs.html", "/docs", NAMES, FILES)
