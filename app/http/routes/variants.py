"""`POST /v1/variants`: the main job, from a photograph to its look-alikes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from app.core.parameters import VariantsParameters
from app.core.variants import Variants
from app.http import schemas
from app.http.answers import answer_variants, model_name, search, source
from app.http.dependencies import Service
from app.http.documentation import PHOTO_ERRORS, errors, pictures
from app.http.problems import BAND_EMPTY
from app.http.work import Asked, Work

router = APIRouter(tags=["faces"])

ASKED = Asked(
    VariantsParameters,
    {"image": "A photograph with a face: JPEG, PNG or WebP."},
    images=lambda parameters: parameters.images,
)


@router.post(
    "/v1/variants",
    summary="Make look-alikes of a photographed face",
    operation_id="create_variants",
    responses=pictures(schemas.VariantsAnswer) | errors(*PHOTO_ERRORS, also=(BAND_EMPTY,)),
    openapi_extra=ASKED.openapi,
)
async def create_variants(
    request: Request, service: Service, work: Annotated[Work[VariantsParameters], Depends(ASKED)]
) -> Response:
    """Redraw the face under random or given control vectors, each image with its similarity to the source.

    The answer is JSON with the images in base64, a ZIP of images with a manifest, NDJSON with a line a variant as they
    are made, or one image (a contact sheet where there are several), as Accept asks. Parameters may stand in the query
    or in the form.
    """
    opened = service.variants(work.photos["image"], work.parameters)
    return await answer_variants(request, opened, work.form, work.parameters.format, _summary)


def _summary(variants: Variants, shown: list[schemas.Variant]) -> schemas.VariantsAnswer:
    assert variants.source is not None  # noqa: S101 - a photograph was given
    return schemas.VariantsAnswer(
        id=variants.id,
        model=model_name(variants.engine),
        seed=variants.seed,
        search=search(variants),
        measured_against=variants.against,
        source=source(variants.source, variants.engine),
        variants=shown,
    )
