"""The server: one process or several on one port, until a signal says to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import cast

from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from app.http.middleware import JOBS
from app.http.wire import BoundedConnection
from app.settings import Settings

STARTUP_FAILURE = 3


def answers(worker: Process, timeout: float) -> bool:
    """Whether a process of the server still answers; at once where it ends meanwhile, which uvicorn's own waits out."""
    worker.parent_conn.send(b"ping")
    if worker.parent_conn not in wait([worker.parent_conn, worker.process.sentinel], timeout):
        return False
    worker.parent_conn.recv()
    return True


def end_with_parent() -> None:
    """Have this process stop, as by SIGTERM, when the one that began it is gone: nobody else would, or take its place.

    It would hold the port, and be one of a server that is started anew.
    """
    if parent := parent_process():

        def follow() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        Thread(target=follow, name="follows its parent", daemon=True).start()


class Workers(Multiprocess):
    """Several processes on one port; SIGHUP reloads the models in each, where uvicorn would restart them."""

    def handle_signals(self) -> None:
        """Take the signals that came, the one that is blocked among them."""
        if signal.SIGHUP in signal.sigpending():
            self.signal_queue.append(signal.sigwait({signal.SIGHUP}))
        super().handle_signals()

    def keep_subprocess_alive(self) -> None:
        """Replace processes that ended or do not answer."""
        for worker in self.processes:
            worker.ping = partial(answers, worker)  # type: ignore[method-assign]
        super().keep_subprocess_alive()

    def handle_hup(self) -> None:
        """Hand the signal on."""
        for worker in self.processes:
            if worker.process.pid and worker.process.is_alive():
                os.kill(worker.process.pid, signal.SIGHUP)


def serve(application: str, settings: Settings, listener: socket.socket) -> int:
    """Serve until a signal says to stop; returns the exit status.

    Args:
        application: `module:factory`, as each process imports it.
        settings: with how many processes, and how long things may take.
        listener: the socket to serve on.

    Raises:
        OSError: another program began to listen there meanwhile.
    """
    # Upload, computation and download may take a deadline each; a larger upload takes longer.
    seconds = 3 * settings.deadline
    longer = seconds * max(1, settings.jobs_upload_bytes / settings.max_bytes) if settings.jobs else seconds
    connection = partial(BoundedConnection, exchange_seconds=seconds, long_paths=(JOBS, longer))
    config = Config(
        application,
        factory=True,
        host=settings.host,
        port=settings.port,
        http=cast(type[asyncio.Protocol], connection),
        ws="none",
        # Longer than load balancers keep theirs, or they would reuse a connection that is just being closed.
        timeout_keep_alive=75,
        workers=settings.workers,
        # A worker that gets no core for some seconds is not to be killed for it, with the requests that it has.
        timeout_worker_healthcheck=30,
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=int(settings.deadline) + 5,
    )
    # A process that is still loading would die of it. Blocked, as it then is in every process that begins here,
    # it waits until there is somebody to handle it.
    if hasattr(signal, "SIGHUP"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    if config.workers > 1:
        Workers(config, sockets=[listener]).run()
        return 0
    server = Server(config)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    return 0 if server.started else STARTUP_FAILURE
