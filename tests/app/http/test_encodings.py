"""Compressed bodies, piece by piece."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message

from app.http.encodings import PIECE, SLICE, Inflater, inflate, inflated
from app.http.problems import ProblemError

NOISE = random.Random(1).randbytes(SLICE + 1000)


def received(parts: list[bytes], encoding: str, most: int) -> list[Message]:
    """All messages of a body that arrives in parts."""
    waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    waiting[-1]["more_body"] = False

    async def receive() -> Message:
        return waiting.pop(0)

    async def read() -> list[Message]:
        next_one, messages = inflated(receive, encoding, most), []
        while not messages or messages[-1]["more_body"]:
            messages.append(await next_one())
        return messages

    return asyncio.run(read())


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE], ids=str)
@pytest.mark.parametrize("packed", [gzip.compress, zlib.compress])
def test_a_large_body_comes_in_pieces(packed, length: int) -> None:
    body = bytes(length)
    messages = received([packed(body)], "gzip", length)
    assert b"".join(message["body"] for message in messages) == body
    assert max(len(message["body"]) for message in messages) <= PIECE


def test_a_body_that_arrives_in_crumbs() -> None:
    sent = gzip.compress(NOISE)
    messages = received([sent[start : start + 500] for start in range(0, len(sent), 500)], "gzip", len(NOISE))
    assert b"".join(message["body"] for message in messages) == NOISE


def test_all_members_of_a_gzip_count() -> None:
    parts = [b"first", b"", bytes(PIECE), NOISE, b"last"]
    sent = b"".join(map(gzip.compress, parts))
    assert inflate(sent, "gzip", 2 * PIECE) == b"".join(parts)
    assert b"".join(message["body"] for message in received([sent], "gzip", 2 * PIECE)) == b"".join(parts)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (gzip.compress(b"x") + b"rest", 400),
        (gzip.compress(b"x") + gzip.compress(b"y")[:-5], 400),
        (gzip.compress(b"x")[:-5], 400),
        (b"", 400),
        (gzip.compress(bytes(1001)), 413),
        (gzip.compress(bytes(501)) * 2, 413),
    ],
    ids=["more behind it", "a second one cut off", "cut off", "nothing", "too large", "too large together"],
)
def test_what_is_damaged_or_too_large(sent: bytes, status: int) -> None:
    with pytest.raises(ProblemError) as told:
        inflate(sent, "gzip", 1000)
    assert told.value.kind.status == status
    with pytest.raises(HTTPException) as raised:
        received([sent], "gzip", 1000)
    assert raised.value.status_code == status


def test_no_more_is_inflated_than_is_asked_for() -> None:
    pieces = Inflater("gzip", 2**40).pieces(gzip.compress(bytes(4 * PIECE)))
    assert len(next(pieces)) == PIECE
