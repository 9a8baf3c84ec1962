"""The load generator against servers of a few lines, whose answers and delays are known."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from types import SimpleNamespace

import pytest

from benchmarks import load

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def serving() -> Iterator[Callable[[Answer], int]]:
    """Serves one kind of answer over keep-alive connections; gives the port."""
    servers: list[ThreadingHTTPServer] = []

    def serve(answer: Answer) -> int:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(server := ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server.server_address[1]

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def whole(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "4")
    handler.end_headers()
    handler.wfile.write(b"face")


def in_chunks(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"4\r\nface\r\n1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n")


MESSAGE = load.request("/", "text/plain", b"question")


@pytest.mark.parametrize("answer", [whole, in_chunks])
def test_every_client_asks_at_least_once(serving: Callable[[Answer], int], answer: Answer) -> None:
    assert load.run(serving(answer), MESSAGE, 3, 8, 0).requests == 3


def test_clients_ask_again_on_the_same_connection_until_the_time_is_over(
    serving: Callable[[Answer], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that goes on by 10 ms whenever it is looked at: to begin, and three times for each request."""
    monkeypatch.setattr(load, "time", SimpleNamespace(perf_counter=count(0, 0.01).__next__))
    connections, asked = set(), []

    def note(handler: BaseHTTPRequestHandler) -> None:
        connections.add(handler.client_address)
        asked.append(handler.path)
        whole(handler)

    found = load.run(serving(note), MESSAGE, 2, 1, 0.5)
    assert found.requests == len(asked)
    assert 15 <= found.requests <= 18, "0.5 s / 30 ms, and each client ends with a request"
    assert len(connections) == 2


def test_percentiles_and_images_a_second(serving: Callable[[Answer], int]) -> None:
    """Of 20 clients one is answered late: the median does not show it, the 99th percentile does."""
    turn, lock, others = iter(range(20)), threading.Lock(), threading.Semaphore(0)

    def one_late(handler: BaseHTTPRequestHandler) -> None:
        with lock:
            late = next(turn) == 7
        if late:
            for _ in range(19):
                others.acquire()
            time.sleep(0.5)
        whole(handler)
        others.release()

    start = time.perf_counter()
    found = load.run(serving(one_late), MESSAGE, 20, 8, 0)
    wall = time.perf_counter() - start
    p50, p95, p99 = found.milliseconds
    assert p50 <= p95 <= p99
    assert p50 < p99
    assert 20 * 8 / wall <= found.images_per_second <= 20 * 8 / (p99 / 1000)


def test_a_refusal_is_an_error_and_not_a_fast_answer(serving: Callable[[Answer], int]) -> None:
    def refuse(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(503)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"full")

    with pytest.raises(RuntimeError, match="503"):
        load.run(serving(refuse), MESSAGE, 1, 1, 0)
