"""Bodies that travel compressed (RFC 9110, section 8.4)."""

from __future__ import annotations

import asyncio
import zlib

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from app.http.problems import ProblemError, refuse

TAKEN = "gzip, deflate"


def inflate(body: bytes, encoding: str, most: int) -> bytes:
    """Undo a Content-Encoding of gzip or deflate, up to `most` bytes.

    Raises:
        ProblemError: 415 another encoding, 400 damaged, 413 too large.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise refuse(415, "Content-Encoding is gzip or deflate, or none.", {"Accept-Encoding": TAKEN})
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        inflated = stream.decompress(body, most + 1)
    except zlib.error:
        raise refuse(400, f"The body is not {encoding}.") from None
    if len(inflated) > most:
        raise refuse(413, f"At most {most} bytes are accepted, after decompression.")
    if not stream.eof:
        raise refuse(400, f"The {encoding} body is incomplete.")
    return inflated


def inflated(receive: Receive, encoding: str, most: int) -> Receive:
    """`receive` of a compressed body as that of the body itself, in one piece.

    What is wrong with it is raised as the framework's own exception: its reader of JSON lets no other through.
    """
    whole = False

    async def receive_inflated() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        parts: list[bytes] = []
        while not whole:
            message = await receive()
            if message["type"] != "http.request":
                raise ClientDisconnect
            parts.append(message.get("body", b""))
            whole = not message.get("more_body", False)
        try:
            body = await asyncio.to_thread(inflate, b"".join(parts), encoding, most)
        except ProblemError as error:
            raise HTTPException(error.kind.status, error.detail, error.headers) from None
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_inflated
