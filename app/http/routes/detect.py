"""`POST /v1/detect`: does a picture say that it was drawn here, or elsewhere."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from app.core.parameters import DetectParameters
from app.http.answers import model_name
from app.http.connection import while_connected
from app.http.dependencies import Service
from app.http.documentation import PHOTO_ERRORS, errors
from app.http.origin import DetectAnswer
from app.http.work import Asked, Work

router = APIRouter(tags=["origin"])

ASKED = Asked(DetectParameters, {"image": "Any picture: JPEG, PNG or WebP."}, images=lambda _: 1)


@router.post(
    "/v1/detect",
    summary="Find out whether a picture was drawn",
    operation_id="detect_origin",
    response_model=DetectAnswer,
    responses=errors(*PHOTO_ERRORS),
    openapi_extra=ASKED.openapi,
)
async def detect_origin(
    request: Request, service: Service, work: Annotated[Work[DetectParameters], Depends(ASKED)]
) -> Response:
    """The marks of origin of a picture: metadata, content credentials, and the mark in the pixels of drawn faces.

    No mark is no proof of a photograph.
    """
    engine, examined = await while_connected(request, service.detect(work.photos["image"]))
    content = DetectAnswer(model=model_name(engine), **examined.told())
    return Response(content.model_dump_json(), media_type=work.form)
