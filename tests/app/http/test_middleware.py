"""What every request passes, around an application that is none."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Message

from app.http.middleware import Envelope
from app.settings import Settings
from app.telemetry.metrics import Metrics

MANY = 10_000


def test_of_a_long_answer_nothing_more_is_made_once_its_head_was_sent() -> None:
    made, sent = [], []
    ended = asyncio.Event()

    def pieces() -> Any:
        for number in range(MANY):
            made.append(number)
            yield b"x" * 1000

    async def receive() -> Message:
        await ended.wait()
        return {"type": "http.disconnect"}  # as a server says once an answer is complete

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            ended.set()

    scope = {"type": "http", "method": "HEAD", "path": "/v1/jobs/1/result", "headers": [], "query_string": b""}
    service: Any = SimpleNamespace(doubt=lambda: None)
    envelope = Envelope(StreamingResponse(pieces()), Settings(), Metrics(), service, SimpleNamespace())
    asyncio.run(envelope(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 200
    assert not sent[1].get("body")
    assert len(made) < MANY
