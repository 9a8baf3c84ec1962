"""`python -m benchmarks.gpu`: what an NVIDIA GPU makes of the networks and of the service.

It works for at most `--minutes`, at steps that are not done yet, and writes each into benchmarks/results/gpu.json as
soon as it is there: call it again until it says that nothing is left. A step is a process of its own, so that one that
crashes or hangs costs nothing but itself. With `--device cpu` it is a dry run: every way through the code that needs no
GPU, on little, and no figure of it says anything of a GPU.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks import gpu_decoder, gpu_served
from benchmarks.compare import machine, say
from benchmarks.gpu_decoder import PRECISIONS, WAYS

RESULTS = Path("benchmarks/results")
BATCHES, CLIENTS, FORMS = (16, 64, 256, 1024), (1, 8, 64), ("zip", "json", "render zip", "tensors")
MORE = 3
"""Exit status where steps are left."""


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        batches: rows of the decoder alone.
        clients: connections.
        images: pictures a request.
        seconds: least time of one measurement.
        repeats: of each.
    """

    batches: tuple[int, ...]
    clients: tuple[int, ...]
    images: int
    seconds: float
    repeats: int


SCALES = {
    "cuda": Scale(BATCHES, CLIENTS, gpu_served.IMAGES, 2.0, 3),
    "cpu": Scale((2,), (1, 2), 2, 0.0, 1),
}


@dataclass(frozen=True)
class Step:
    """One piece of the work.

    Attributes:
        most: seconds that it may take.
        work: does it.
        lacking: why it cannot be done here; empty where it may.
    """

    most: float
    work: Callable[[], dict[str, Any]]
    lacking: str = ""


def steps(device: str) -> dict[str, Step]:
    """All steps by name, in their order; the first are cheap and say whether the rest can be hoped for."""
    scale = SCALES[device]
    found = {
        "what the image installs": Step(420, lambda: gpu_served.installed(device)),
        "doctor and readiness": Step(180, lambda: gpu_served.seen(device)),
    }
    for precision in PRECISIONS:
        for name in WAYS:
            # A step of its own for each batch: TensorRT builds an engine for each, in minutes.
            for batch in scale.batches:
                found[f"decoder, {precision}, {name}, batch {batch}"] = _decoder(device, precision, name, batch)
        why = "float16 is for CUDA" if (device, precision) == ("cpu", "float16") else ""
        found[f"over HTTP, {precision}"] = Step(
            240,
            partial(
                gpu_served.over_http,
                device,
                precision,
                FORMS,
                scale.clients,
                scale.images,
                scale.seconds,
                scale.repeats,
            ),
            why,
        )
    return found


def _decoder(device: str, precision: str, name: str, batch: int) -> Step:
    """The decoder at one batch size, alone and with the recogniser that scores its pictures."""
    way, scale = WAYS[name], SCALES[device]

    def work() -> dict[str, Any]:
        measure = partial(gpu_decoder.measured, way, precision, batch, device, scale.seconds, scale.repeats)
        return {"alone": measure(scored=False), "with the recogniser": measure(scored=True)}

    return Step(way.most, work, gpu_decoder.lacking(way, precision, device))


def main(arguments: list[str] | None = None) -> int:
    """Do what fits into the time; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", choices=list(SCALES), default="cuda", help="`cpu` is a dry run (cuda)")
    parser.add_argument("--minutes", type=float, default=9, help="begin no step that might end later (9)")
    parser.add_argument("--only", default="", help="steps whose names have this in them")
    parser.add_argument("--anew", action="store_true", help="forget what was measured before")
    parser.add_argument("--out", type=Path, help="where to write (benchmarks/results/gpu.json, or gpu-dry-run.json)")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.step:
        print(json.dumps(steps(chosen.device)[chosen.step].work()))
        return 0
    path = chosen.out or RESULTS / f"gpu{'' if chosen.device == 'cuda' else '-dry-run'}.json"
    found = _begun(path, chosen.device, chosen.anew)
    until, every = time.monotonic() + 60 * chosen.minutes, steps(chosen.device)
    left = [name for name in every if chosen.only in name and name not in found["steps"]]
    for name in list(left):
        step = every[name]
        if step.lacking:
            found["steps"][name] = {"not_run": step.lacking}
        elif time.monotonic() + step.most > until:
            continue
        else:
            say(name)
            found["steps"][name] = done(name, step.most, chosen.device)
        left.remove(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(told(found, left))
    return MORE if left else 0


def _begun(path: Path, device: str, anew: bool) -> dict[str, Any]:
    """What was measured before on this machine, or the head of what will be."""
    here = machine() | {"gpu": _gpu()}
    same = ("gpu", "cpu", "onnxruntime", "weights")
    if path.exists() and not anew:
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if all(before["machine"][key] == here[key] for key in same):
            return before
        say(f"{path} is of another machine or other weights: it is begun anew")
    return {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks.gpu --device {device}",
        "machine": here,
        "device": device,
        "steps": {},
    }


def _gpu() -> str:
    """Name, driver and memory of the first GPU; empty where there is none."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.partition("\n")[0]


def done(name: str, most: float, device: str) -> dict[str, Any]:
    """One step in a process of its own, for so many seconds at most; why it failed, where it does."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", device, "--step", name]
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        output, errors = process.communicate(timeout=most)
    except subprocess.TimeoutExpired:
        for member in [*psutil.Process(process.pid).children(recursive=True), process]:  # the service that it started
            with suppress(psutil.NoSuchProcess):
                member.kill()
        process.communicate()
        return {"failed": f"it was not done after {most:g} s"}
    seconds = round(time.monotonic() - begun, 1)
    if process.returncode:
        return {"failed": errors.strip().rpartition("\n")[2][:500] or f"status {process.returncode}"}
    return {"seconds": seconds} | json.loads(output.strip().rpartition("\n")[2])


def told(found: dict[str, Any], left: list[str]) -> str:
    """What was found, for people: first what no GPU has run."""
    steps = found["steps"]
    lines = [f"{found['machine']['gpu'] or 'no GPU'}; {found['machine']['cpu']}, {found['machine']['cores']} cores"]
    if found["device"] == "cpu":
        lines += ["A DRY RUN ON THE CPU: no step of it has been run on a GPU, and no figure here says anything of one."]
    lines += [f"not run: {name}: {step['not_run']}" for name, step in steps.items() if "not_run" in step]
    lines += [f"FAILED: {name}: {step['failed']}" for name, step in steps.items() if "failed" in step]
    for name, step in steps.items():
        for key, row in step.items():
            if isinstance(row, dict) and "pictures_per_second" in row:
                lines.append(f"{name}, {key}: {max(row['pictures_per_second']):.0f} pictures a second")
            elif name.startswith("over HTTP") and isinstance(row, dict):
                rates = {count: max(cell["pictures_per_second"]) for count, cell in row.items()}
                lines.append(f"{name}, {key}: {', '.join(f'{rate:.0f} at {n}' for n, rate in rates.items())} clients")
    lines += [f"left for the next call: {len(left)} steps"] if left else ["nothing is left"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
