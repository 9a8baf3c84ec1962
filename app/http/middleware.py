"""What every request passes: an id, limits on its body, a metric, a log line, and a problem if all else fails."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.service import Service
from app.http import problems
from app.http.encodings import inflated
from app.http.json_bodies import MAX_TEXT
from app.ops.readiness import Readiness
from app.settings import Settings
from app.telemetry import logs
from app.telemetry.metrics import Metrics

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
PARSED_WHOLE = ("/v1/render", "/v1/model:reload")
"""Whose bodies are JSON without a photograph in it."""
JOBS = "/v1/jobs"
"""Whose bodies are far larger, and go to the disk."""
PROBES = ("/health/live", "/health/ready", "/metrics")
"""Asked for every few seconds by machines, so that they would drown the rest of the log."""
DOUBTFUL = ("internal", "deadline-exceeded")
"""Problems after which it is not certain that the networks work."""
BODIED = ("POST", "PUT", "PATCH")

log = logging.getLogger("app.requests")


def across_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """An application as pages of other origins may ask it, which the operator names; as it is where there are none."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "HEAD", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["*"],
    )


class Envelope:
    """The outermost layer of the application.

    Args:
        app: what it wraps.
        settings: limits.
        metrics: where requests are counted.
        service: is told of failures.
        readiness: is told how many requests are open.
    """

    def __init__(
        self, app: ASGIApp, settings: Settings, metrics: Metrics, service: Service, readiness: Readiness
    ) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._service, self._readiness = service, readiness

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        logs.request_id.set(request_id)
        method = scope["method"]
        inner = dict(scope, method="GET") if method == "HEAD" else scope
        status = 0
        headed = False

        async def send_on(message: Message) -> None:
            nonlocal status, headed
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                answer["X-Request-ID"] = request_id
                answer["X-Content-Type-Options"] = "nosniff"
                answer.setdefault("Cache-Control", "no-store")
                if status in (408, 413):
                    answer["Connection"] = "close"  # the rest of the body is not worth reading
            elif method == "HEAD" and message["type"] == "http.response.body":
                if headed:
                    return
                # The end at once: who makes a long answer in pieces then sees that nobody listens, and makes no more.
                headed, message = True, {"type": "http.response.body"}
            await send(message)

        try:
            await self._pass_on(inner, headers, receive, send_on)
        except Exception as error:
            log.exception("request failed")
            if not status:
                await self._fail(error, inner, receive, send_on)
        finally:
            state["route"] = getattr(inner.get("route"), "path", "none")
            self._account(method, state, status, time.perf_counter() - start)

    async def _pass_on(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Have the application answer, unless it is a request with a body and there is no room for one more."""
        if scope["method"] not in BODIED:
            await self._app(scope, receive, send)
            return
        with self._readiness.request() as room:
            if room:
                await self._app(scope, self._limited(scope["path"], headers, receive), send)
            else:
                await self._fail(HTTPException(503, headers={"Retry-After": "1"}), scope, receive, send)

    def _account(self, method: str, state: dict[str, Any], status: int, seconds: float) -> None:
        """Count a request that was answered, log it, and doubt the networks where there is reason to."""
        route, problem = state["route"], state.get("problem")
        known_method = method if method in (*BODIED, "GET", "HEAD", "DELETE") else "other"
        self._metrics.request(route, known_method, status, seconds)
        if problem:
            self._metrics.rejected(problem)
        if problem in DOUBTFUL:
            self._service.doubt()
        log.log(
            logging.DEBUG if route in PROBES and status == 200 else logging.INFO,
            "request",
            extra={
                "method": known_method,
                "route": route,
                "status": status,
                "seconds": round(seconds, 4),
                **{name: state[name] for name in ("key", "answer") if name in state},
                **({"problem": problem} if problem else {}),
            },
        )

    async def _fail(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer in place of the application: a page of another origin has to be able to read this too."""
        state = scope["state"]
        kind, content, headers = problems.describe(error, str(state["request_id"]))
        state["problem"] = kind.slug
        answer = Response(content, kind.status, headers, problems.MEDIA_TYPE)
        await across_origins(answer, self._settings.cors_origins)(scope, receive, send)

    def _limited(self, path: str, headers: Headers, receive: Receive) -> Receive:
        """`receive`, with an error where the body is too large or too slow."""
        most, seconds = self._settings.max_bytes, self._settings.deadline
        if path == JOBS and self._settings.jobs:
            # As much time for each byte as others have.
            seconds *= max(1, self._settings.jobs_upload_bytes / most)
            most = self._settings.jobs_upload_bytes
        if path in PARSED_WHOLE:
            most = min(most, MAX_TEXT)  # it is parsed on the event loop
        too_large = HTTPException(413, f"At most {most} bytes are accepted.")
        announced = headers.get("content-length", "")
        deadline = asyncio.get_running_loop().time() + seconds
        received = 0
        complete = False

        async def receive_some() -> Message:
            nonlocal received, complete
            if announced.isdecimal() and int(announced) > most:
                raise too_large
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"The body had not arrived after {seconds:g} s.") from None
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > most:
                raise too_large
            return message

        encoding = headers.get("content-encoding", "").strip().lower()
        return inflated(receive_some, encoding, most) if encoding and path.startswith("/v1/") else receive_some
