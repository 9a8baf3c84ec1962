"""What no HTTP client would send, over real sockets: heads and bodies without end, lies about lengths, dawdlers."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

import pytest

from tests.server import Server
from tests.torture.conftest import Record
from tests.torture.pictures import ORIGINALS

HOST = b"Host: x\r\n"
POST = b"POST /v1/identities HTTP/1.1\r\n" + HOST + b"Content-Type: image/jpeg\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def answer(connection: socket.socket) -> bytes:
    """All that comes, until the server closes."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            received += part
    return received


def pour(connection: socket.socket, drops: bytes, seconds: float = 60) -> int:
    """Send the same bytes until the server will not have them; returns how many went."""
    sent, end = 0, time.monotonic() + seconds
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end:
            connection.sendall(drops)
            sent += len(drops)
    return sent


@pytest.mark.parametrize(
    ("head", "drops"),
    [
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 1000),
        (b"GET / HTTP/1.1\r\nX: ", b"x" * 10_000),
        (b"GET /", b"x" * 10_000),
        (CHUNKED, b"1;" + b"e" * 10_000 + b"\r\nx\r\n"),
        (CHUNKED, b"1\r\nx\r\n" * 2000),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"t: u\r\n" * 1000),
        (CHUNKED, b"4000\r\n" + b"x" * 0x4000 + b"\r\n"),
    ],
    ids=["headers", "one header", "address", "extensions", "crumbs", "trailers", "body"],
)
def test_what_never_ends_is_cut_off(server: Server, record: Record, head: bytes, drops: bytes) -> None:
    before = server.resident
    with server.connect() as connection:
        connection.sendall(head)
        sent = pour(connection, drops)
        said = answer(connection)
    assert sent < 60e6, "it must be refused long before"
    assert not said or said.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400", b"HTTP/1.1 413")), said[:100]
    assert server.resident < before + 60
    assert server.ready() == 200
    record(f"endless {drops[:12]!r} after {head[-12:]!r}", f"{sent / 1e6:.1f} MB", "refused, memory kept")


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Content-Length: -1\r\n", 400),
        (b"Content-Length: +5\r\n", 400),
        (b"Content-Length: 99999999999999999999999\r\n", 400),
        (b"Content-Length: 9999999999\r\n", 413),
        (b"Transfer-Encoding: gzip\r\n", 400),
        (b"Transfer-Encoding: chunked, identity\r\n", 400),
        (b"Content-Length : 5\r\n", 400),
        (b" Content-Length: 5\r\n", 400),
        (b"X: a\0b\r\n", 400),
    ],
)
def test_a_lie_about_the_length(server: Server, length: bytes, status: int) -> None:
    with server.connect() as connection:
        connection.sendall(POST + b"Connection: close\r\n" + length + b"\r\nhello")
        assert answer(connection).startswith(b"HTTP/1.1 %d" % status)


def test_a_body_longer_than_announced_is_not_the_next_request(server: Server) -> None:
    smuggled = b"GET /v1/model HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(POST + b"Content-Length: 5\r\n\r\nhelloGARBAGE" + smuggled)
        said = answer(connection)
    assert said.startswith(b"HTTP/1.1 400")
    assert b"200 OK" not in said


def test_dawdlers_are_shown_out_and_the_others_served(
    serve: Callable[..., Server], amount: Callable[[int, int], int], record: Record
) -> None:
    server = serve(fork=True, deadline=4, queue_images=64).until_ready()
    photo = ORIGINALS["jpeg"]
    count = amount(40, 200)
    descriptors = server.descriptors
    with contextlib.ExitStack() as stack:
        silent, heads, bodies, readers = (
            [stack.enter_context(server.connect()) for _ in range(count)] for _ in range(4)
        )
        for connection in heads:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        for connection in bodies:
            connection.sendall(POST + b"Content-Length: 100000\r\n\r\n" + photo[:100])
        # Each asks for all the images that may be waited for at once, and does not read them.
        stream = b"POST /v1/variants?count=64&format=png HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n"
        stream += b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(photo) + photo
        for connection in readers[:2]:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(stream)
        server.until(lambda: server.post("/v1/variants?count=1", photo).status_code == 200, "one was served")
        assert all(answer(connection).startswith(b"HTTP/1.1 408") for connection in bodies)
        assert not any(answer(connection) for connection in silent + heads)
        server.until(lambda: server.descriptors <= descriptors + 5, "all were gone")
        server.until(lambda: server.post("/v1/variants?count=1", photo).status_code == 200, "one was served")
    record(
        "connections that send nothing, half a head, half a body, or do not read", 3 * count + 2, "all closed in time"
    )
