"""How long a connection is waited for, by a clock that only moves when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from app.http.wire import BoundedConnection

SECONDS, LONGER = 90.0, 900.0


class Met:
    """A connection, its client's end, and its timer."""

    def __init__(self) -> None:
        self.answering = asyncio.Event()
        self.seconds: float | None = None
        self.expire: Callable[[], None] = Mock()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await self.answering.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x", "more_body": False})

        config = Config(app, log_config=None)
        config.load()
        loop: Any = SimpleNamespace(create_task=asyncio.get_running_loop().create_task, call_later=self._call_later)
        long_paths = ("/v1/jobs", LONGER)
        self.connection = BoundedConnection(
            config, ServerState(), {}, loop, exchange_seconds=SECONDS, long_paths=long_paths
        )
        self.transport = Mock()
        self.transport.is_closing.return_value = False
        self.transport.get_extra_info.return_value = None
        self.transport.get_write_buffer_size.return_value = 0
        self.connection.connection_made(self.transport)

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> Mock:
        if callback == self.connection.timeout_keep_alive_handler:
            return Mock()
        self.seconds, self.expire = seconds, callback
        return Mock()

    def send(self, head: str, more: str = "") -> None:
        self.connection.data_received(f"{head} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode())


def met(check: Callable[[Met], Any]) -> None:
    async def meet() -> None:
        one = Met()
        try:
            await check(one)
        finally:
            one.connection.connection_lost(ConnectionError())  # else what was not taken would be waited for

    asyncio.run(meet())


@pytest.mark.parametrize(
    ("head", "seconds"),
    [
        ("POST /v1/jobs", LONGER),
        ("DELETE /v1/jobs/1", LONGER),
        ("GET /v1/jobs/1/result", SECONDS),
        ("GET /v1/model", SECONDS),
    ],
)
def test_a_request_has_its_time(head: str, seconds: float) -> None:
    async def check(met: Met) -> None:
        met.send(head)
        assert met.seconds == seconds

    met(check)


def test_a_long_result_is_fetched_as_long_as_the_client_takes_it() -> None:
    async def check(met: Met) -> None:
        met.send("GET /v1/jobs/1/result")
        for _ in range(3):
            met.connection.pause_writing()
            met.seconds = None
            met.connection.resume_writing()
            assert met.seconds == SECONDS, "from here on"
            met.expire()
        assert not met.transport.abort.called, "the next piece is being made"
        met.connection.pause_writing()
        met.expire()
        assert met.transport.abort.called, "it was there, and nobody took it"

    met(check)


def test_the_end_of_a_result_that_nobody_takes() -> None:
    async def check(met: Met) -> None:
        met.send("GET /v1/jobs/1/result")
        met.transport.get_write_buffer_size.return_value = 100
        met.answering.set()
        await asyncio.gather(*met.connection.tasks)
        met.expire()
        assert met.transport.abort.called

    met(check)


def test_the_end_of_a_result_after_which_the_connection_is_closed() -> None:
    async def check(met: Met) -> None:
        met.transport.close.side_effect = lambda: met.transport.is_closing.configure_mock(return_value=True)
        met.send("GET /v1/jobs/1/result", "Connection: close\r\n")
        met.answering.set()
        await asyncio.gather(*met.connection.tasks)
        assert met.seconds == SECONDS
        met.expire()
        assert met.transport.abort.called

    met(check)


def test_other_answers_have_the_same_time_however_slowly_they_are_taken() -> None:
    async def check(met: Met) -> None:
        met.send("GET /v1/model")
        met.connection.pause_writing()
        met.seconds = None
        met.connection.resume_writing()
        assert met.seconds is None, "it goes on"
        met.expire()
        assert met.transport.abort.called

    met(check)
