"""Waiting for what should come soon, on a machine that may be slow, or busy with other tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 300
"""Seconds to wait at most: far more than a busy machine takes, since only a failure waits so long."""


def until(condition: Callable[[], Any], what: str, check: Callable[[], None] = lambda: None) -> Any:
    """Wait; returns what the condition gave. `check` raises where waiting has become useless."""
    begun = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - begun
        assert waited < PATIENCE, f"it took too long until {what}"
        check()
        # Looking costs what is waited for a core, so it is done the less often the longer it takes.
        time.sleep(min(max(0.02, waited / 10), 0.2))
    return found
