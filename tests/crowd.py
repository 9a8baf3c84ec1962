"""Clients that ask without a pause."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self


class Crowd:
    """Runs each of `asks` again and again, in a thread of its own, until the block is left.

    What an ask raises ends its client, and is raised when the block is left.
    """

    def __init__(self, asks: Sequence[Callable[[], object]]) -> None:
        self._asks = asks
        self._leaving = threading.Event()
        self._threads = ThreadPoolExecutor(len(asks))

    def __enter__(self) -> Self:
        self._clients = [self._threads.submit(self._repeat, ask) for ask in self._asks]
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._threads.shutdown()
        for client in self._clients:
            client.result()

    def _repeat(self, ask: Callable[[], object]) -> None:
        while not self._leaving.is_set():
            ask()
