"""Servers as processes: the service and its peers, each started, met over a socket, weighed and stopped."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.load import request

PEERS = Path(os.environ.get("BENCH_PEERS", "benchmarks/.peers"))
"""Where the peers' environments lie."""
PACKAGES = {
    "litserve": ["litserve==0.2.19"],
    "bentoml": ["bentoml==1.4.40"],
    "ray": ["ray[serve]==2.60.0"],
    # Its workers do not start with a later uvloop, which makes no event loop where there is none.
    "mlserver": ["mlserver==1.7.1", "uvloop==0.21.0"],
}
START = 120


@dataclass
class Server:
    """A running server.

    Attributes:
        name: what the table calls it.
        port: where it listens on this machine.
        ready: seconds from its start to its first 200.
        group: its process group.
    """

    name: str
    port: int
    ready: float
    group: int

    def message(self, photo: bytes, images: int) -> bytes:
        """A request for so many images."""
        if self.name.startswith("service"):
            return request(f"/v1/variants?count={images}&seed=1", "image/jpeg", photo)
        encoded = base64.b64encode(photo).decode()
        if self.name.startswith("mlserver"):
            inputs = [
                {"name": "image", "shape": [1], "datatype": "BYTES", "data": [encoded]},
                {"name": "count", "shape": [1], "datatype": "INT64", "data": [images]},
                {"name": "seed", "shape": [1], "datatype": "INT64", "data": [1]},
            ]
            return request("/v2/models/faces/infer", "application/json", json.dumps({"inputs": inputs}).encode())
        body = {"image": encoded, "count": images, "seed": 1}
        return request("/predict", "application/json", json.dumps(body).encode())

    def cpu_seconds(self) -> float:
        """What all its processes have used of the CPU."""
        total = 0.0
        for process in self._processes():
            with suppress(psutil.Error):  # one that has just ended
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def memory(self) -> float:
        """MiB of all its processes, shared pages counted once (proportional set size)."""
        total = 0
        for process in self._processes():
            with suppress(psutil.Error):  # one that has just ended
                total += process.memory_full_info().pss
        return total / 2**20

    def held(self, still: bool) -> None:
        """Stop all its processes where they are, or let them go on: one that is not measured takes nothing."""
        for process in self._processes():
            with suppress(psutil.Error):  # one that has just ended
                process.suspend() if still else process.resume()

    def awake(self) -> None:
        """Let it go on after it was held, and wait until it answers: its parts may have missed each other meanwhile.

        Raises:
            RuntimeError: it does not answer any more.
        """
        self.held(still=False)
        until = time.monotonic() + START
        while not _answers(self, ""):
            if time.monotonic() > until:
                raise RuntimeError(f"{self.name} does not answer any more")
            time.sleep(0.1)

    def _processes(self) -> list[psutil.Process]:
        """It and all that descend from it: Ray's start sessions of their own."""
        try:
            first = psutil.Process(self.group)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def install(peer: str) -> None:
    """Make the peer's own environment, with the very release of the runtime that the service has."""
    home = PEERS / peer
    if (home / "installed").exists():
        return
    from importlib.metadata import packages_distributions, version

    venv.create(home, with_pip=True)
    (runtime, *_) = packages_distributions()["onnxruntime"]  # which build it is depends on the machine
    needs = [f"{name}=={version(name)}" for name in (runtime, "onnx", "numpy", "pillow", "reedsolo")]
    command = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *PACKAGES[peer], *needs], check=True)
    (home / "installed").touch()


def release(peer: str) -> str:
    """The peer's release, as it was asked for."""
    return PACKAGES[peer][0].partition("==")[2]


@contextmanager
def service(name: str = "service", cores: str = "", **settings: object) -> Iterator[Server]:
    """The service; `cores` pins it, as `taskset -c` has it."""
    # Every request of the largest load is taken on, so that throughput is measured and not refusals.
    settings = {"device": "cpu", "queue_images": 8192, "deadline": 600} | settings
    environment = {f"LOOKALIKE_{key.upper()}": str(value) for key, value in settings.items()}
    command = [sys.executable, "-m", "app", "serve"]
    with _run(name, ["taskset", "-c", cores, *command] if cores else command, environment, "/health/ready") as server:
        yield server


@contextmanager
def peer(name: str, graphs: str, decoder: str) -> Iterator[Server]:
    """A peer with one worker process a core; `graphs` is `shipped` or `rewritten` (see `peers.pipeline`).

    `decoder` is the file of the latter's.
    """
    home, cores = (PEERS / name / "bin").absolute(), str(os.cpu_count() or 1)
    module = f"benchmarks.peers.{name}_server"
    command = [str(home / "python"), "-m", module, "{port}", cores]
    if name == "bentoml":
        options = ["--host", "127.0.0.1", "--port", "{port}"]
        command = [str(home / "python"), "-m", "bentoml", "serve", f"{module}:Faces", *options]
    environment = {
        "PEER_GRAPHS": graphs,
        "PEER_DECODER": decoder,
        "BENCH_CORES": cores,
        "PYTHONPATH": os.getcwd(),
        "PATH": f"{home}{os.pathsep}{os.environ['PATH']}",
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        # What its makers advise for throughput; both are off by default.
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    }
    with _run(f"{name} ({graphs})", command, environment, "") as server:
        yield server


@contextmanager
def _run(name: str, command: list[str], environment: dict[str, str], ready: str) -> Iterator[Server]:
    # Bound as long as the server lives, and not listening: the system gives the port to nobody else meanwhile.
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    port = kept.getsockname()[1]
    command = [part.format(port=port) for part in command]
    begun = time.perf_counter()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LOOKALIKE_")}
    environment = clean | {"LOOKALIKE_PORT": str(port)} | environment
    log = PEERS / f"{name.split()[0]}.log"
    PEERS.mkdir(exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    server = Server(name, port, 0.0, process.pid)
    family: list[psutil.Process] = []
    try:
        while not _answers(server, ready):
            if process.poll() is not None or time.perf_counter() - begun > START:
                raise RuntimeError(f"{name} did not start; see {log}")
            time.sleep(0.02)
        server.ready = time.perf_counter() - begun
        yield server
    finally:
        family = server._processes()
        server.held(still=False)
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait()
        kept.close()


def _answers(server: Server, ready: str) -> bool:
    message = f"GET {ready} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode()
    if not ready:  # a peer is ready when it answers a request for one image
        message = server.message(_photo(), 1).replace(b"\r\nHost:", b"\r\nConnection: close\r\nHost:", 1)
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(message)
            return connection.recv(20)[8:13] == b" 200 "
    except OSError:
        return False


def _photo() -> bytes:
    from benchmarks.photo import portrait

    return portrait()
