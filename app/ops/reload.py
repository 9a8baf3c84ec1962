"""A new model without a restart: SIGHUP, in one process or in several.

The models change only between requests, and only for models that were verified, loaded and warmed; else the old ones
stay, and the log says why.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.core.service import Service
from app.errors import ModelsInvalid, NotReady, ProviderUnavailable

log = logging.getLogger(__name__)


@contextmanager
def reloaded_on_hangup(service: Service) -> Iterator[None]:
    """Reload the models at SIGHUP, until the block is left."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
        yield  # signals belong to whoever runs the main thread, a test for one
        return
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def begin() -> None:
        task = loop.create_task(_reload(service))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, begin)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def _reload(service: Service) -> None:
    try:
        before, after = await service.reload()
    except (ModelsInvalid, ProviderUnavailable, NotReady) as error:
        log.error("model not reloaded", extra={"detail": str(error)})
        return
    log.info("model reloaded", extra={"before": before.version, "after": after.version, "changed": before != after})


def tell_siblings() -> None:
    """Have the processes that share the port reload as well, where there are any."""
    parent = multiprocessing.parent_process()
    if parent and parent.pid:
        os.kill(parent.pid, signal.SIGHUP)
