"""`POST /v1/variants`: the main job, from a photograph to its look-alikes."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.core.parameters import VariantsParameters
from app.core.service import Service, Variants
from app.http import schemas
from app.http.access import charge
from app.http.answers import answer_variants, model_name, search, source
from app.http.bodies import documented, parse, read_upload
from app.http.documentation import PHOTO_ERRORS, errors, pictures
from app.http.negotiation import JSON, NDJSON, ZIP, choose_picture
from app.http.problems import BAND_EMPTY

router = APIRouter(tags=["faces"])


@router.post(
    "/v1/variants",
    summary="Make look-alikes of a photographed face",
    operation_id="create_variants",
    responses=pictures(schemas.VariantsAnswer) | errors(*PHOTO_ERRORS, also=(BAND_EMPTY,)),
    openapi_extra=documented(VariantsParameters, {"image": "A photograph with a face: JPEG, PNG or WebP."}),
)
async def create_variants(request: Request) -> Response:
    """Redraw the face under random or given control vectors, each image with its similarity to the source.

    The answer is JSON with the images in base64, a ZIP of images with a manifest, NDJSON with a line a variant as they
    are made, or one image (a contact sheet where there are several), as Accept asks. Parameters may stand in the query
    or in the form.
    """
    upload = await read_upload(request, "image")
    parameters = parse(VariantsParameters, upload.parameters)
    form, parameters = choose_picture(request, parameters, (JSON, ZIP, NDJSON))
    service: Service = request.app.state.service
    await charge(request, parameters.images)
    opened = service.variants(upload.photos["image"], parameters)
    return await answer_variants(request, opened, form, f"image/{parameters.format}", _summary)


def _summary(variants: Variants, shown: list[schemas.Variant]) -> schemas.VariantsAnswer:
    assert variants.source is not None  # noqa: S101 - a photograph was given
    return schemas.VariantsAnswer(
        id=variants.id,
        model=model_name(variants.engine),
        seed=variants.seed,
        search=search(variants),
        source=source(variants.source),
        variants=shown,
    )
