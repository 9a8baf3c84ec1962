"""`POST /v1/render`: look-alikes of an identity latent, so that no photograph needs to be kept."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from app.core.parameters import RenderRequest
from app.core.variants import Variants
from app.http import schemas
from app.http.answers import answer_variants, model_name, search
from app.http.bodies import json_alone, no_query
from app.http.dependencies import Charge, Service
from app.http.documentation import errors, pictures
from app.http.negotiation import JSON, NDJSON, ZIP, choose_picture
from app.http.problems import BAND_EMPTY

router = APIRouter(tags=["faces"])


@router.post(
    "/v1/render",
    summary="Make look-alikes of an identity",
    operation_id="render_identity",
    dependencies=[Depends(json_alone), Depends(no_query)],
    responses=pictures(schemas.RenderAnswer) | errors(400, 406, 408, 413, 415, 422, 500, 503, 504, also=(BAND_EMPTY,)),
)
async def render_identity(request: Request, service: Service, charge: Charge, body: RenderRequest) -> Response:
    """Redraw a face from its identity latent, as `/v1/identities` gives it.

    With the `reference` that came with it, similarity is to the photograph, as in `/v1/variants`, and a grey one gives
    grey look-alikes. Without it, similarity is to the most faithful redrawing, control 0.
    """
    form, body = choose_picture(request, body, (JSON, ZIP, NDJSON))
    await charge(body.images)
    return await answer_variants(request, service.render(body), form, body.format, _summary)


def _summary(variants: Variants, shown: list[schemas.Variant]) -> schemas.RenderAnswer:
    return schemas.RenderAnswer(
        id=variants.id,
        model=model_name(variants.engine),
        seed=variants.seed,
        search=search(variants),
        measured_against=variants.against,
        variants=shown,
    )
