"""The application factory: it wires settings, service and routes, and decides nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from app import __version__
from app.batch.jobs import Jobs
from app.batch.worker import Worker
from app.core.cohort import check_cohort
from app.core.origin import Origin
from app.core.service import Service
from app.http import access, openapi, problems
from app.http.inference_protocol import ProtocolErrors
from app.http.middleware import Envelope, across_origins
from app.http.routes import ROUTERS
from app.http.server import end_with_parent
from app.http.tracing import Traced
from app.ops.drain import ready_until_stopped
from app.ops.garbage import start_up_kept
from app.ops.places import check_jobs
from app.ops.readiness import Readiness
from app.ops.reload import reloaded_on_hangup
from app.settings import Settings
from app.telemetry import logs, tracing
from app.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig  # releases before it existed pass the argument by

DESCRIPTION = """\
Takes a face photograph and returns synthetic faces that resemble it, each with the control vector that made it and the
similarity that a face recogniser gives it: for people who train, test and harden face recognition.

Every image that leaves says in metadata and pixels that it is synthetic. Nothing that is sent is logged, and nothing is
stored but the photographs of a job until they are used.
Errors are problem details (RFC 9457) with a stable `type`.
"""

NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; the models are loaded when it starts."""
    settings = settings or Settings()
    metrics = Metrics()
    service = Service(settings, metrics)
    readiness = Readiness(service, settings.max_requests)
    jobs = Jobs(settings.jobs, settings) if settings.jobs else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            async with AsyncExitStack() as stack:
                stack.enter_context(ready_until_stopped(readiness, settings.drain_seconds))
                stack.enter_context(reloaded_on_hangup(service))
                if jobs:
                    app.state.worker = Worker(jobs, service, metrics, app.state.limiter)
                    await stack.enter_async_context(app.state.worker.running())
                stack.enter_context(start_up_kept())
                yield
        finally:
            await service.close()
            await asyncio.to_thread(tracing.stop)

    app = FastAPI(
        title="lookalike",
        version=__version__,
        summary="Synthetic look-alikes of a face",
        description=DESCRIPTION,
        lifespan=lifespan,
        # An address with a slash too many does not exist. A redirect would name the Host and scheme that the request
        # claims, and a client would send its key there.
        redirect_slashes=False,
        docs_url=None,  # `app.http.routes.docs` has it, without a CDN
        redoc_url=None,
        # The framework's own telemetry would export queries, bodies that are not valid, and messages of exceptions.
        telemetry=NO_TELEMETRY,
    )
    app.state.service = service
    app.state.readiness = readiness
    app.state.metrics = metrics
    app.state.jobs = jobs
    problems.install(app)
    access.install(app, settings)
    for router in ROUTERS:
        app.include_router(router)
    openapi.install(app, settings)
    app.add_middleware(across_origins, origins=settings.cors_origins)
    app.add_middleware(Envelope, settings=settings, metrics=metrics, service=service, readiness=readiness)
    app.add_middleware(ProtocolErrors)
    if settings.tracing:
        app.add_middleware(Traced)
    return app


def check(settings: Settings) -> None:
    """Try the keys, certificates, cohort and folder that the settings name: it is told before anything is served.

    Raises:
        CredentialsInvalid, CohortInvalid, CannotRun: one cannot be used.
        OSError: the folder for jobs cannot be made after all.
    """
    Origin(settings)
    if settings.cohort:
        check_cohort(settings.cohort, settings.models)
    if settings.jobs:
        check_jobs(settings.jobs)
        Jobs(settings.jobs, settings)


def serving() -> FastAPI:
    """The application as each process of the server builds it: settings from the environment, structured logs."""
    end_with_parent()
    settings = Settings()
    logs.configure(settings.log_level)
    if settings.tracing:
        tracing.configure()
    return create_app(settings)
