"""How the cost grows: with variants a request, clients, the size of the photograph, what waits, cores and replicas."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from PIL import Image

from benchmarks import load, servers
from benchmarks.compare import say
from benchmarks.photo import portrait

VARIANTS = (1, 2, 4, 8, 16, 32, 64)
CLIENTS = (1, 4, 16, 64, 256)
MEGAPIXELS = (0.1, 0.3, 1, 4, 12, 40)
REPLICAS = (1, 2, 4)
"""On Ray; more than there are cores would wait for one."""
PHOTOGRAPHS, EACH = 96, 4
"""Of one run of `augment`, and look-alikes of each."""
LONGEST = 75
"""Seconds after which a run of `augment` has failed."""
LARGEST = 256
"""Pictures of the largest load, so that a slow machine is done in time."""

Rows = list[dict[str, float]]


def grown(seconds: float, replicas: Sequence[int] = REPLICAS) -> dict[str, Rows]:
    """Measure everything; `seconds` is the least time of a point."""
    found: dict[str, Rows] = {"variants": [], "clients": [], "megapixels": [], "augment": []}
    with servers.service(max_bytes=2**26) as server:
        load.run(server.port, server.message(portrait(), 8), 2, 8, 0)
        for images in VARIANTS:
            clients = max(1, min(8, LARGEST // images))
            found["variants"].append(
                {"variants": images, "clients": clients} | _point(server, clients, images, seconds)
            )
            say(f"{images} variants a request: {found['variants'][-1]['pictures_per_second']:.1f}/s")
        for megapixels in MEGAPIXELS:
            point = _point(server, 1, 1, seconds, photograph(megapixels))
            found["megapixels"].append({"megapixels": megapixels} | point)
            say(f"{megapixels} megapixels: {point['p50_ms']:.0f} ms")
    with servers.service() as server:  # anew: what is told of memory is what a queue needs
        load.run(server.port, server.message(portrait(), 8), 2, 8, 0)
        for clients in CLIENTS:
            with _peak(server) as peak:
                point = _point(server, clients, 1, seconds)
            found["clients"].append({"clients": clients, "mib": round(max(peak))} | point)
            say(f"{clients} clients: {point['pictures_per_second']:.1f}/s, {max(peak):.0f} MiB")
    found["augment"] = _augmented(replicas)
    return found


def _point(
    server: servers.Server, clients: int, images: int, seconds: float, photo: bytes | None = None
) -> dict[str, float]:
    message = server.message(photo or portrait(), images)
    load.run(server.port, message, 1, images, 0)
    before, start = server.cpu_seconds(), time.perf_counter()
    run = load.run(server.port, message, clients, images, seconds)
    used = server.cpu_seconds() - before
    return {
        "pictures_per_second": round(run.images_per_second, 2),
        "p50_ms": round(run.milliseconds[0], 1),
        "p99_ms": round(run.milliseconds[2], 1),
        "cpu_ms_per_request": round(used / run.requests * 1000, 1),
        "utilisation": round(used / (time.perf_counter() - start) / (os.cpu_count() or 1), 2),
    }


@contextmanager
def _peak(server: servers.Server) -> Iterator[list[float]]:
    """MiB of the server, looked at ten times a second."""
    seen, over = [server.memory()], threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            seen.append(server.memory())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@cache
def photograph(megapixels: float) -> bytes:
    """The portrait at a size, as a camera writes it: 4:3, JPEG at quality 90."""
    height = round(math.sqrt(megapixels * 1e6 * 3 / 4))
    side = Image.open(io.BytesIO(portrait())).convert("RGB").resize((height, height), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (round(height * 4 / 3), height), (90, 90, 90))
    canvas.paste(side, ((canvas.width - height) // 2, 0))
    output = io.BytesIO()
    canvas.save(output, "JPEG", quality=90)
    return output.getvalue()


def _augmented(replicas: Sequence[int]) -> Rows:
    """Pictures a second of `augment` on one core, on two and so on, and on Ray."""
    cores = os.cpu_count() or 1
    runs = [("local", count, ["taskset", "-c", f"0-{count - 1}"], []) for count in sorted({1, min(2, cores), cores})]
    runs += [
        ("ray", count, [], ["--engine", "ray", "--ray-replicas", str(count)]) for count in replicas if count <= cores
    ]
    rows: Rows = []
    with TemporaryDirectory() as folder:
        source = Path(folder) / "photographs"
        source.mkdir()
        for index in range(PHOTOGRAPHS):
            (source / f"{index:03}.jpg").write_bytes(portrait())
        for engine, count, before, options in runs:
            target, key = Path(folder) / f"{engine}-{count}", "cores" if engine == "local" else "replicas"
            try:
                row = _run_of_augment([*before, sys.executable, "-m", "app", "augment"], source, target, options)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                say(f"augment, {engine}, {count} {key}, is left out: {error}")
                continue
            rows.append({key: count} | row)
            say(f"augment, {engine}, {count} {key}: {row['pictures_per_second']:.1f}/s")
    return rows


def _run_of_augment(command: list[str], source: Path, target: Path, options: list[str]) -> dict[str, float]:
    """One run; the rate is that of the last three quarters of the pictures, so that the start does not count.

    Raises:
        RuntimeError: it did not make every picture.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LOOKALIKE_")}
    command = [*command, str(source), str(target), "--count", str(EACH), "--json", *options]
    process = subprocess.Popen(
        command, env=environment | {"LOOKALIKE_DEVICE": "cpu"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    busy = psutil.cpu_times()
    start = time.perf_counter()
    try:
        _, errors = process.communicate(timeout=LONGEST)
    finally:
        process.kill()
    elapsed, after = time.perf_counter() - start, psutil.cpu_times()
    # Folders are called after the photographs.
    made = sorted(path.stat().st_mtime for path in target.rglob("*.jpg") if path.is_file())
    if process.returncode or len(made) != PHOTOGRAPHS * EACH:
        raise RuntimeError(f"augment ended with status {process.returncode}: {errors[-300:]!r}")
    first = len(made) // 4
    idle = after.idle + after.iowait - busy.idle - busy.iowait
    return {
        "pictures_per_second": round((len(made) - first - 1) / (made[-1] - made[first]), 2),
        "seconds": round(elapsed, 1),
        "utilisation": round(1 - idle / elapsed / (os.cpu_count() or 1), 2),
    }
