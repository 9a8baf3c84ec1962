"""Whether the networks work at all: found out when there is reason to doubt it.

A request that fails may be to blame itself, and readiness must not turn false for it: else one bad picture would take
a replica out. So a failure leads to a test with an input of our own, and that one decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import numpy as np

from app.core.computation import Computation
from app.core.generate import NEUTRAL

log = logging.getLogger(__name__)


class SelfTest:
    """Runs a test when it is asked to, one at a time.

    Args:
        test: raises where something does not work.

    Attributes:
        failed: whether the last one did.
    """

    def __init__(self, test: Callable[[], Awaitable[None]]) -> None:
        self.failed = False
        self._test = test
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin a test, unless one is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="self-test")

    async def close(self) -> None:
        """End the test that is under way."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        before = self.failed
        try:
            await self._test()
            self.failed = False
        except Exception:
            self.failed = True
            if not before:
                log.exception("self-test failed")
        if before and not self.failed:
            log.info("self-test passed")


async def try_out(computation: Computation) -> None:
    """Run every network once, as a request would.

    Raises:
        ComputationFailed, DeadlineExceeded, Exception: one does not work, or not in time.
    """
    engine, deadline = computation.engine, computation.deadline
    await computation.in_thread(engine.detector.warm)
    frames = np.zeros((1, engine.sizes.frame, engine.sizes.frame, 3), np.uint8)
    identities, _ = await engine.encoder.run(frames, deadline=deadline)
    images, _ = await engine.decoder.run(identities, NEUTRAL, deadline=deadline)
    if engine.detail:
        await engine.detail.run(images, deadline=deadline)
    await engine.recognizer.run(frames, deadline=deadline)
    if engine.judge is not engine.recognizer:
        await engine.judge.run(images, deadline=deadline)
