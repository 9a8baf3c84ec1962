"""Whether a replica should get more requests: what load balancers ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.core.service import Service


class Readiness:
    """Says why no more requests are wanted, where they are not.

    Args:
        service: what does the work.
        most: requests that are taken on at once, uploads included.

    Attributes:
        draining: about to stop.
        open_requests: how many are taken on now.
    """

    def __init__(self, service: Service, most: int) -> None:
        self._service, self._most = service, most
        self.draining = False
        self.open_requests = 0

    @contextmanager
    def request(self) -> Iterator[bool]:
        """Count a request until the block is left; gives whether there is room for it."""
        self.open_requests += 1
        try:
            yield self.open_requests <= self._most
        finally:
            self.open_requests -= 1

    def unready(self) -> str | None:
        """Why the service should get no more requests just now; None when it should."""
        if not self._service.started:
            return "The models are still being loaded."
        if self.draining:
            return "The service is about to stop."
        if self._service.gate.full:
            return "The queue is full."
        if self.open_requests >= self._most:
            return "As many requests as are taken on are open."
        if self._service.failing:
            return "The networks fail."
        return None
