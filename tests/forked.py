"""Servers begun by a process that has imported all of the service: half of what it takes to start one is that.

It is the server of forks of the standard library, one for each process that runs tests, without threads or networks.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["app.__main__", "app.main", "app.http.server"])


class Fork:
    """`python -m app serve` without the start of Python, met as a `subprocess.Popen` is where it is sent no signals.

    Args:
        environment: all of its variables.
        stderr: where its log is appended.
    """

    def __init__(self, environment: Mapping[str, str], stderr: str) -> None:
        self._process = FORKS.Process(target=_serve, args=(dict(environment), stderr), daemon=True)
        self._process.start()
        assert self._process.pid
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Its exit status, where it has ended."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """Its exit status, once it has ended."""
        self._process.join()
        return self._process.exitcode

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self._process.kill()


def _serve(environment: dict[str, str], stderr: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_APPEND), 2)
    from app.__main__ import main

    sys.exit(main(["serve"]))
