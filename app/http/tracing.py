"""A span for each request, around everything else."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.telemetry import tracing

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Traced:
    """Traces each request by method and route template.

    Args:
        app: what it wraps; it leaves route, request id and kind of problem in the state of the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        state = scope.setdefault("state", {})
        parent = Headers(scope=scope).get("traceparent")
        carrier = {"traceparent": parent} if parent else {}
        with tracing.span(method, carrier) as span:
            status = 0

            async def send_on(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await self._app(scope, receive, send_on)
            finally:
                route = state.get("route", "none")
                span.name(f"{method} {route}")
                span.set(
                    {
                        "http.request.method": method,
                        "http.route": route,
                        "http.response.status_code": status,
                        "lookalike.request_id": state.get("request_id", ""),
                    }
                )
                if problem := state.get("problem"):
                    span.set({"lookalike.problem": problem})
                if status >= 500:
                    span.fail(problem or str(status))
