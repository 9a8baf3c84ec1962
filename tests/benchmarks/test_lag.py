"""How late the event loop is woken is measured of a service that runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest

from benchmarks import lag


def test_a_service_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    begin: Callable[..., subprocess.Popen[str]] = partial(
        subprocess.Popen, [sys.executable, "-c", "raise SystemExit(3)"]
    )
    monkeypatch.setattr(subprocess, "Popen", lambda _, **more: begin(**more))
    with pytest.raises(RuntimeError, match="did not start: status 3"):
        lag.measure(lambda _: pytest.fail("nothing is there to be loaded"))
