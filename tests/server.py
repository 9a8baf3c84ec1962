"""The service as a process of its own, and what can be seen of it from outside."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.forked import Fork
from tests.patience import PATIENCE, until
from tests.ports import Port

HELD = """
import sys, time
from pathlib import Path
import app.runtime.sessions
from app.__main__ import main

genuine = app.runtime.sessions.Network.__call__

def held(self, *arrays):
    while self.path.stem.startswith("decoder") and len(arrays[0]) >= {fewest} and Path({switch!r}).exists():
        time.sleep(0.01)
    return genuine(self, *arrays)

app.runtime.sessions.Network.__call__ = held
sys.exit(main(["serve"]))
"""
"""Code of a server that draws nothing as long as a file `switch` is there: what was asked for stays open."""


class Server:
    """`python -m app serve` on a port of its own of 127.0.0.1, on the CPU unless the settings say otherwise.

    Args:
        code: run in place of `python -m app`, to inject faults; it ends in a call of `app.__main__.main(["serve"])`.
        fork: begun without a Python of its own, where neither signals nor several workers are looked at.
        stderr: where its log goes; a file of its own by default.
        settings: LOOKALIKE_ variables by lower-case name.
    """

    def __init__(self, code: str = "", stderr: Path | None = None, fork: bool = False, **settings: object) -> None:
        self._port = Port()
        # A connection for each request, as if each came from somebody else; no certificates, which take long to read.
        self._client = httpx.Client(
            base_url=self.address, timeout=PATIENCE, limits=httpx.Limits(max_keepalive_connections=0), verify=False
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOKALIKE_")}
        if "LOOKALIKE_MODELS" in os.environ:
            environment["LOOKALIKE_MODELS"] = os.environ["LOOKALIKE_MODELS"]
        settings = {"port": self.port, "device": "cpu", "batch_sizes": "1,2", "deadline": PATIENCE} | settings
        environment |= {f"LOOKALIKE_{name.upper()}": str(value) for name, value in settings.items()}
        # A pipe that nobody reads would stop the server.
        self._log = tempfile.NamedTemporaryFile("r")  # noqa: SIM115
        log = str(stderr or self._log.name)
        self.process: subprocess.Popen[bytes] | Fork
        if fork:
            self.process = Fork(environment, log)
        else:
            program = [sys.executable, *(["-c", code] if code else ["-m", "app", "serve"])]
            with open(log, "a") as file:
                self.process = subprocess.Popen(program, env=environment, stderr=file, start_new_session=True)

    @property
    def port(self) -> int:
        return self._port.number

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def until_ready(self) -> Server:
        self.until(lambda: self.ready() == 200, "it was ready")
        return self

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something while the server lives."""
        until(condition, what, self._check_alive)

    def _check_alive(self) -> None:
        assert self.process.poll() is None, self.said()

    def status(self, path: str) -> int:
        """The status of an address; 0 where there is no answer."""
        try:
            return self._client.get(path).status_code
        except httpx.TransportError:
            return 0

    def ready(self) -> int:
        return self.status("/health/ready")

    def post(self, path: str, photo: bytes, **headers: str) -> httpx.Response:
        headers = {"Content-Type": "image/jpeg"} | headers
        return self._client.post(path, content=photo, headers=headers)

    def variants(self, photo: bytes, **parameters: Any) -> httpx.Response:
        """Look-alikes of a photograph that is sent as a form does."""
        files = {"image": photo}
        return self._client.post("/v1/variants", params=parameters, files=files)

    def connect(self, timeout: float = PATIENCE) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)

    def said(self) -> str:
        """What it wrote to standard error."""
        self._log.seek(0)
        return self._log.read()

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log that tell of an event."""
        whole = self.said().rpartition("\n")[0]  # the last line may be half written
        lines = (json.loads(line) for line in whole.splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] == event]

    def requests(self) -> list[dict[str, Any]]:
        """The requests in its log."""
        return self.logged("request")

    def metric(self, name: str) -> float:
        """The value of a metric, with its labels; the sum where only the name is given."""
        lines = self._client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if re.match(re.escape(name) + r"(\{.*\})? ", line))

    @property
    def _seen(self) -> psutil.Process:
        return psutil.Process(self.process.pid)

    @property
    def workers(self) -> set[int]:
        """Processes that serve, where there are several."""
        found = set()
        # psutil would look at every process of the machine.
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with contextlib.suppress(OSError):  # one that has just ended
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.add(int(child))
        return found

    @property
    def resident(self) -> float:
        """Resident memory in MB."""
        return self._seen.memory_info().rss / 1e6

    @property
    def peak(self) -> float:
        """Most resident memory so far, in MB; psutil does not tell."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1000  # type: ignore[index]

    @property
    def descriptors(self) -> int:
        return self._seen.num_fds()

    @property
    def threads(self) -> int:
        return self._seen.num_threads()

    def stop(self) -> None:
        """End it and all its processes, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()  # a fork that has no session of its own yet
        self.process.wait()
        self._client.close()
        self._log.close()
        self._port.release()
