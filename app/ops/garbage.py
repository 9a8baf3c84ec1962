"""The collector of garbage, kept from what is there for good."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def start_up_kept() -> Iterator[None]:
    """What is there by now stays: to search it for garbage would hold the event loop up amid requests."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
