"""The service as a process of its own, met over real sockets: start, company, departures, SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.patience import PATIENCE
from tests.server import HELD, Server


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
    server = serve(**settings)
    assert server.process.wait(PATIENCE) == 2
    assert words in server.said()
    assert "Traceback" not in server.said()


def test_bytes_do_not_depend_on_company_or_restarts(serve: Callable[..., Server], photo: bytes, group: bytes) -> None:
    def alone_and_in_company(server: Server) -> list[bytes]:
        wanted = {"count": 5, "seed": 11}
        with ThreadPoolExecutor(8) as threads:
            lone = server.variants(photo, **wanted).content
            crowd = [
                threads.submit(server.variants, group if index % 2 else photo, count=index + 1) for index in range(5)
            ]
            amid = [threads.submit(server.variants, photo, **wanted) for _ in range(2)]
            assert all(future.result().status_code == 200 for future in crowd)
            return [lone, *(future.result().content for future in amid)]

    answers = alone_and_in_company(serve(batch_sizes="").until_ready())
    answers += alone_and_in_company(serve(batch_sizes="1,3,5").until_ready())
    assert len(set(answers)) == 1


def test_for_a_client_that_left_nothing_more_is_computed(
    serve: Callable[..., Server], photo: bytes, tmp_path: Path
) -> None:
    switch = tmp_path / "held"
    # The redrawing that likeness is judged by goes before the variants, alone. More lanes would hold a batch each.
    server = serve(code=HELD.format(switch=str(switch), fewest=4), batch_sizes="1,4", threads=2).until_ready()
    head = "POST /v1/variants?count=64 HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    head += f"Content-Length: {len(photo)}\r\n\r\n"
    drawn = 'lookalike_batch_images_sum{model="decoder"}'
    left = 'lookalike_http_requests_total{method="POST",route="/v1/variants",status="499"}'
    for number in range(4):
        switch.touch()
        with server.connect() as connection:
            connection.sendall(head.encode() + photo)
            server.until(lambda: server.metric('lookalike_queue_images{model="decoder"}') > 32, "many were queued")
        server.until(lambda number=number: server.metric(left) == number + 1, "it was seen to have left")
        switch.unlink()
    server.until(lambda: server.metric('lookalike_queue_images{model="decoder"}') == 0, "nothing was queued")
    assert server.variants(photo, count=1).status_code == 200
    assert server.metric(drawn) < 4 * 64 / 2, "most of what was asked for was given up before it was begun"


def test_it_stays_alive_and_attentive_under_load(serve: Callable[..., Server], photo: bytes) -> None:
    server = serve(fork=True).until_ready()

    async def load() -> float:
        """Median of the waits for a sign of life, as a share of what the load takes."""
        begun = time.perf_counter()
        async with httpx.AsyncClient(base_url=server.address, timeout=PATIENCE) as client:

            async def ask() -> int:
                return (await client.post("/v1/variants?count=12", files={"image": photo})).status_code

            tasks = [asyncio.create_task(ask()) for _ in range(8)]
            waits = []
            while not all(task.done() for task in tasks):
                start = time.perf_counter()
                assert (await client.get("/health/live")).status_code == 200
                waits.append(time.perf_counter() - start)
                await asyncio.sleep(0.02)
            assert [await task for task in tasks] == [200] * 8
            return sorted(waits)[len(waits) // 2] / (time.perf_counter() - begun)

    assert asyncio.run(load()) < 0.05


def test_beyond_the_limit_of_open_requests_it_is_503(serve: Callable[..., Server], photo: bytes) -> None:
    server = serve(fork=True, max_requests=1).until_ready()
    with server.connect() as connection:
        connection.sendall(
            b"POST /v1/variants HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9999\r\n\r\nabc"
        )
        server.until(lambda: server.ready() == 503, "its only place was taken")
        answer = server.variants(photo)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:lookalike:problem:overloaded")
        assert answer.headers["Retry-After"] == "1"
        assert server.status("/health/live") == 200
    server.until(lambda: server.variants(photo, count=1).status_code == 200, "the slot was free again")


def test_a_body_that_does_not_arrive_is_408(serve: Callable[..., Server]) -> None:
    server = serve(fork=True, deadline=0.5).until_ready()
    with server.connect() as connection:
        connection.sendall(
            b"POST /v1/variants HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9999\r\n\r\nabc"
        )
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"urn:lookalike:problem:request-timeout" in answer


def test_sigterm_finishes_what_is_in_flight_and_exits(
    serve: Callable[..., Server], photo: bytes, tmp_path: Path
) -> None:
    switch = tmp_path / "held"
    server = serve(code=HELD.format(switch=str(switch), fewest=1), deadline=PATIENCE, max_requests=4).until_ready()
    switch.touch()
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(server.variants, photo, count=8) for _ in range(4)]
        server.until(lambda: server.ready() == 503, "all four places were taken")
        server.process.send_signal(signal.SIGTERM)
        server.until(lambda: server.status("/health/live") == 0, "it took no more")
        switch.unlink()
        answers = [future.result() for future in asked]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [len(answer.json()["variants"]) for answer in answers] == [8] * 4
    assert server.process.wait(PATIENCE) in (0, -signal.SIGTERM)


def test_before_it_stops_it_says_so_and_goes_on_answering(serve: Callable[..., Server], photo: bytes) -> None:
    server = serve(drain_seconds=PATIENCE).until_ready()
    server.process.send_signal(signal.SIGTERM)
    server.until(lambda: server.status("/health/ready") == 503, "readiness turned false")
    assert server.status("/health/live") == 200
    assert server.variants(photo, count=1).status_code == 200
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) in (0, -signal.SIGTERM), "a second signal is not waited with"


def test_it_stops_by_itself_once_it_has_said_so(serve: Callable[..., Server]) -> None:
    server = serve(drain_seconds=1).until_ready()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE) in (0, -signal.SIGTERM)


def test_a_worker_that_is_killed_is_replaced(serve: Callable[..., Server], photo: bytes) -> None:
    server = serve(workers=2).until_ready()
    server.until(lambda: len(server.workers) == 2, "two workers ran")
    before = server.workers
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    server.until(lambda: len(server.workers) == 2 and victim not in server.workers, "the worker was replaced")
    server.until_ready()
    assert server.variants(photo, count=1).status_code == 200


def test_workers_end_with_the_process_that_began_them(serve: Callable[..., Server]) -> None:
    """Or they would hold the port, and be taken for the server that is started next."""
    server = serve(workers=2).until_ready()
    server.until(lambda: len(server.workers) == 2, "two workers ran")
    workers = [psutil.Process(worker) for worker in server.workers]
    server.process.kill()
    server.process.wait(PATIENCE)
    _, alive = psutil.wait_procs(workers, PATIENCE)
    assert not alive
