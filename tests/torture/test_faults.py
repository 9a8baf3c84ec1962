"""What goes wrong in operation: processes that die, networks that fail, disks that are full, clocks that jump, clients
that leave. Each harms nobody but those it must, and readiness tells the truth throughout."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from fastapi.testclient import TestClient

from app.core.service import Service
from app.keys import RateLimiter
from tests.crowd import Crowd
from tests.patience import PATIENCE
from tests.server import Server
from tests.torture.conftest import Record
from tests.torture.pictures import ORIGINALS

PHOTO = ORIGINALS["jpeg"]


class Named(Crowd):
    """Clients whose requests each have a name that the server's log repeats.

    Attributes:
        statuses: of the answers by name; 0 where there was none.
        rest: seconds between an answer and its client's next request.
    """

    def __init__(self, server: Server, clients: int = 6) -> None:
        super().__init__([self._ask] * clients)
        self.statuses: dict[str, int] = {}
        self.rest = 0.0
        self._server, self._numbers = server, itertools.count()

    def answered(self, status: int) -> int:
        return list(self.statuses.values()).count(status)

    def _ask(self) -> None:
        name = f"request-{next(self._numbers)}"
        try:
            answer = self._server.post("/v1/variants?count=2", PHOTO, **{"X-Request-ID": name})
            self.statuses[name] = answer.status_code if len(answer.json()["variants"]) == 2 else -1
            time.sleep(self.rest)
        except (httpx.TransportError, KeyError):
            self.statuses[name] = 0
            time.sleep(0.02)


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_loses_no_request_that_was_accepted(
    serve: Callable[..., Server], record: Record, workers: int
) -> None:
    server = serve(workers=workers).until_ready()
    with Named(server) as crowd:
        server.until(lambda: crowd.answered(200) > 10, "some were answered")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) in (0, -signal.SIGTERM)
    accepted = server.requests()
    named = {line["request_id"]: line["status"] for line in accepted if line["route"] == "/v1/variants"}
    assert len(named) > 10
    assert set(named.values()) == {200}
    lost = [name for name, status in named.items() if crowd.statuses.get(name) != status]
    assert not lost
    record(f"SIGTERM under load, {workers} process(es)", f"{len(named)} requests accepted", f"{len(lost)} lost")


def kill_one(server: Server, crowd: Crowd) -> None:
    """Kill one of two workers at work, and wait until another has taken its place."""
    server.until(lambda: len(server.workers) == 2, "two workers ran")
    before, answered = server.workers, crowd.answered(200)
    server.until(lambda: crowd.answered(200) > answered + 5, "some were answered")
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    # What it had is lost or not by now. They go on asking, but leave the cores to the one that takes its place.
    crowd.rest = 1.0
    server.until(lambda: len(server.workers - before) == 1 and victim not in server.workers, "it was replaced")
    (replacement,) = server.workers - before
    server.until(lambda: psutil.Process(replacement).num_threads() > 3, "the new one had begun")
    crowd.rest = 0.0


def test_sigkill_of_a_worker_is_healed_and_harms_its_own_requests_alone(
    serve: Callable[..., Server], amount: Callable[[int, int], int], record: Record
) -> None:
    server = serve(workers=2).until_ready()
    kills = amount(1, 10)
    with Named(server) as crowd:
        for _ in range(kills):
            kill_one(server, crowd)
    failed, answered = crowd.answered(0), crowd.answered(200)
    # The crowd has six requests open; those with the one that was killed are all that may fail.
    assert failed <= 6 * kills
    assert set(crowd.statuses.values()) <= {0, 200}
    server.until(lambda: server.ready() == 200, "it was ready")
    # Counters go on from the dead one's; the queue that died with it is not waited in.
    assert server.metric("lookalike_http_requests_total") >= answered
    server.until(lambda: server.metric("lookalike_queue_images") == 0, "no dead queue was counted")
    assert server.post("/v1/variants?count=1", PHOTO).status_code == 200
    what = f"SIGKILL of one worker of two, under load, {kills} times"
    record(what, f"{answered + failed} requests", f"{failed} lost, each with the worker that had it")


FAILING = """
import os
import sys
from pathlib import Path
import numpy as np
import app.runtime.sessions
from app.__main__ import main

trouble = Path({trouble!r})
genuine = app.runtime.sessions.Network.__call__


def broken(self, *arrays):
    what = trouble.read_text() if trouble.exists() else ""
    outputs = genuine(self, *arrays)
    if what == "throws" and self.path.stem.startswith("decoder"):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    if what == "nan":  # from the recogniser, wherever it runs: embeddings have 192 numbers
        return [np.full_like(output, np.nan) if output.shape[-1] == 192 else output for output in outputs]
    if what == "detector" and self.path.stem.startswith("face_detector"):
        raise RuntimeError("the detector fails")
    return outputs


