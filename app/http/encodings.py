"""Bodies that travel compressed (RFC 9110, section 8.4)."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from app.http.problems import ProblemError, refuse

TAKEN = "gzip, deflate"
PIECE = 2**20
"""Most bytes that are inflated at once."""
SLICE = 2**14
"""Bytes of a body that are looked at at once: behind each member of a gzip what is left of them is copied."""


class Inflater:
    """Undoes a Content-Encoding of gzip or deflate, a piece at a time.

    Args:
        encoding: the header, in small letters.
        most: bytes that the body may have.

    Raises:
        ProblemError: 415, another encoding.
    """

    def __init__(self, encoding: str, most: int) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise refuse(415, "Content-Encoding is gzip or deflate, or none.", {"Accept-Encoding": TAKEN})
        self._encoding, self._most, self._left = encoding, most, most
        self._stream = _stream()

    def pieces(self, sent: bytes) -> Iterator[bytes]:
        """What some more of the body holds; none is empty.

        Raises:
            ProblemError: 400 damaged, 413 too large.
        """
        for start in range(0, len(sent), SLICE):
            yield from self._pieces(sent[start : start + SLICE])

    def _pieces(self, rest: bytes) -> Iterator[bytes]:
        piece = b""
        while rest or len(piece) == PIECE:  # a full one may have more behind it, though all was looked at
            if self._stream.eof:
                if not rest:
                    return
                self._stream = _stream()  # a gzip may have several members
            try:
                piece = self._stream.decompress(rest, PIECE)
            except zlib.error:
                raise refuse(400, f"The body is not {self._encoding}.") from None
            rest = self._stream.unconsumed_tail or self._stream.unused_data
            self._left -= len(piece)
            if self._left < 0:
                raise refuse(413, f"At most {self._most} bytes are accepted, after decompression.")
            if piece:
                yield piece

    def end(self) -> None:
        """There is no more.

        Raises:
            ProblemError: 400, there should be.
        """
        if not self._stream.eof:
            raise refuse(400, f"The {self._encoding} body is incomplete.")


def _stream() -> zlib._Decompress:
    return zlib.decompressobj(zlib.MAX_WBITS | 32)


def inflate(body: bytes, encoding: str, most: int) -> bytes:
    """Undo a Content-Encoding of gzip or deflate, up to `most` bytes.

    Raises:
        ProblemError: 415 another encoding, 400 damaged, 413 too large.
    """
    if encoding in ("", "identity"):
        return body
    inflater = Inflater(encoding, most)
    inflated = b"".join(inflater.pieces(body))
    inflater.end()
    return inflated


def inflated(receive: Receive, encoding: str, most: int) -> Receive:
    """`receive` of a compressed body as that of the body itself, in pieces: a large one goes to the disk.

    What is wrong with it is raised as the framework's own exception: its reader of JSON lets no other through.
    """
    if encoding == "identity":
        return receive
    inflater: Inflater | None = None
    pieces: Iterator[bytes] = iter(())
    whole = ended = False

    async def receive_inflated() -> Message:
        nonlocal inflater, pieces, whole, ended
        if ended:
            return await receive()
        try:
            inflater = inflater or Inflater(encoding, most)
            while not (piece := await asyncio.to_thread(next, pieces, b"")):
                if whole:
                    inflater.end()
                    ended = True
                    break
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientDisconnect
                pieces = inflater.pieces(message.get("body", b""))
                whole = not message.get("more_body", False)
        except ProblemError as error:
            raise HTTPException(error.kind.status, error.detail, error.headers) from None
        return {"type": "http.request", "body": piece, "more_body": not ended}

    return receive_inflated
