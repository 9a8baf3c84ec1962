"""The service against the raw runtime and against other servers, in rounds that take turns.

Every server is started once and held still (SIGSTOP) while another is measured, so that each round meets all of them
within the same minutes and none takes anything from another.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from app.runtime.manifest import parse_manifest
from app.settings import Settings
from benchmarks import inside, load, servers
from benchmarks.peers.pipeline import ShippedFiles
from benchmarks.photo import portrait

IMAGES = 8
"""Pictures a request: as many as the service makes where nothing else is asked for."""
CLIENTS = (1, 8, 64)
BESIDE = 8
"""Clients at which the graphs as exported are measured too, and what latency, CPU time and memory are told at."""
SERVICE = "lookalike"
TRIES = 4
FAILURES = (RuntimeError, OSError, EOFError)
"""How a server fails: it does not start, refuses, or goes away."""
NOT_HAD = {"Triton": "its server is not in the package registries, only its clients are; it comes as a container image"}


@dataclass
class Cell:
    """What some clients got from one system, round by round.

    Attributes:
        rates: pictures a second.
        cpu: CPU-seconds of the server's processes for a thousand pictures.
        times: milliseconds to each answer, of all rounds.
    """

    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """It as data."""
        told: dict[str, Any] = {"pictures_per_second": [round(rate, 2) for rate in self.rates]}
        if self.cpu:
            told["cpu_seconds_per_1000"] = [round(value, 2) for value in self.cpu]
        if self.times:
            p50, p99 = np.percentile(self.times, [50, 99])
            told |= {"p50_ms": round(float(p50), 1), "p99_ms": round(float(p99), 1), "answers": len(self.times)}
        return told


Systems = dict[tuple[str, str], dict[str, Any]]
"""By name and graphs (`same`, `exported`): seconds until ready, MiB, cells by clients."""


def compare(repeats: int, seconds: float, peers: Sequence[str], clients: Sequence[int], exported: bool) -> Systems:
    """Measure; `seconds` is the least time of a cell, which lasts until every client has its answer."""
    systems = _taking_turns([SERVICE, "raw", *peers], "same", repeats, seconds, clients)
    if exported:
        systems |= _taking_turns(["raw", *peers], "exported", repeats, seconds, [BESIDE])
    return systems


def _taking_turns(names: Sequence[str], graphs: str, repeats: int, seconds: float, clients: Sequence[int]) -> Systems:
    raw = _raw(graphs)
    systems: Systems = {(name, graphs): {"cells": defaultdict(Cell)} for name in names}
    with ExitStack() as stack:
        running: dict[tuple[str, str], servers.Server] = {}
        for key in [key for key in systems if key[0] != "raw"]:
            say(f"starting {key[0]} ({graphs} graphs)")
            try:
                server = running[key] = stack.enter_context(_opened(*key))
                load.run(server.port, server.message(portrait(), IMAGES), 2, IMAGES, 0)  # each process once
            except FAILURES as error:
                _given_up(systems, key, error)
                continue
            systems[key]["ready_s"] = round(server.ready, 2)
            server.held(still=True)
        for index in range(repeats):
            for count in clients:
                for key in list(systems):
                    cell = systems[key]["cells"][count]
                    try:
                        if key[0] == "raw":
                            cell.rates.append(raw(count, seconds))
                        else:
                            _patiently(running[key], count, seconds, cell)
                    except FAILURES as error:
                        _given_up(systems, key, error)
                        continue
                    say(f"round {index + 1} of {repeats}, {count} clients, {key[0]} ({graphs}): {cell.rates[-1]:.1f}/s")
        for key in [key for key in running if key in systems]:
            running[key].held(still=False)
            systems[key]["mib"] = round(running[key].memory())
    return systems


def _given_up(systems: Systems, key: tuple[str, str], error: Exception) -> None:
    """Go on without a peer that fails; without the service itself there is nothing to tell."""
    if key[0] in (SERVICE, "raw"):
        raise error
    say(f"{key[0]} ({key[1]} graphs) is left out: {error}")
    del systems[key]


def _opened(name: str, graphs: str) -> Any:
    if name == SERVICE:
        return servers.service()
    return servers.peer(name, "rewritten" if graphs == "same" else "shipped", inside.decoder())


def _patiently(server: servers.Server, clients: int, seconds: float, cell: Cell) -> None:
    """Measure, again where a server that was held had lost a connection of its own meanwhile."""
    for _ in range(TRIES):
        try:
            return _one(server, clients, seconds, cell)
        except FAILURES as error:
            failure = error
            say(f"again: {error}")
    raise failure


def _one(server: servers.Server, clients: int, seconds: float, cell: Cell) -> None:
    message = server.message(portrait(), IMAGES)
    server.awake()
    try:
        before = server.cpu_seconds()
        run = load.run(server.port, message, clients, IMAGES, seconds)
        cell.cpu.append((server.cpu_seconds() - before) / (run.requests * IMAGES) * 1000)
    finally:
        server.held(still=True)
    cell.rates.append(run.images_per_second)
    cell.times += run.times


def _raw(graphs: str) -> Any:
    """What the networks of such requests give in a loop: one for a lone client, else one a core."""
    models, cores = Settings().models, os.cpu_count() or 1
    one: inside.Decode = inside.served(1) if graphs == "same" else ShippedFiles(models, 1)

    def measured(clients: int, seconds: float) -> float:
        return inside.raw_requests(one, portrait(), IMAGES, seconds, min(clients, cores))

    return measured


def told(systems: Systems) -> list[dict[str, Any]]:
    """All of it as data, the service first."""
    return [
        {"name": name, "graphs": graphs}
        | {key: value for key, value in system.items() if key != "cells"}
        | {"cells": {str(clients): cell.told() for clients, cell in system["cells"].items()}}
        for (name, graphs), system in systems.items()
    ]


def machine() -> dict[str, Any]:
    """What it was measured on, and with what."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    manifest = parse_manifest(Settings().models)
    runtime = next(name for name in ("onnxruntime-gpu", "onnxruntime") if _version(name))
    return {
        "cpu": model[1].strip() if model else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "onnxruntime": _version(runtime),
        "weights": manifest.version,
        "decoder": inside.decoder(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return ""


_BEGAN = time.monotonic()


def say(words: str) -> None:
    """Tell whoever waits where the benchmark is."""
    minutes, seconds = divmod(int(time.monotonic() - _BEGAN), 60)
    print(f"[{minutes}:{seconds:02}] {words}", file=sys.stderr, flush=True)
