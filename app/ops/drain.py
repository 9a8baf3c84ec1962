"""SIGTERM: first not ready, then no new connections, then, when all is answered, exit."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from app.ops.readiness import Readiness


@contextmanager
def ready_until_stopped(readiness: Readiness, seconds: float) -> Iterator[None]:
    """Turn readiness false at SIGTERM, and hand the signal to the server `seconds` later.

    Load balancers need a moment to see that a replica is not ready; what they send until then is still answered. The
    server then finishes what is in flight. A second signal is handed on at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to whoever runs the main thread, a test for one
        return
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM)

    def hand_on(number: int, frame: FrameType | None) -> None:
        if callable(before):
            before(number, frame)

    def drain(number: int, frame: FrameType | None) -> None:
        if readiness.draining or not seconds:
            hand_on(number, frame)
        else:
            loop.call_soon_threadsafe(loop.call_later, seconds, hand_on, number, None)
        readiness.draining = True

    signal.signal(signal.SIGTERM, drain)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
