"""`GET /v1/model`: the model in force, its controls, thresholds and card."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.http import schemas
from app.http.dependencies import Service
from app.http.documentation import errors
from app.http.negotiation import JSON, choose

router = APIRouter(tags=["model"])

SIZES = ("frame_size", "image_size", "crop_size", "identity_size", "control_size")


@router.get(
    "/v1/model",
    summary="Describe the model",
    operation_id="get_model",
    response_model=schemas.ModelAnswer,
    responses=errors(406, 503),
)
async def get_model(request: Request, service: Service) -> Response:
    """Name and version, what each control was measured to do, thresholds, measured quality, and the model card."""
    choose(request, (JSON,))
    engine = service.engine
    manifest = engine.manifest
    content = schemas.ModelAnswer(
        **manifest.model_dump(include={*schemas.ModelName.model_fields, "created", *SIZES, "metrics", "training"}),
        picture_sizes=manifest.picture_sizes,
        device=engine.device,
        precision=engine.precision,
        controls=[
            schemas.ControlCard(index=index, **control.model_dump()) for index, control in enumerate(manifest.controls)
        ],
        thresholds=manifest.thresholds.model_dump(by_alias=True),
        lookalike_band=manifest.thresholds.lookalike_band,
        networks={
            role: schemas.NetworkCard(file=network.file, sha256=network.sha256)
            for role, network in manifest.files.items()
        },
        card=engine.card,
    )
    return Response(content.model_dump_json(), media_type=JSON)
