"""The service that a reader of the documents starts, or takes for granted, and the clone that it is started in."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx

from tests.patience import PATIENCE, until
from tests.ports import Port

ROOT = Path(__file__).parents[2]


def clone(folder: Path) -> None:
    """Make an empty folder look like a fresh clone after `make train-install`."""
    for name in ("app", "model_export", "deploy", "pyproject.toml", "requirements.lock"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "Makefile", folder)
    # This very environment under the name that the Makefile gives it, as if it had just been installed.
    place = folder / ".venv"
    place.mkdir()
    for name in ("bin", "lib", "lib64", "include", "pyvenv.cfg"):
        if (found := Path(sys.prefix) / name).exists():
            (place / name).symlink_to(found)
    for name in (".installed", ".installed-all"):
        (place / name).touch()


def surroundings(port: int) -> dict[str, str]:
    """Environment variables of what runs in a clone, for a service on that port."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOOKALIKE_", "MAKE", "MFLAGS"))}
    return kept | {
        "LOOKALIKE_PORT": str(port),
        "LOOKALIKE_DEVICE": "cpu",
        "LOOKALIKE_DEADLINE": str(PATIENCE),
        # Fewer sizes to warm, and by one thread.
        "LOOKALIKE_BATCH_SIZES": "1,4",
        "LOOKALIKE_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join([os.environ["PATH"], str(Path(sys.prefix) / "bin")]),  # where kubectl may be
    }


class Service:
    """What a document says serves, started and ended as it says so, on one port.

    Args:
        folder: a clone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = Port()
        self._asking = httpx.Client(timeout=PATIENCE, verify=False)  # certificates take long to read
        self._server: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()

    @property
    def port(self) -> int:
        return self._port.number

    @property
    def runs(self) -> bool:
        """Whether it has been started, and has not ended."""
        return self._server is not None and self._server.poll() is None

    def start(self, text: str, place: str) -> None:
        """Run shell commands that serve, in place of those that did, and wait until they are ready.

        Raises:
            AssertionError: they ended, with what they wrote.
        """
        self.stop()
        self._log.truncate(0)
        self._server = server = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self._folder,
            env=surroundings(self.port),
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

        def check_alive() -> None:
            assert server.poll() is None, f"{place} ended:\n{self.said()}"

        until(self._ready, f"{place} was ready", check_alive)

    def said(self) -> str:
        """The last of what it wrote."""
        self._log.seek(0)
        return self._log.read()[-2000:].decode("utf-8", "replace")

    def stop(self) -> None:
        if self._server:
            with suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGTERM)
            try:
                self._server.wait(PATIENCE)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(self._server.pid, signal.SIGKILL)
            self._server = None
            # The shell that was waited for may end before the service does, which would answer in the next one's place.
            until(lambda: not self._listens(), "the service was gone")

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        self._asking.close()
        self._log.close()
        self._port.release()

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def _ready(self) -> bool:
        try:
            return self._asking.get(f"http://127.0.0.1:{self.port}/health/ready").is_success
        except httpx.TransportError:
            return False
