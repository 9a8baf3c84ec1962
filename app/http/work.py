"""A request about photographs as one value: read, checked, and charged for, before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import Request
from pydantic import BaseModel

from app.core.parameters import PictureParameters
from app.http.bodies import documented, parse, read_upload
from app.http.dependencies import Charge, Service
from app.http.negotiation import JSON, NDJSON, ZIP, choose, choose_picture

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True)
class Work(Generic[P]):
    """What a client asks for.

    Attributes:
        photos: the photographs, by the names of their fields.
        parameters: what to do with them.
        form: the media type of the answer.
    """

    photos: dict[str, bytes]
    parameters: P
    form: str


class Asked(Generic[P]):
    """Reads `Work`, as a dependency of a route.

    Args:
        model: of the parameters; with those of pictures the answer may be pictures as well as JSON.
        photos: name and meaning of each photograph's field.
        images: how many images the parameters ask for, which is what rate limits count.
    """

    def __init__(self, model: type[P], photos: dict[str, str], images: Callable[[P], int]) -> None:
        self._model, self._photos, self._images = model, photos, images

    async def __call__(self, request: Request, service: Service, charge: Charge) -> Work[P]:
        """Read one request; raises the problems of its parts."""
        upload = await read_upload(request, service.gate, *self._photos)
        parameters = parse(self._model, upload)
        if isinstance(parameters, PictureParameters):
            form, parameters = choose_picture(request, parameters, (JSON, ZIP, NDJSON))
        else:
            form = choose(request, (JSON,))
        await charge(self._images(parameters))
        return Work(upload.photos, parameters, form)

    @property
    def openapi(self) -> dict[str, Any]:
        """The request as OpenAPI has it, which the framework cannot know."""
        return documented(self._model, self._photos)
