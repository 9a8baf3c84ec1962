"""What routes are given: nothing of the application's state is looked up anywhere else.

All of it by coroutines: FastAPI would send each plain function of every request to a thread of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

from fastapi import Depends, Request

from app.batch import jobs, worker
from app.core import service
from app.http import access
from app.http.problems import refuse
from app.ops import readiness
from app.telemetry import metrics


async def _service(request: Request) -> service.Service:
    found: service.Service = request.app.state.service
    return found


async def _readiness(request: Request) -> readiness.Readiness:
    found: readiness.Readiness = request.app.state.readiness
    return found


async def _metrics(request: Request) -> metrics.Metrics:
    found: metrics.Metrics = request.app.state.metrics
    return found


async def _charge(request: Request) -> Callable[[int], Awaitable[None]]:
    return partial(access.charge, request, request.app.state.limiter)


async def _jobs(request: Request) -> jobs.Jobs:
    found: jobs.Jobs | None = request.app.state.jobs
    if found is None:
        raise refuse(404, "Jobs are off here. The operator turns them on by naming a folder: LOOKALIKE_JOBS.")
    return found


async def _worker(request: Request) -> worker.Worker:
    found: worker.Worker = request.app.state.worker
    return found


Service = Annotated[service.Service, Depends(_service)]
"""The use cases."""
Readiness = Annotated[readiness.Readiness, Depends(_readiness)]
"""Whether more requests are wanted."""
Metrics = Annotated[metrics.Metrics, Depends(_metrics)]
"""Where things are counted."""
Charge = Annotated[Callable[[int], Awaitable[None]], Depends(_charge)]
"""Counts images against the caller's rate limit before they are made; raises the problem 429."""
Jobs = Annotated[jobs.Jobs, Depends(_jobs)]
"""Jobs on disk; raises the problem 404 where they are off."""
Worker = Annotated[worker.Worker, Depends(_worker)]
"""What works on them."""
