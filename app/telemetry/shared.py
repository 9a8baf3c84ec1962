"""The folder in which several workers add up their metrics, and the end of those that killed servers left behind."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "lookalike-metrics-"
LOCK = "owner.lock"
NEW = f"{LOCK}.new"


@contextmanager
def metrics_folder() -> Iterator[Path]:
    """A temporary folder for counters, gone when the server ends.

    A server that is killed cannot clean up, so the next one on the machine does: an owner holds a lock while it
    lives, and the kernel takes that from whoever is killed.
    """
    _remove_left_behind(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name, (Path(name) / NEW).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Locked before it has its name: another server, just starting, could take the lock in between.
        (Path(name) / NEW).rename(Path(name) / LOCK)
        yield Path(name)


def _remove_left_behind(place: Path) -> None:
    """Remove folders whose owner lives no more; one of another user, or one that is only just being made, stays."""
    for folder in place.glob(f"{PREFIX}*"):
        try:
            with (folder / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue
