"""Ports for servers that take some time to start."""

from __future__ import annotations

import socket


class Port:
    """A port of 127.0.0.1 that is kept for one server, from before it starts until after it has ended.

    A socket is bound to it and does not listen. The system gives such a port to nobody who asks for any; a server that
    names it can bind it, as long as both allow addresses to be used again (SO_REUSEADDR), which servers do.
    """

    def __init__(self) -> None:
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind(("127.0.0.1", 0))
        self.number: int = self._kept.getsockname()[1]

    def release(self) -> None:
        """Give it back."""
        self._kept.close()
