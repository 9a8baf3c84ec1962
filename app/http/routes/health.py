"""Health checks and metrics, for orchestrators and Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.core.service import Service
from app.http import schemas
from app.http.documentation import errors
from app.http.problems import NOT_READY, ProblemError
from app.telemetry.metrics import Metrics

router = APIRouter(tags=["operations"])


@router.get("/health/live", summary="Is the process alive?", operation_id="get_live")
async def get_live() -> schemas.Health:
    """Whether the event loop turns."""
    return schemas.Health(status="live")


@router.get("/health/ready", summary="Should it get requests?", operation_id="get_ready", responses=errors(503))
async def get_ready(request: Request) -> schemas.Health:
    """Whether the models are warm, the queue is not full, and the service is not about to stop."""
    service: Service = request.app.state.service
    if reason := service.unready():
        raise ProblemError(NOT_READY, reason, {"Retry-After": "1"})
    return schemas.Health(status="ready")


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    operation_id="get_metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The metrics."}},
)
async def get_metrics(request: Request) -> Response:
    """Counters and histograms in Prometheus' text format."""
    metrics: Metrics = request.app.state.metrics
    service: Service = request.app.state.service
    metrics.ready(service.unready() is None)
    return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
