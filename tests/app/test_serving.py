"""The service as a process of its own, met over real sockets: start, company, departures, SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

START = 60
"""Seconds to wait for a start: the machine may be busy with other tests."""


class Server:
    def __init__(self, settings: dict[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOKALIKE_")}
        if "LOOKALIKE_MODELS" in os.environ:
            environment["LOOKALIKE_MODELS"] = os.environ["LOOKALIKE_MODELS"]
        environment |= {"LOOKALIKE_PORT": str(self.port), "LOOKALIKE_DEVICE": "cpu"} | settings
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads would stop the server
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"], env=environment, stderr=self.log, start_new_session=True
        )

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        """What it wrote to standard error."""
        self.log.seek(0)
        return self.log.read()

    def status(self, path: str) -> int:
        try:
            return httpx.get(self.address + path, timeout=5).status_code
        except httpx.TransportError:
            return 0

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + START
        while not condition():
            assert time.monotonic() < end, f"it took too long until {what}"
            assert self.process.poll() is None, self.said()
            time.sleep(0.05)

    def metric(self, name: str) -> float:
        lines = httpx.get(f"{self.address}/metrics", timeout=5).text.splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(name + " ")), 0.0)

    def variants(self, photo: bytes, **parameters: object) -> httpx.Response:
        return httpx.post(
            f"{self.address}/v1/variants",
            params=parameters,
            files={"image": photo},
            timeout=60,  # type: ignore[arg-type]
        )


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(ready: bool = True, **settings: object) -> Server:
        server = Server({f"LOOKALIKE_{name.upper()}": str(value) for name, value in settings.items()})
        servers.append(server)
        if ready:
            server.wait(lambda: server.status("/health/ready") == 200, "it was ready")
        return server

    yield start
    for server in servers:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)  # its workers as well
        server.process.wait()
        server.log.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_pixel": 5}, "LOOKALIKE_MAX_PIXEL is not a setting; did you mean LOOKALIKE_MAX_PIXELS?"),
        ({"port": "http"}, "LOOKALIKE_PORT: "),
        ({"models": "/nowhere"}, "/nowhere/manifest.json: cannot be read"),
    ],
)
def test_a_wrong_setting_stops_it_with_a_sentence(
    serve: Callable[..., Server], settings: dict[str, object], words: str
) -> None:
    server = serve(ready=False, **settings)
    assert server.process.wait(START) == 2
    assert words in server.said()
    assert "Traceback" not in server.said()


def test_bytes_do_not_depend_on_company_or_restarts(serve: Callable[..., Server], photo: bytes, group: bytes) -> None:
    def alone_and_in_company(server: Server) -> list[bytes]:
        wanted = {"count": 5, "seed": 11}
        with ThreadPoolExecutor(8) as threads:
            lone = server.variants(photo, **wanted).content
            crowd = [
                threads.submit(server.variants, group if index % 2 else photo, count=index + 1) for index in range(7)
            ]
            amid = [threads.submit(server.variants, photo, **wanted) for _ in range(3)]
            assert all(future.result().status_code == 200 for future in crowd)
            return [lone, *(future.result().content for future in amid)]

    answers = alone_and_in_company(serve()) + alone_and_in_company(serve(batch_sizes="1,3,5"))
    assert len(set(answers)) == 1


def test_for_a_client_that_left_nothing_more_is_computed(serve: Callable[..., Server], photo: bytes) -> None:
    server = serve()
    head = "POST /v1/variants?count=64 HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    head += f"Content-Length: {len(photo)}\r\n\r\n"
    drawn = 'lookalike_batch_images_sum{model="decoder"}'
    for _ in range(4):
        before = server.metric(drawn)
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode() + photo)
            server.wait(lambda before=before: server.metric(drawn) > before, "the first were decoded")
    server.wait(lambda: server.metric('lookalike_queue_images{model="decoder"}') == 0, "nothing was queued")
    assert server.variants(photo, count=1).status_code == 200
    decoded = server.metric(drawn)
    assert decoded < 4 * 64 / 2, "most of what was asked for was never read, and so should not be decoded"
    line = 'lookalike_http_requests_total{method="POST",route="/v1/variants",status="499"}'
    assert server.metric(line) == 4


def test_it_stays_alive_and_attentive_under_load(serve: Callable[..., Server], photo: bytes) -> None:
    server = serve()

    async def load() -> float:
        async with httpx.AsyncClient(base_url=server.address, timeout=60) as client:

            async def ask() -> int:
                return (await client.post("/v1/variants?count=24", files={"image": photo})).status_code

            tasks = [asyncio.create_task(ask()) for _ in range(8)]
            waits = []
            while not all(task.done() for task in tasks):
                start = time.perf_counter()
                assert (await client.get("/health/live")).status_code == 200
                waits.append(time.perf_counter() - start)
                await asyncio.sleep(0.02)
            assert [await task for task in tasks] == [200] * 8
            return sorted(waits)[len(waits) // 2]

    assert asyncio.run(load()) < 0.1


def test_beyond_the_limit_of_open_requests_it_is_503(serve: Callable[..., Server], photo: bytes) -> None:
    server = serve(max_requests=1)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            b"POST /v1/variants HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9999\r\n\r\nabc"
        )
        time.sleep(0.3)
        answer = server.variants(photo)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:lookalike:problem:overloaded")
        assert answer.headers["Retry-After"] == "1"
        assert server.status("/health/live") == 200
    server.wait(lambda: server.variants(photo, count=1).status_code == 200, "the slot was free again")


def test_a_body_that_does_not_arrive_is_408(serve: Callable[..., Server]) -> None:
    server = serve(deadline=0.5)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/variants HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9999\r\n\r\nabc"
        )
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"urn:lookalike:problem:request-timeout" in answer


def test_sigterm_finishes_what_is_in_flight_and_exits(serve: Callable[..., Server], photo: bytes) -> None:
    server = serve()
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(server.variants, photo, count=32) for _ in range(4)]
        server.wait(lambda: server.metric('lookalike_batch_images_sum{model="decoder"}') > 0, "it had begun")
        server.process.send_signal(signal.SIGTERM)
        answers = [future.result() for future in asked]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [len(answer.json()["variants"]) for answer in answers] == [32] * 4
    assert server.process.wait(START) in (0, -signal.SIGTERM)


def test_before_it_stops_it_says_so_and_goes_on_answering(serve: Callable[..., Server], photo: bytes) -> None:
    server = serve(drain_seconds=2)
    server.process.send_signal(signal.SIGTERM)
    server.wait(lambda: server.status("/health/ready") == 503, "readiness turned false")
    assert server.status("/health/live") == 200
    assert server.variants(photo, count=1).status_code == 200
    assert server.process.wait(START) in (0, -signal.SIGTERM)


def test_a_worker_that_is_killed_is_replaced(serve: Callable[..., Server], photo: bytes) -> None:
    server = serve(workers=2)

    def workers() -> set[int]:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        found = set()
        for child in children:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that has just ended
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.add(int(child))
        return found

    server.wait(lambda: len(workers()) == 2, "two workers ran")
    before = workers()
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    server.wait(lambda: len(workers()) == 2 and victim not in workers(), "the worker was replaced")
    server.wait(lambda: server.status("/health/ready") == 200, "it was ready")
    assert server.variants(photo, count=1).status_code == 200
