"""What a client sends: photographs and parameters, as a form or as raw bytes with a query.

Everything stays in memory; the framework's own form parser would put large files into the temporary directory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.errors import Overloaded
from app.http.problems import INVALID_PARAMETERS, ProblemError, parameter_problems, refuse
from app.http.schemas import ParameterProblem
from app.runtime.batching import Gate

FORM = "multipart/form-data"
IMAGES = ("image/jpeg", "image/png", "image/webp")
MAX_FIELDS = 32

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True)
class Upload:
    """The photographs of a request by field name, and its parameters from form and query together."""

    photos: dict[str, bytes]
    parameters: dict[str, str]


async def read_upload(request: Request, gate: Gate, *names: str) -> Upload:
    """Read photographs with the given field names; raw bytes will do where there is only one.

    Raises:
        ProblemError: 400 nothing there, 415 another media type, 422 a field that is missing, unknown or given twice.
        Overloaded: there is no room for one more image.
    """
    refuse_if_full(gate)
    pairs = list(request.query_params.multi_items())
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == FORM:
        photos, fields = await _read_form(request, names)
        pairs += fields
    elif media_type in IMAGES and len(names) == 1:
        photos = {names[0]: await request.body()}
    elif not media_type and not await request.body():
        raise refuse(400, f"The body is empty. {_how(names)}")
    else:
        what = media_type or "A body without media type"
        raise refuse(415, f"{what} is not taken here. {_how(names)}", {"Accept": _taken(names)})
    for name in names:
        if not photos.get(name):
            raise refuse(400, f"The photograph '{name}' is missing or empty. {_how(names)}")
    twice = {name for name, _ in pairs if [key for key, _ in pairs].count(name) > 1}
    if twice:
        problems = [ParameterProblem(name=name, message="is given more than once") for name in sorted(twice)]
        detail = "; ".join(f"{problem.name}: {problem.message}" for problem in problems)
        raise ProblemError(INVALID_PARAMETERS, detail, errors=problems)
    return Upload(photos, dict(pairs))


def refuse_if_full(gate: Gate) -> None:
    """Refuse before the body is read: under overload, what refusals cost is taken from those that are served.

    Raises:
        Overloaded: there is no room for one more image.
    """
    if gate.full:
        raise Overloaded(gate.retry_after())


def parse(model: type[P], parameters: dict[str, str]) -> P:
    """Validate parameters.

    Raises:
        RequestValidationError: one is invalid or unknown.
    """
    try:
        return model.model_validate(parameters)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False, include_url=False)) from None


def documented(model: type[BaseModel], photos: dict[str, str]) -> dict[str, Any]:
    """The OpenAPI of a body that `read_upload` reads: its photographs (name -> meaning) and parameters."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    properties = {name: _as_text(field) for name, field in schema["properties"].items()}
    binary = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "required": list(photos),
        "properties": {name: binary | {"description": meaning} for name, meaning in photos.items()} | properties,
        "additionalProperties": False,
    }
    content: dict[str, Any] = {FORM: {"schema": form}}
    if len(photos) == 1:
        content |= {image: {"schema": binary} for image in IMAGES}
    query = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": field.get("description", ""),
            "schema": {key: value for key, value in field.items() if key != "description"},
        }
        for name, field in properties.items()
    ]
    return {"requestBody": {"required": True, "content": content}, "parameters": query}


async def _read_form(request: Request, names: Iterable[str]) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    parser = MultiPartParser(
        request.headers, request.stream(), max_files=len(tuple(names)), max_fields=MAX_FIELDS, max_part_size=2**18
    )
    parser.spool_max_size = 2**62  # never to disk; the size of the whole body is bounded elsewhere
    try:
        form = await parser.parse()
    except ValueError:
        # The charset that the client named: it may be any codec of Python's, and they fail in ways of their own.
        raise refuse(400, "The form cannot be read: its text is not in the charset that it names.") from None
    except (MultiPartException, KeyError) as error:
        message = getattr(error, "message", "it has no boundary")
        raise refuse(400, f"The form cannot be read: {message}") from None
    photos: dict[str, bytes] = {}
    fields: list[tuple[str, str]] = []
    unknown = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name in names:
                photos[name] = await value.read()
            else:
                unknown.append(name)
        elif name in names:
            raise refuse(400, f"'{name}' is text; send it as a file.")
        else:
            fields.append((name, value))
    if unknown:
        errors = [{"loc": (name,), "type": "extra_forbidden", "msg": ""} for name in unknown]
        problems = parameter_problems(errors)
        raise ProblemError(INVALID_PARAMETERS, f"{unknown[0]}: {problems[0].message}", errors=problems)
    return photos, fields


def _as_text(field: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema as it travels in a query or form: no null, no alternatives, lists as a JSON string."""
    field = {key: value for key, value in field.items() if key != "title"}
    options = [option for option in field.get("anyOf", []) if option != {"type": "null"}]
    if len(options) == 1:
        field = {key: value for key, value in field.items() if key not in ("anyOf", "default")} | options[0]
    elif options:
        # A form or a query has text alone, and generated clients stumble over a word or a number.
        field = {key: value for key, value in field.items() if key != "anyOf"} | {"type": "string"}
        words = [word for option in options for word in option.get("enum", [option.get("const")]) if word is not None]
        if words:
            field["pattern"] = f"^({'|'.join(words)}|[0-9]+)$"
    if (default := field.pop("default", None)) is not None:
        # As words: generated clients send a default that they know, in query and form at once.
        field["description"] = f"{field.get('description', '')} Default: {default}.".strip()
    if field.get("type") == "array":
        field = {"type": "string", "description": field.get("description", "")}
    return field


def _taken(names: tuple[str, ...]) -> str:
    return ", ".join((FORM, *IMAGES) if len(names) == 1 else (FORM,))


def _how(names: tuple[str, ...]) -> str:
    fields = " and ".join(f"'{name}'" for name in names)
    raw = f", or the bytes of the photograph as {', '.join(IMAGES)}" if len(names) == 1 else ""
    return f"Send {FORM} with the file field{'s' if len(names) > 1 else ''} {fields}{raw}."
