"""Ports for servers that take some time to start."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A free port of 127.0.0.1 below those that the system gives to clients: nobody takes it before the server does."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
