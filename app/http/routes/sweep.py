"""`POST /v1/sweep`: one control walked over its range."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from app.core.parameters import SweepParameters
from app.core.variants import Variants
from app.http import schemas
from app.http.answers import answer_variants, model_name, source
from app.http.dependencies import Service
from app.http.documentation import PHOTO_ERRORS, errors, pictures
from app.http.work import Asked, Work

router = APIRouter(tags=["faces"])

ASKED = Asked(
    SweepParameters,
    {"image": "A photograph with a face: JPEG, PNG or WebP."},
    images=lambda parameters: parameters.steps,
)


@router.post(
    "/v1/sweep",
    summary="Walk one control from -1 to 1",
    operation_id="sweep_control",
    responses=pictures(schemas.SweepAnswer) | errors(*PHOTO_ERRORS),
    openapi_extra=ASKED.openapi,
)
async def sweep_control(
    request: Request, service: Service, work: Annotated[Work[SweepParameters], Depends(ASKED)]
) -> Response:
    """Redraw the face with one control going evenly from -1 to 1 and the others at 0.

    As an image it is one row, or more where that would be wider than the format's pictures can be.
    """
    summary = partial(_summary, service.control_index(work.parameters.control))
    opened = service.sweep(work.photos["image"], work.parameters)
    return await answer_variants(
        request, opened, work.form, work.parameters.format, summary, columns=work.parameters.steps
    )


def _summary(control: int, variants: Variants, shown: list[schemas.Variant]) -> schemas.SweepAnswer:
    assert variants.source is not None  # noqa: S101 - a photograph was given
    return schemas.SweepAnswer(
        id=variants.id,
        model=model_name(variants.engine),
        control=control,
        measured_against=variants.against,
        source=source(variants.source, variants.engine),
        variants=shown,
    )
