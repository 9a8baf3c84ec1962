"""A new model without a restart: SIGHUP, in one process and in several.

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
from contextlib import contextmanager, suppress

from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess

from app.core.service import Service
from app.errors import ModelsInvalid, NotReady, ProviderUnavailable

STARTUP_FAILURE = 3

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


class Workers(Multiprocess):
    """Several processes on one port; SIGHUP reloads the models in each, where uvicorn would restart them."""

    def handle_signals(self) -> None:
        """Take the signals that came, the one that is blocked among them."""
        if signal.SIGHUP in signal.sigpending():
            self.signal_queue.append(signal.sigwait({signal.SIGHUP}))
        super().handle_signals()

    def handle_hup(self) -> None:
        """Hand the signal on."""
        for worker in self.processes:
            if worker.process.pid and worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGHUP)


def serve(config: Config) -> int:
    """Serve until a signal says to stop; returns the exit status."""
    # A process that is still loading would die of it. Blocked, as it then is in every process that begins here,
    # it waits until there is somebody to handle it.
    if hasattr(signal, "SIGHUP"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    if config.workers > 1:
        Workers(config, sockets=[config.bind_socket()]).run()
        return 0
    server = Server(config)
    with suppress(KeyboardInterrupt):
        server.run()
    return 0 if server.started else STARTUP_FAILURE
