"""Keys and rate limits over HTTP: who asks is known before a body is read, and images are charged before they are made.

Whatever is not listed as open needs a key, so that a new route is never open by accident. Keys come as
`X-API-Key: KEY` or `Authorization: Bearer KEY` (RFC 6750); where both are there the former counts, since gateways put
tokens of their own into the latter. The RateLimit fields are those of draft-ietf-httpapi-ratelimit-headers up to 07,
which clients and gateways know; the later drafts' single structured field is hardly used.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from fastapi import FastAPI, Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.documentation import errors
from app.http.inference_protocol import PREFIX
from app.http.problems import MEDIA_TYPE, ProblemError, refuse
from app.keys import Allowance, Keyring, RateLimiter, network_of
from app.settings import Settings

Area = Literal["page", "health", "metrics", "docs", "admin", "api"]

OPEN: dict[str, Area] = {
    "/": "page",
    "/health/live": "health",
    "/health/ready": "health",
    "/v2/health/live": "health",
    "/v2/health/ready": "health",
    "/metrics": "metrics",
    "/docs": "docs",
    "/openapi.json": "docs",
}
ADMIN = ("/v1/model:reload",)
CHALLENGE = 'Bearer realm="lookalike"'
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of the service as a bearer token."},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key of the service."},
}


def area(path: str) -> Area:
    """What a path belongs to; all that is not known belongs to the API, and needs a key."""
    if path in ADMIN:
        return "admin"
    if path.startswith("/docs/"):
        return "docs"
    return OPEN.get(path, "page" if path.startswith("/page/") else "api")


class Access:
    """Lets in whoever has a key, and says with what was counted what its rate limit leaves.

    Args:
        app: what it wraps.
        keyring: the keys; None lets everybody in, but nobody into administration.
        protected: areas that need a key besides the API: `health`, `metrics`, `docs`.
        admins: names of the keys that may administer; empty is every key.
        policy: the rate limits, as a header has them.
    """

    def __init__(
        self,
        app: ASGIApp,
        keyring: Keyring | None,
        protected: Collection[str],
        admins: Collection[str],
        policy: str,
    ) -> None:
        self._app, self._keyring, self._policy = app, keyring, policy
        self._protected, self._admins = {"api", "admin", *protected}, admins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            self._admit(request)
        except ProblemError as error:
            answer = await request.app.exception_handlers[ProblemError](request, error)
            await answer(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            allowance: Allowance | None = getattr(request.state, "allowance", None)
            if message["type"] == "http.response.start" and allowance:
                fields = MutableHeaders(scope=message)
                fields["RateLimit-Policy"] = self._policy
                fields["RateLimit-Limit"] = str(allowance.limit)
                fields["RateLimit-Remaining"] = str(allowance.remaining)
                fields["RateLimit-Reset"] = str(allowance.reset)
            await send(message)

        await self._app(scope, receive, send_on)

    def _admit(self, request: Request) -> None:
        """Find out who asks; the name of its key is kept as `request.state.key`.

        Raises:
            ProblemError: 401 no key, or one that is not known; 403 one that may not do this.
        """
        place = area(request.scope["path"])
        if place not in self._protected:
            return
        if self._keyring is None:
            if place == "admin":
                raise refuse(403, "Administration needs a key, and this service has none: set LOOKALIKE_KEYS first.")
            return
        key = _key(request)
        if not key:
            detail = "Send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
            raise refuse(401, detail, {"WWW-Authenticate": CHALLENGE})
        name = self._keyring.name_of(key)
        if name is None:
            detail = "This key is not known here, or no longer. Ask the operator of the service for one."
            raise refuse(401, detail, {"WWW-Authenticate": f'{CHALLENGE}, error="invalid_token"'})
        request.state.key = name
        if place == "admin" and self._admins and name not in self._admins:
            detail = "This key may not administer the service. Use one that is named in LOOKALIKE_ADMIN_KEYS."
            raise refuse(403, detail, {"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope"'})


def _key(request: Request) -> str:
    if key := request.headers.get("x-api-key", "").strip():
        return key
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


def caller(request: Request) -> str:
    """Whom images are counted for: a key, or an address where there are no keys."""
    key = getattr(request.state, "key", None)
    host = request.client.host if request.client else ""
    return f"key:{key}" if key else f"address:{network_of(host)}"


async def charge(request: Request, limiter: RateLimiter | None, images: int) -> None:
    """Count images that are about to be made against the caller's rate limit.

    What is charged stays charged, whatever becomes of the request.

    Raises:
        ProblemError: 429, it has not so many left.
    """
    if limiter is None:
        return
    allowance = await limiter.charge(caller(request), images)
    request.state.allowance = allowance
    if not allowance.granted:
        detail = (
            f"{images} images were asked for, and {allowance.remaining} of {allowance.limit} in {allowance.window} s "
            f"are left. Ask for fewer, or try again in {allowance.reset} s."
        )
        raise refuse(429, detail, {"Retry-After": str(allowance.reset)})


def install(app: FastAPI, settings: Settings) -> None:
    """Put keys and rate limits around the application."""
    keyring = Keyring(settings.keys, settings.keys_file) if settings.needs_key else None
    limiter = RateLimiter(settings.rate_limit, settings.rate_store) if settings.rate_limit else None
    app.state.limiter = limiter
    app.add_middleware(
        Access,
        keyring=keyring,
        protected=settings.protect,
        admins=settings.admin_keys,
        policy=limiter.policy if limiter else "",
    )


def document(schema: dict[str, Any], settings: Settings) -> None:
    """Declare the security schemes, and where they and their problems apply."""
    schema.setdefault("components", {})["securitySchemes"] = SCHEMES
    either: list[dict[str, list[str]]] = [{name: []} for name in SCHEMES]
    for path, operations in schema["paths"].items():
        place = area(path)
        if place not in ("api", "admin", *settings.protect):
            continue
        for method, operation in operations.items():
            # Without keys the API is open to all, which OpenAPI says with an empty alternative.
            operation["security"] = either if settings.needs_key or place == "admin" else [{}, *either]
            statuses = [401]
            if place == "admin":
                statuses.append(403)
            elif method == "post":
                statuses.append(429)
            answers = {**operation["responses"], **{str(status): _response(status, path) for status in statuses}}
            operation["responses"] = dict(sorted(answers.items()))


def _response(status: int, path: str) -> dict[str, Any]:
    ((_, answer),) = errors(status).items()
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, **answer["content"][MEDIA_TYPE]}
    names = {401: ["WWW-Authenticate"], 403: ["WWW-Authenticate"], 429: ["Retry-After", "RateLimit-Reset"]}[status]
    headers = {name: {"schema": {"type": "string"}} for name in names}
    body = {MEDIA_TYPE: content}
    if path.startswith(PREFIX):
        body = {"application/json": {"schema": {"$ref": "#/components/schemas/ProtocolError"}}}
    return {"description": answer["description"], "headers": headers, "content": body}
