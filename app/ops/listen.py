"""The address to listen on, taken before anything is loaded, so that a taken one is told of at once and plainly."""

from __future__ import annotations

import errno
import os
import socket

from app.errors import CannotListen


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to an address; it takes connections once a server listens on it.

    Args:
        host: name or address; one with a colon is of IPv6.
        port: 0 takes a free one.

    Raises:
        CannotListen: it is taken, or cannot be had on this machine.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if os.name == "posix":
        # Else a restart would wait for the connections of before to time out. Elsewhere it would take another's place.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise CannotListen(explained(host, port, error)) from error
    except TypeError as error:  # a name that cannot be written as names of hosts are
        sock.close()
        raise CannotListen(explained(host, port, socket.gaierror())) from error
    sock.set_inheritable(True)
    return sock


def explained(host: str, port: int, error: OSError) -> str:
    """Why an address cannot be listened on, and what to do."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{place}: this machine has no address {host}; give another with --host, 0.0.0.0 for every interface"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{place}: port {port} is taken by another program; end that one, or give another port with --port "
            "(LOOKALIKE_PORT), 0 for a free one"
        )
    if error.errno == errno.EACCES:
        return f"{place}: this user may not listen on port {port}; give one above 1023 with --port (LOOKALIKE_PORT)"
    return f"{place}: {error.strerror}"
