"""The wire below HTTP: what a connection may take up before, during and after a request.

The server's own parser would collect headers without end, and wait without end for a client that sends them slowly, or
that takes its answer slowly. Each would hold memory, a descriptor and a place among the open requests.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

HEAD_BYTES = 2**15
"""Largest request line and headers together."""
HEAD_SECONDS = 10.0
"""How long a head may take to arrive, from the opening of a connection or the first byte of a further request."""
LINGER_SECONDS = 10.0
"""How long what was answered may lie unread once the connection is closed."""


class BoundedConnection(HttpToolsProtocol):
    """HTTP/1.1 with bounds in bytes and seconds.

    Args:
        config, server_state, app_state, _loop: see uvicorn.
        exchange_seconds: how long one request may take from its head to the last byte that the client takes.
        long_paths: how addresses begin whose requests may take longer, and how long. What is fetched from them may be
            of any size: there the time is that in which the client takes the next piece.
        overhead_bytes: what a body may take up on the wire beyond twice its content: framing of chunks, mostly.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        exchange_seconds: float = 90.0,
        long_paths: tuple[str, float] = ("", 0.0),
        overhead_bytes: int = 2**16,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._exchange_seconds, self._overhead_bytes = exchange_seconds, overhead_bytes
        self._long_paths = long_paths
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_body = self._fetching = False
        self._wire_bytes = self._body_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; its head is now awaited."""
        super().connection_made(transport)
        self._within(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is no more."""
        self._within(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and count what it was fed."""
        if self.transport.is_closing():
            return
        if not self._in_body and not self._head_bytes and self._idle:
            self._within(HEAD_SECONDS)
        self._head_bytes += len(data)
        self._wire_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if not self._in_body and self._head_bytes > HEAD_BYTES:
            self._refuse(431, "The request line and headers are too large.")
        elif self._in_body and self._wire_bytes > 2 * self._body_bytes + self._overhead_bytes + len(data):
            self._refuse(400, "The body is mostly framing.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a field of a trailer: those are dropped, nobody asks for them."""
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there, the body follows."""
        self._in_body = True
        self._wire_bytes = self._body_bytes = 0
        path, seconds = self._long_paths
        is_long = bool(path) and self.url.startswith(path.encode())
        self._fetching = is_long and self.parser.get_method() == b"GET"
        longer = is_long and not self._fetching
        self._within(max(seconds, self._exchange_seconds) if longer else self._exchange_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there in full."""
        self._in_body = False
        self._head_bytes = 0
        super().on_message_complete()
        self._rest()

    def on_response_complete(self) -> None:
        """The answer was written, though perhaps not yet taken."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._within(self._exchange_seconds if self._fetching else LINGER_SECONDS)
        else:
            self._rest()

    def resume_writing(self) -> None:
        """The client has taken what was written."""
        super().resume_writing()
        if self._fetching and not self._idle:
            self._within(self._exchange_seconds)
        self._rest()

    def timeout_keep_alive_handler(self) -> None:
        """No further request has come; who has not taken the answer by now is given a little longer."""
        super().timeout_keep_alive_handler()
        self._within(LINGER_SECONDS)

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _rest(self) -> None:
        """End the time limit where both sides are done; else it goes on."""
        if self._idle and not self._in_body and not self.pipeline and not self.transport.get_write_buffer_size():
            self._within(None)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: the request is answered as if no other protocol had been asked for (RFC 9110, section 7.8)."""

    def _within(self, seconds: float | None) -> None:
        """Give the client so long for what comes next; None is no limit."""
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._give_up) if seconds is not None else None

    def _give_up(self) -> None:
        if self._fetching and not self._idle and not self.flow.write_paused:
            # The client has taken what there was, and cannot help it that the next piece is not there yet.
            self._within(self._exchange_seconds)
        else:
            self.transport.abort()

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer without the application, which has not seen the request or does not see its end, and close."""
        if self._idle:
            head = b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head % len(sentence) + sentence.encode())
            self.transport.close()
            self._within(LINGER_SECONDS)
        else:
            self.transport.abort()
