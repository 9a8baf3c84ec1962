"""Health checks and metrics, for orchestrators and Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.errors import NotReady
from app.http import schemas
from app.http.dependencies import Metrics, Readiness
from app.http.documentation import errors

router = APIRouter(tags=["operations"])


@router.get("/health/live", summary="Is the process alive?", operation_id="get_live")
async def get_live() -> schemas.Health:
    """Whether the event loop turns."""
    return schemas.Health(status="live")


@router.get("/health/ready", summary="Should it get requests?", operation_id="get_ready", responses=errors(503))
async def get_ready(readiness: Readiness) -> schemas.Health:
    """Whether the models are warm, the queue is not full, and the service is not about to stop."""
    if reason := readiness.unready():
        raise NotReady(reason)
    return schemas.Health(status="ready")


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    operation_id="get_metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The metrics."}},
)
async def get_metrics(metrics: Metrics, readiness: Readiness) -> Response:
    """Counters and histograms in Prometheus' text format."""
    metrics.ready(readiness.unready() is None)
    return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
