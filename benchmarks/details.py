"""`python -m benchmarks.details`: where the service's time goes, layer by layer, as one table on the standard output.

Rounds are interleaved: each meets every system once, so that a machine that is busy for a while slows all of them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import sys
import urllib.request
from collections import defaultdict
from pathlib import Path

from app.core.generate import Generator
from app.core.models import CPU_BATCHES
from app.settings import Settings
from benchmarks import inside, lag, load, origin, servers
from benchmarks.compare import machine
from benchmarks.peers.pipeline import ShippedFiles
from benchmarks.photo import portrait

CELLS = [(clients, images) for clients in (1, 8, 64) for images in (1, 8, 64)]
Results = dict[str, list[float]]


def main() -> int:
    """Measure, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.details", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4, help="least time of one measurement")
    parser.add_argument("--most", type=int, default=4096, help="leave out loads of more images at once")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.most = 64
    rounds, seconds = (1, 1.0) if chosen.quick else (chosen.rounds, chosen.seconds)
    results: Results = defaultdict(list)
    for index in range(rounds):
        _say(f"round {index + 1} of {rounds}")
        for layer, milliseconds in origin.costs().items():
            results[f"{layer}, a picture|CPU ms"].append(milliseconds)
        _inside(results, seconds)
        _service(results, seconds, chosen.most if index == 0 else min(chosen.most, 512))
        _lag(results, seconds)
        if not chosen.quick:
            _growth(results, seconds)
        _write(results, rounds)
    print(table(results, _machine(), rounds))
    return 0


def _write(results: Results, rounds: int) -> None:
    """Write what there is so far, so that a run that is broken off is not lost."""
    report = {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "rounds": rounds,
        "results": results,
    }
    folder = Path("benchmarks/results")
    folder.mkdir(exist_ok=True)
    (folder / "details.json").write_text(json.dumps(report, indent=1) + "\n")


def _inside(results: Results, seconds: float) -> None:
    models = Settings().models
    cores = os.cpu_count() or 1
    alone = inside.served(1)
    networks: dict[str, tuple[inside.Decode, int]] = {
        "raw shipped": (ShippedFiles(models, cores), 1),
        "raw float32": (Generator(models, "cpu", 1), cores),
        "raw rewritten, threads share a batch,": (inside.served(), 1),
        "raw rewritten": (alone, cores),
    }
    for size in (*CPU_BATCHES, 8):
        for name, (network, loops) in networks.items():
            results[f"{name} batch {size}|images/s"].append(inside.raw(network, size, seconds / 2, loops))
    results["networks of requests for 8|images/s"].append(inside.raw_requests(alone, portrait(), 8, seconds / 2, cores))
    results["in process 8x8|images/s"].append(inside.service_in_process(portrait(), 8, 8, seconds))


def _service(results: Results, seconds: float, most: int) -> None:
    with servers.service() as server:
        results["service|ready s"].append(server.ready)
        results["service until ready|CPU s"].append(server.cpu_seconds())
        for clients, images in CELLS:
            if clients * images <= most:
                _cell(results, server, "service", clients, images, seconds, stages=(clients, images) == (8, 8))
        results["service|MiB"].append(server.memory())


def _lag(results: Results, seconds: float) -> None:
    message = load.request("/v1/variants?count=16&seed=1", "image/jpeg", portrait())
    for place, value in lag.measure(lambda port: load.run(port, message, 16, 16, seconds)).items():
        results[f"event loop {place}|lag ms"].append(value)


def _growth(results: Results, seconds: float) -> None:
    for label, opened in (
        ("service on 1 core", servers.service(cores="0", threads=1)),
        ("service, 2 processes of 1 thread", servers.service(workers=2, threads=1)),
    ):
        with opened as server:
            _cell(results, server, label, 8, 8, seconds)


def _cell(
    results: Results,
    server: servers.Server,
    label: str,
    clients: int,
    images: int,
    seconds: float,
    *,
    stages: bool = False,
) -> None:
    message = server.message(portrait(), images)
    load.run(server.port, message, 1, images, 0)
    cpu, before = server.cpu_seconds(), _stages(server) if stages else {}
    run = load.run(server.port, message, clients, images, seconds)
    name = f"{label} {clients}x{images}"
    results[f"{name}|images/s"].append(run.images_per_second)
    for percentile, value in zip(("p50", "p95", "p99"), run.milliseconds, strict=True):
        results[f"{name}|{percentile} ms"].append(value)
    results[f"{name}|CPU s per 1000"].append((server.cpu_seconds() - cpu) / (run.requests * images) * 1000)
    for stage, total in (_stages(server) if stages else {}).items():
        results[f"stage {stage}|ms per request"].append((total - before.get(stage, 0)) / run.requests * 1000)
    _say(f"{name}: {run.images_per_second:.1f} images/s")


def _stages(server: servers.Server) -> dict[str, float]:
    """Seconds in each stage so far, as the service's own metrics have them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r'stage_seconds_sum\{stage="(\w+)"\} (\S+)', text)}


def table(results: Results, machine: str, rounds: int) -> str:
    """Medians over the rounds as Markdown, with the share of the raw limit."""
    medians = {name: statistics.median(values) for name, values in results.items()}
    limit = max(value for name, value in medians.items() if name.startswith("raw rewritten"))
    lines = [f"{machine}; medians of {rounds} interleaved rounds (least to most)", ""]
    lines += ["| what | images/s | of the limit | p50 ms | p95 | p99 | CPU-s / 1000 |", "|---|---|---|---|---|---|---|"]
    for name, value in medians.items():
        label, _, unit = name.partition("|")
        if unit == "images/s":
            spread = f" ({min(results[name]):.1f} to {max(results[name]):.1f})"
            rest = [medians.get(f"{label}|{key}") for key in ("p50 ms", "p95 ms", "p99 ms", "CPU s per 1000")]
            cells = " | ".join("-" if entry is None else f"{entry:.0f}" for entry in rest)
            lines.append(f"| {label} | {value:.1f}{spread} | {value / limit:.2f} | {cells} |")
    lines += ["", "| what | median |", "|---|---|"]
    for name, value in medians.items():
        label, _, unit = name.partition("|")
        if unit in ("ready s", "CPU s", "MiB", "ms per request", "lag ms"):
            lines.append(f"| {label}, {unit} | {value:.1f} |")
        elif unit == "CPU ms":
            lines.append(f"| {label}, {unit} | {value:.3f} |")
    return "\n".join(lines)


def _machine() -> str:
    there = machine()
    return f"{there['cpu']}, {there['cores']} cores, Python {there['python']}"


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