app.runtime.sessions.Network.__call__ = broken
sys.exit(main(["serve"]))
"""


def test_networks_that_fail_are_told_by_readiness_and_heal(
    serve: Callable[..., Server], tmp_path: Path, record: Record
) -> None:
    switch = tmp_path / "trouble"
    server = serve(code=FAILING.format(trouble=str(switch))).until_ready()
    for trouble in ("throws", "nan", "detector"):
        assert server.post("/v1/variants?count=2", PHOTO).status_code == 200
        switch.write_text(trouble)
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda _: server.post("/v1/variants?count=2", PHOTO), range(4)))
        assert [answer.status_code for answer in answers] == [500] * 4
        assert {answer.json()["type"] for answer in answers} == {"urn:lookalike:problem:internal"}
        assert not any("CUDA" in answer.text for answer in answers)
        server.until(lambda: server.ready() == 503, "readiness told")
        assert server.status("/health/live") == 200
        switch.unlink()
        server.until(lambda: server.ready() == 200, "it had healed")
        came = "4 x 500 without details, unready until it had healed"
        record(f"networks that fail: {trouble}", "4 requests", came)


def test_a_picture_that_breaks_a_network_takes_nobody_along(
    serve: Callable[..., Server], tmp_path: Path, record: Record
) -> None:
    """One request's rows make the recogniser return NaN; those in its batches, and readiness, are unharmed."""
    code = FAILING.format(trouble=str(tmp_path / "none")).replace(
        "    return outputs\n",
        '    if self.path.stem == "face_recognizer":\n'
        "        poisoned = (arrays[0] == 129).all(axis=(1, 2, 3))\n"
        "        outputs = [np.where(poisoned[:, None], np.nan, outputs[0]).astype(np.float32)]\n"
        "    return outputs\n",
    )
    server = serve(code=code).until_ready()
    grey = np.full((2, 128, 128, 3), 129, np.uint8).tolist()
    poison = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [2, 128, 128, 3], "data": grey}]}

    def ask(number: int) -> int:
        if number % 4:
            return server.post("/v1/variants?count=4", PHOTO).status_code
        body = json.dumps(poison).encode()
        return server.post("/v2/models/recognizer/infer", body, **{"Content-Type": "application/json"}).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(ask, range(12)))
    assert statuses[::4] == [500] * 3
    assert all(status == 200 for number, status in enumerate(statuses) if number % 4)
    server.until(lambda: server.ready() == 200, "it was ready: the request was to blame")
    record("requests that make the recogniser return NaN, among others", "3 among 12", "those 3 failed, the others not")


def test_a_full_disk_does_not_stop_the_service(serve: Callable[..., Server], record: Record) -> None:
    """It writes nothing but its log, and that may fail."""
    server = serve(fork=True, stderr=Path("/dev/full")).until_ready()
    for _ in range(5):
        assert server.post("/v1/variants?count=1", PHOTO).status_code == 200
    assert server.ready() == 200
    record("a disk that is full: the log cannot be written", "5 requests", "0 lost")


def test_where_metrics_cannot_be_kept_a_worker_says_so_and_is_not_killed_by_it(tmp_path: Path) -> None:
    """Room for them is taken at the start: to a page that has no room on disk a process could only die writing."""
    code = "from app.telemetry.metrics import Metrics; Metrics().request('/', 'GET', 200, 1)"
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000)); {code}"
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", limited], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == 1
    assert "OSError" in run.stderr
    for file in tmp_path.iterdir():
        file.unlink()
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == 0, run.stderr
    for file in tmp_path.glob("*.db"):
        assert file.stat().st_blocks * 512 >= file.stat().st_size, "no page of it is a hole"


