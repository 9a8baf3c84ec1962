"""Pieces of OpenAPI that several routes share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from app.http import schemas
from app.http.problems import DETAILS, EXCEPTIONS, MEDIA_TYPE, PREFIX, SOMEWHERE, STATUSES, Kind

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


def errors(*statuses: int, also: tuple[Kind, ...] = ()) -> dict[int | str, dict[str, Any]]:
    """The problems a route can answer with, each kind as an example; `also` are those that no other route has."""
    kinds: dict[str, Kind] = {}
    everywhere = [kind for kind in EXCEPTIONS.values() if kind not in SOMEWHERE]
    for kind in (*STATUSES.values(), *everywhere, *also):
        kinds.setdefault(kind.slug, kind)
    answers: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        here = [kind for kind in kinds.values() if kind.status == status]
        examples = {
            kind.slug: {
                "value": {
                    "type": PREFIX + kind.slug,
                    "title": kind.title,
                    "status": kind.status,
                    "detail": DETAILS.get(kind.slug, kind.title),
                    "request_id": "5f0c2a",
                }
            }
            for kind in here
        }
        answers[status] = {
            "model": schemas.Problem,
            "description": "; ".join(kind.title for kind in here) + ".",
            "content": {MEDIA_TYPE: {"examples": examples}},
        }
    return answers


def pictures(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """A good answer with variants, in all its forms."""
    return {
        200: {
            "model": model,
            "description": "Variants, in the form that Accept asks for.",
            "content": {
                "application/zip": BINARY,
                "application/x-ndjson": {"schema": {"type": "string"}},
                "image/jpeg": BINARY,
                "image/webp": BINARY,
                "image/png": BINARY,
            },
        }
    }


PHOTO_ERRORS = (400, 406, 408, 413, 415, 422, 500, 503, 504)
