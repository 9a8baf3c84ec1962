"""`POST /v1/compare`: are these the same person, says the recogniser."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from app.core.parameters import CompareParameters
from app.http import compared, schemas
from app.http.answers import found, model_name
from app.http.connection import while_connected
from app.http.dependencies import Service
from app.http.documentation import PHOTO_ERRORS, errors
from app.http.problems import NO_COHORT
from app.http.work import Asked, Work

router = APIRouter(tags=["faces"])

ASKED = Asked(
    CompareParameters,
    {"reference": "The photograph that is known.", "probe": "The photograph to compare with it."},
    images=lambda _: 2,
)


@router.post(
    "/v1/compare",
    summary="Compare two faces",
    operation_id="compare_faces",
    response_model=compared.CompareAnswer,
    responses=errors(*PHOTO_ERRORS, also=(NO_COHORT,)),
    openapi_extra=ASKED.openapi,
)
async def compare_faces(
    request: Request, service: Service, work: Annotated[Work[CompareParameters], Depends(ASKED)]
) -> Response:
    """The recogniser's similarity of two faces, and its verdict at false match rates of 1 %, 0.1 % and 0.01 %."""
    photos = work.photos["reference"], work.photos["probe"]
    comparison = await while_connected(request, service.compare(*photos, work.parameters))
    request.state.answer = comparison.id
    thresholds = comparison.engine.manifest.thresholds
    content = compared.CompareAnswer(
        id=comparison.id,
        model=model_name(comparison.engine),
        similarity=comparison.similarity,
        verdicts=[
            compared.Verdict(fmr=fmr, threshold=threshold, match=comparison.similarity >= threshold)
            for fmr, threshold in (
                (1e-2, thresholds.fmr_1e_2),
                (1e-3, thresholds.fmr_1e_3),
                (1e-4, thresholds.fmr_1e_4),
            )
        ],
        normalised=compared.Normalised(**comparison.normalised._asdict()) if comparison.normalised else None,
        reference=schemas.FoundFace(**found(comparison.reference)),
        probe=schemas.FoundFace(**found(comparison.probe)),
    )
    return Response(content.model_dump_json(), media_type=work.form)
