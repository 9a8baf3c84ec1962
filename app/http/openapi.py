"""The OpenAPI description, completed: what the framework derives from the routes, and what it cannot know."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI

from app.http import access, examples
from app.http.bodies import FORM
from app.http.negotiation import JSON, NDJSON
from app.http.problems import MEDIA_TYPE, PREFIX
from app.settings import Settings

PROBLEM = {"$ref": "#/components/schemas/Problem"}


def install(app: FastAPI, settings: Settings) -> None:
    """Let `app.openapi` give the completed description."""
    derive = app.openapi

    def openapi() -> dict[str, Any]:
        known = app.openapi_schema is not None
        schema = derive()
        if not known:
            access.document(schema, settings)
            for path, operations in schema["paths"].items():
                for method, operation in operations.items():
                    _complete(f"{method.upper()} {path}", operation)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(name: str, operation: dict[str, Any]) -> None:
    for answer in operation["responses"].values():
        content = answer.get("content", {})
        if MEDIA_TYPE in content:
            # The framework writes the schema of any model under application/json.
            content.pop(JSON, None)
            content[MEDIA_TYPE]["schema"] = PROBLEM
            for slug, example in content[MEDIA_TYPE].get("examples", {}).items():
                example["value"] |= {
                    "type": PREFIX + slug,
                    "detail": examples.DETAILS.get(slug, example["value"]["detail"]),
                    "request_id": examples.REQUEST_ID,
                }
    if name in examples.ANSWERS:
        example = examples.ANSWERS[name].model_dump(mode="json")
        content = next(answer for status, answer in operation["responses"].items() if status < "300")["content"]
        content[JSON]["example"] = example
        if NDJSON in content:
            content[NDJSON]["example"] = "".join(json.dumps(variant) + "\n" for variant in example["variants"])
    bodies = operation.get("requestBody", {}).get("content", {})
    if name in examples.FORMS:
        bodies[FORM]["example"] = examples.FORMS[name]
    if name in examples.BODIES:
        bodies[JSON]["example"] = examples.BODIES[name]
