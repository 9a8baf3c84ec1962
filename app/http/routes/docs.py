"""`GET /docs`: the OpenAPI description to read and try, with Swagger UI served from here: it works without internet."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter, Response

from app.http.problems import refuse

router = APIRouter(include_in_schema=False)

HTML = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>lookalike: API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<main id="swagger-ui"></main>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

START = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
});
"""

HEADERS = {
    # Swagger UI writes style attributes; scripts are files alone.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
PACKAGED = {"swagger-ui-bundle.js": "text/javascript; charset=utf-8", "swagger-ui.css": "text/css; charset=utf-8"}


@router.get("/docs")
async def get_docs() -> Response:
    """The page."""
    return Response(HTML, media_type="text/html; charset=utf-8", headers=HEADERS)


@router.get("/docs/{name}")
def get_docs_file(name: str) -> Response:
    """A script or style sheet of the page.

    Raises:
        ProblemError: 404, there is no such file.
    """
    if name == "start.js":
        return Response(START, media_type=PACKAGED["swagger-ui-bundle.js"], headers=HEADERS)
    if name not in PACKAGED:
        raise refuse(404, "The documentation has no such file.")
    content = resources.files("fastapi_swagger").joinpath("resources", name).read_bytes()
    return Response(content, media_type=PACKAGED[name], headers=HEADERS)
