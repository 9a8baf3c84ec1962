"""`POST /v1/identities`: the faces of a photograph, as identity latents."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from app.core.parameters import IdentitiesParameters
from app.http import schemas
from app.http.answers import model_name, source
from app.http.connection import while_connected
from app.http.dependencies import Service
from app.http.documentation import PHOTO_ERRORS, errors
from app.http.work import Asked, Work

router = APIRouter(tags=["faces"])

ASKED = Asked(IdentitiesParameters, {"image": "A photograph: JPEG, PNG or WebP."}, images=lambda _: 1)


@router.post(
    "/v1/identities",
    summary="Encode the faces of a photograph",
    operation_id="create_identities",
    response_model=schemas.IdentitiesAnswer,
    responses=errors(*PHOTO_ERRORS),
    openapi_extra=ASKED.openapi,
)
async def create_identities(
    request: Request, service: Service, work: Annotated[Work[IdentitiesParameters], Depends(ASKED)]
) -> Response:
    """The identity latent of one face or of all, with box and landmarks; `/v1/render` makes variants of it."""
    answer, engine, subjects = await while_connected(request, service.identities(work.photos["image"], work.parameters))
    request.state.answer = answer
    faces = [
        schemas.IdentityFace(**source(subject, engine).model_dump(), index=subject.index) for subject in subjects.chosen
    ]
    content = schemas.IdentitiesAnswer(
        id=answer,
        model=model_name(engine),
        found=subjects.found,
        left_out=subjects.found - len(faces) if work.parameters.face == "all" else 0,
        faces=faces,
    )
    return Response(content.model_dump_json(), media_type=work.form)
