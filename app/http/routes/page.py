"""`GET /`: the built-in page, and the files it is made of."""

from __future__ import annotations

from app.http.static import PAGE, Files, routes

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

router = routes("/", "index.html", "/page", NAMES, FILES)
