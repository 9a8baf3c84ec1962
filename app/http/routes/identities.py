"""`POST /v1/identities`: the faces of a photograph, as identity latents."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.core.parameters import IdentitiesParameters
from app.core.service import Service, floats
from app.http import schemas
from app.http.access import charge
from app.http.answers import found, model_name
from app.http.bodies import documented, parse, read_upload
from app.http.connection import while_connected
from app.http.documentation import PHOTO_ERRORS, errors
from app.http.negotiation import JSON, choose

router = APIRouter(tags=["faces"])


@router.post(
    "/v1/identities",
    summary="Encode the faces of a photograph",
    operation_id="create_identities",
    response_model=schemas.IdentitiesAnswer,
    responses=errors(*PHOTO_ERRORS),
    openapi_extra=documented(IdentitiesParameters, {"image": "A photograph: JPEG, PNG or WebP."}),
)
async def create_identities(request: Request) -> Response:
    """The identity latent of one face or of all, with box and landmarks; `/v1/render` makes variants of it."""
    upload = await read_upload(request, "image")
    parameters = parse(IdentitiesParameters, upload.parameters)
    choose(request, (JSON,))
    service: Service = request.app.state.service
    await charge(request, 1)
    answer, engine, subjects = await while_connected(request, service.identities(upload.photos["image"], parameters))
    request.state.answer = answer
    faces = [
        schemas.IdentityFace(**found(subject.face), index=subject.index, identity=floats(subject.identity))
        for subject in subjects
    ]
    content = schemas.IdentitiesAnswer(id=answer, model=model_name(engine), faces=faces)
    return Response(content.model_dump_json(), media_type=JSON)
