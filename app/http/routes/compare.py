"""`POST /v1/compare`: are these the same person, says the recogniser."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.core.parameters import CompareParameters
from app.core.service import Service
from app.http import schemas
from app.http.access import charge
from app.http.answers import found, model_name
from app.http.bodies import documented, parse, read_upload
from app.http.connection import while_connected
from app.http.documentation import PHOTO_ERRORS, errors
from app.http.negotiation import JSON, choose

router = APIRouter(tags=["faces"])


@router.post(
    "/v1/compare",
    summary="Compare two faces",
    operation_id="compare_faces",
    response_model=schemas.CompareAnswer,
    responses=errors(*PHOTO_ERRORS),
    openapi_extra=documented(
        CompareParameters,
        {"reference": "The photograph that is known.", "probe": "The photograph to compare with it."},
    ),
)
async def compare_faces(request: Request) -> Response:
    """The recogniser's similarity of two faces, and its verdict at false match rates of 1 %, 0.1 % and 0.01 %."""
    upload = await read_upload(request, "reference", "probe")
    parameters = parse(CompareParameters, upload.parameters)
    choose(request, (JSON,))
    service: Service = request.app.state.service
    await charge(request, 2)
    comparison = await while_connected(
        request, service.compare(upload.photos["reference"], upload.photos["probe"], parameters)
    )
    request.state.answer = comparison.id
    thresholds = comparison.engine.manifest.thresholds
    content = schemas.CompareAnswer(
        id=comparison.id,
        model=model_name(comparison.engine),
        similarity=comparison.similarity,
        verdicts=[
            schemas.Verdict(fmr=fmr, threshold=threshold, match=comparison.similarity >= threshold)
            for fmr, threshold in (
                (1e-2, thresholds.fmr_1e_2),
                (1e-3, thresholds.fmr_1e_3),
                (1e-4, thresholds.fmr_1e_4),
            )
        ],
        reference=schemas.FoundFace(**found(comparison.reference)),
        probe=schemas.FoundFace(**found(comparison.probe)),
    )
    return Response(content.model_dump_json(), media_type=JSON)
