"""The collector of garbage, kept from what is there for good."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def start_up_kept() -> Iterator[None]:
    """What is there by now stays: to search it for garbage would hold the event loop up amid requests.

    In a process where something is kept already, that is left to whoever did it.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