def test_augment_stops_at_a_full_disk_with_a_sentence_and_goes_on_later(tmp_path: Path, record: Record) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(6):
        (source / f"{number}.jpg").write_bytes(PHOTO)
    arguments = ["augment", str(source), str(out), "--count=8"]
    command = f"from app.__main__ import main; import sys; sys.exit(main({arguments!r}))"
    # A file may not grow beyond what the manifest needs for a few photographs.
    full = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); {command}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOKALIKE_")}
    environment |= {"LOOKALIKE_DEVICE": "cpu", "LOOKALIKE_BATCH_SIZES": "1,4"}
    run = subprocess.run(
        [sys.executable, "-c", full], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == 2, run.stderr
    assert "goes on from here" in run.stderr
    assert "Traceback" not in run.stderr
    run = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert run.returncode == 0, run.stderr
    lines = (out / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 48
    record("`augment` with a disk that fills up, and again with room", "6 photographs", "0 images lost or twice")


def test_a_clock_that_jumps(
    monkeypatch: pytest.MonkeyPatch, new_client: Callable[..., TestClient], record: Record
) -> None:
    client = new_client(rate_limit="64/minute")
    genuine = time.time
    jumps = [-86400 * 365, -3700, 3700, 86400 * 365]
    for jump in jumps:
        monkeypatch.setattr(time, "time", lambda jump=jump: genuine() + jump)
        answer = client.post("/v1/variants?count=8", files={"image": PHOTO})
        assert answer.status_code == 200
        assert 1 <= int(answer.headers["RateLimit-Reset"]) <= 61
        assert client.get("/health/ready").status_code == 200
    record(
        "a clock that jumps by an hour and by a year, back and forth", f"{len(jumps)} jumps", "0 lost, nobody shut out"
    )


@pytest.mark.parametrize("jump", [-86400, 86400])
def test_nobody_is_shut_out_because_the_clock_jumped(monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    genuine = time.time

    async def charge() -> None:
        limiter = RateLimiter("64/minute")
        assert (await limiter.charge("a", 64)).granted
        assert not (await limiter.charge("a", 1)).granted
        monkeypatch.setattr(time, "time", lambda: genuine() + jump)
        allowance = await limiter.charge("a", 64)
        assert allowance.granted
        assert not (await limiter.charge("a", 1)).granted
        assert (await limiter.charge("a", 1)).reset <= 61

    asyncio.run(charge())


def leaving(server: Server, head: str, body: bytes, wait: Callable[[socket.socket], None]) -> None:
    with server.connect() as connection:
        connection.sendall(f"POST {head} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n".encode() + body)
        wait(connection)
        # Reset, as a client that dies does: no orderly end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_clients_that_leave_harm_nobody(
    serve: Callable[..., Server], amount: Callable[[int, int], int], record: Record
) -> None:
    # Room for all that is asked for, however late it is noticed that nobody waits for it.
    server = serve(fork=True, queue_images=4096, max_requests=4096).until_ready()
    length = b"Content-Length: %d\r\n\r\n" % len(PHOTO)
    stream = "/v1/variants?count=64"

    def in_the_middle(number: int) -> None:
        match number % 3:
            case 0:
                leaving(server, "/v1/variants", length + PHOTO[:1000], lambda _: time.sleep(0.01))
            case 1:
                leaving(server, stream, length + PHOTO, lambda _: time.sleep(0.05))
            case _:
                ndjson = b"Accept: application/x-ndjson\r\n" + length + PHOTO
                leaving(server, stream, ndjson, lambda connection: connection.recv(2000) and None)

    count = amount(12, 600)
    with ThreadPoolExecutor(4) as leavers, Named(server, 2) as crowd:
        list(leavers.map(in_the_middle, range(count)))
        assert server.ready() == 200
    assert set(crowd.statuses.values()) == {200}
    server.until(lambda: server.metric("lookalike_queue_images") == 0, "nothing was queued")
    server.until(lambda: server.ready() == 200, "it was ready")
    text = httpx.get(f"{server.address}/metrics", timeout=PATIENCE).text
    assert 'status="500"' not in text
    record("clients that leave during upload, computing or a stream", count, f"{len(crowd.statuses)} others, 0 lost")


def test_readiness_tells_that_every_place_is_taken(serve: Callable[..., Server]) -> None:
    server = serve(fork=True, max_requests=3).until_ready()
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(server.connect())
            head = b"POST /v1/variants HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9\r\n\r\n"
            connection.sendall(head + b"a")
        server.until(lambda: server.ready() == 503, "it was full")
        assert server.post("/v1/variants", PHOTO).status_code == 503
    server.until(lambda: server.ready() == 200, "there was room again")


@pytest.fixture
def metrics_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return tmp_path


def test_gauges_of_the_dead_are_not_counted(metrics_directory: Path) -> None:
    code = "from app.telemetry.metrics import Metrics; m = Metrics(); "
    code += "m.queue('decoder', 7); m.request('/', 'GET', 200, 1); {}"
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)}
    subprocess.run([sys.executable, "-c", code.format("")], env=environment, check=True, timeout=PATIENCE)
    shown = subprocess.run(
        [sys.executable, "-c", code.format("m.queue('decoder', 2); print(m.text().decode())")],
        env=environment, check=True, timeout=PATIENCE, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert 'lookalike_queue_images{model="decoder"} 2.0' in shown
    assert 'lookalike_http_requests_total{method="GET",route="/",status="200"} 2.0' in shown


def test_a_self_test_is_not_begun_by_bad_requests(monkeypatch: pytest.MonkeyPatch, client: TestClient) -> None:
    begun: list[Service] = []
    monkeypatch.setattr(Service, "doubt", begun.append)
    assert client.post("/v1/variants", files={"image": b"x"}).status_code == 400
    assert client.post("/v1/variants?count=0", files={"image": PHOTO}).status_code == 422
    assert not begun
