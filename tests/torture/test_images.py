"""Damaged, lying and hostile pictures: each is answered as documented, and none costs more than the limits allow."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.patience import PATIENCE
from tests.server import Server
from tests.torture.conftest import LONG, Record
from tests.torture.pictures import ORIGINALS, mutated, png_bomb, scan_bomb

SHORT = 150
"""Inputs that the fuzzer makes in a short run."""

SIDE = 8000 if LONG else 2500
"""Of the largest square that may be sent as a bomb; one at the default limit costs seconds of computing each time."""

DOCUMENTED = {
    400: "not-an-image bad-request",
    413: "too-many-pixels too-many-bytes",
    422: "no-face face-too-small head-turned unlike-a-face",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One that gives up on no picture because the machine is busy."""
    server = Server(fork=True, deadline=PATIENCE)
    yield server.until_ready()
    server.stop()


@pytest.fixture(scope="module")
def bounded() -> Iterator[Server]:
    """One that takes squares of `SIDE` and no larger."""
    server = Server(fork=True, deadline=PATIENCE, max_pixels=SIDE**2)
    yield server.until_ready()
    server.stop()


def judged(answer: httpx.Response) -> int:
    """The status of an answer that is one of the documented ones."""
    if answer.status_code == 200:
        assert answer.json()["faces"]
    else:
        assert answer.status_code in DOCUMENTED, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert problem["type"].rpartition(":")[2] in DOCUMENTED[answer.status_code].split()
        assert "Traceback" not in answer.text
    return answer.status_code


def test_mutated_pictures(server: Server, amount: Callable[[int, int], int], record: Record) -> None:
    count = amount(120, 20_000)
    start = server.resident
    with (
        httpx.Client(base_url=server.address, timeout=PATIENCE) as client,
        ThreadPoolExecutor(4) as threads,
    ):

        def post(number: int) -> int:
            what, picture = mutated(number)
            answer = client.post("/v1/identities", content=picture, headers={"Content-Type": "image/jpeg"})
            try:
                return judged(answer)
            except AssertionError as error:
                raise AssertionError(f"picture {number}: {what}") from error

        statuses = Counter(threads.map(post, range(count)))
    assert statuses.total() == count
    assert statuses[200] > count / 50, "some must be good, or nothing was tried"
    assert statuses[400] > count / 5
    # Two image threads, each with a picture of 64 million pixels in up to 16 bytes a pixel.
    assert server.peak < start + 2 * 64 * 16 + 300
    assert server.ready() == 200
    shares = ", ".join(f"{number:,} x {status}" for status, number in sorted(statuses.items()))
    record("mutated pictures posted", f"{count:,}", f"{shares}; 0 others; peak memory {server.peak:.0f} MB")


@pytest.mark.parametrize(
    ("picture", "status"),
    [
        (lambda: scan_bomb(SIDE - 50, 10_000), 400),
        (lambda: png_bomb(SIDE - 50, kind=6), 422),
        (lambda: png_bomb(SIDE + 50), 413),
    ],
    ids=["scans", "pixels", "too many pixels"],
)
def test_bombs_leave_the_others_unharmed(bounded: Server, picture: Callable[[], bytes], status: int) -> None:
    file = picture()
    with ThreadPoolExecutor(2) as threads:
        bomb = threads.submit(bounded.post, "/v1/identities", file)
        assert bounded.post("/v1/identities", ORIGINALS["jpeg"]).status_code == 200
        assert bounded.ready() == 200
        assert bomb.result().status_code == status


def test_the_fuzz_target_finds_nothing(tmp_path: Path, amount: Callable[[int, int], int], record: Record) -> None:
    """Guided by coverage, for a bounded time; see fuzz_images.py."""
    pytest.importorskip("atheris", reason="there is no atheris for this Python or system")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, picture in ORIGINALS.items():
        (corpus / name.replace(" ", "-").replace(":", "")).write_bytes(picture)
    # A short run ends after so many inputs, not after so many seconds: a busy machine tries no fewer.
    bound = f"-runs={SHORT}" if not LONG else "-max_total_time=300"
    target = str(Path(__file__).with_name("fuzz_images.py"))
    limits = [bound, f"-timeout={PATIENCE if not LONG else 20}", "-rss_limit_mb=2500", "-max_len=200000", "-seed=1"]
    # A process begins with the peak of memory that it was forked from; a shell between them has next to none.
    fresh = ["sh", "-c", '"$@"; exit $?', "sh"]
    start = time.monotonic()
    run = subprocess.run(
        [*fresh, sys.executable, target, *limits, f"-artifact_prefix={tmp_path}/", str(corpus)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        timeout=300 + PATIENCE,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    done = [line for line in run.stderr.splitlines() if line.startswith("Done ")]
    assert done, run.stderr[-4000:]
    runs = int(done[-1].split()[1])
    assert runs >= amount(SHORT, 10_000)
    record("atheris on the image path", f"{runs:,} inputs in {time.monotonic() - start:.0f} s", "0 crashes or hangs")
