"""What routes are given: nothing of the application's state is looked up anywhere else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

from fastapi import Depends, Request

from app.core import service
from app.http import access
from app.ops import readiness
from app.telemetry import metrics


def _service(request: Request) -> service.Service:
    found: service.Service = request.app.state.service
    return found


def _readiness(request: Request) -> readiness.Readiness:
    found: readiness.Readiness = request.app.state.readiness
    return found


def _metrics(request: Request) -> metrics.Metrics:
    found: metrics.Metrics = request.app.state.metrics
    return found


def _charge(request: Request) -> Callable[[int], Awaitable[None]]:
    return partial(access.charge, request, request.app.state.limiter)


Service = Annotated[service.Service, Depends(_service)]
"""The use cases."""
Readiness = Annotated[readiness.Readiness, Depends(_readiness)]
"""Whether more requests are wanted."""
Metrics = Annotated[metrics.Metrics, Depends(_metrics)]
"""Where things are counted."""
Charge = Annotated[Callable[[int], Awaitable[None]], Depends(_charge)]
"""Counts images against the caller's rate limit before they are made; raises the problem 429."""
