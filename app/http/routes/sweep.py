"""`POST /v1/sweep`: one control walked over its range."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request, Response

from app.core.parameters import SweepParameters
from app.core.service import Service, Variants
from app.http import schemas
from app.http.access import charge
from app.http.answers import answer_variants, model_name, source
from app.http.bodies import documented, parse, read_upload
from app.http.documentation import PHOTO_ERRORS, errors, pictures
from app.http.negotiation import JSON, NDJSON, ZIP, choose_picture

router = APIRouter(tags=["faces"])


@router.post(
    "/v1/sweep",
    summary="Walk one control from -1 to 1",
    operation_id="sweep_control",
    responses=pictures(schemas.SweepAnswer) | errors(*PHOTO_ERRORS),
    openapi_extra=documented(SweepParameters, {"image": "A photograph with a face: JPEG, PNG or WebP."}),
)
async def sweep_control(request: Request) -> Response:
    """Redraw the face with one control going evenly from -1 to 1 and the others at 0; as an image, one row."""
    upload = await read_upload(request, "image")
    parameters = parse(SweepParameters, upload.parameters)
    form, parameters = choose_picture(request, parameters, (JSON, ZIP, NDJSON))
    service: Service = request.app.state.service
    await charge(request, parameters.steps)
    return await answer_variants(
        request,
        service.sweep(upload.photos["image"], parameters),
        form,
        f"image/{parameters.format}",
        partial(_summary, service.control_index(parameters.control)),
        columns=parameters.steps,
    )


def _summary(control: int, variants: Variants, shown: list[schemas.Variant]) -> schemas.SweepAnswer:
    assert variants.source is not None  # noqa: S101 - a photograph was given
    return schemas.SweepAnswer(
        id=variants.id,
        model=model_name(variants.engine),
        control=control,
        source=source(variants.source),
        variants=shown,
    )
