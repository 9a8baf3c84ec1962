"""What a client sends: photographs and parameters, as a form, as JSON, or as raw bytes with a query.

Everything stays in memory; the framework's own form parser would put large files into the temporary directory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.errors import Overloaded
from app.http.json_bodies import read_json
from app.http.negotiation import JSON
from app.http.problems import INVALID_PARAMETERS, ProblemError, parameter_problems, refuse
from app.http.schemas import ParameterProblem
from app.runtime.batching import Gate

FORM = "multipart/form-data"
IMAGES = ("image/jpeg", "image/png", "image/webp")
BYTES = "application/octet-stream"
BINARY = {"type": "string", "format": "binary"}
MAX_FIELDS = 32
CHARSETS = ("utf-8", "ascii", "iso8859-1", "cp1252")
"""Of a form's text, as Python calls them. Among its other codecs are some that take minutes for a field (punycode is
quadratic), and some that give what is no text (UTF-7 has surrogates)."""

_EXTENDED_NAME = re.compile(rb";\s*filename\*", re.IGNORECASE)

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True)
class Upload:
    """The photographs of a request by field name, and its parameters from form and query together."""

    photos: dict[str, bytes]
    parameters: dict[str, str]
    members: dict[str, Any] = field(default_factory=dict)
    """Parameters of a JSON body, where there was one: numbers are numbers there."""


async def read_upload(request: Request, gate: Gate, *names: str) -> Upload:
    """Read photographs with the given field names; raw bytes will do where there is only one.

    In JSON a photograph is a string in base64.

    Raises:
        ProblemError: 400 nothing there, 415 another media type, 422 a field that is missing, unknown or given twice.
        Overloaded: there is no room for one more image.
    """
    refuse_if_full(gate)
    pairs = list(request.query_params.multi_items())
    members: dict[str, Any] = {}
    media_type = _media_type(request)
    if media_type == FORM:
        photos, fields = await _read_form(request, names)
        pairs += fields
    elif media_type == JSON or media_type.endswith("+json"):
        photos, members = await run_in_threadpool(read_json, await request.body(), names)
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
    return Upload(photos, once(pairs, members), members)


def once(pairs: Iterable[tuple[str, str]], members: Iterable[str] = ()) -> dict[str, str]:
    """Parameters by name; `members` are names that stand elsewhere as well.

    Raises:
        ProblemError: 422, one is given more than once.
    """
    pairs = list(pairs)
    given = Counter([*members, *(name for name, _ in pairs)])
    twice = sorted(name for name, times in given.items() if times > 1)
    if twice:
        raise _invalid(twice, "is given more than once")
    return dict(pairs)


def _invalid(names: Iterable[str], message: str) -> ProblemError:
    """The same is wrong with parameters of these names."""
    problems = [ParameterProblem(name=name, message=message) for name in names]
    detail = "; ".join(f"{problem.name}: {problem.message}" for problem in problems)
    return ProblemError(INVALID_PARAMETERS, detail, errors=problems)


def refuse_if_full(gate: Gate) -> None:
    """Refuse before the body is read: under overload, what refusals cost is taken from those that are served.

    Raises:
        Overloaded: there is no room for one more image.
    """
    if gate.full:
        raise Overloaded(gate.retry_after())


async def json_alone(request: Request) -> None:
    """Refuse a body that is no JSON by its media type, which the framework would find to be "no dictionary".

    Raises:
        ProblemError: 415.
    """
    media_type = _media_type(request)
    if media_type != JSON and not media_type.endswith("+json"):
        what = media_type or "A body without media type"
        raise refuse(415, f"{what} is not taken here. Send {JSON}, and say so in Content-Type.", {"Accept": JSON})


async def no_query(request: Request) -> None:
    """Refuse parameters in the query where the body alone has them, which would be passed over otherwise.

    Raises:
        ProblemError: 422.
    """
    if names := sorted(set(request.query_params)):
        raise _invalid(names, "stands in the body here, not in the query")


def parse(model: type[P], upload: Upload) -> P:
    """Validate parameters: text leniently, since all is text in a form or a query, JSON strictly.

    Raises:
        RequestValidationError: one is invalid or unknown.
    """
    values: dict[str, Any] = dict(upload.parameters)
    try:
        if upload.members:
            values = {name: _typed(model, name, text) for name, text in values.items()} | upload.members
        # Not False: that would undo what is strict in any case.
        return model.model_validate(values, strict=True if upload.members else None)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False, include_url=False)) from None


def _typed(model: type[BaseModel], name: str, text: str) -> Any:
    """A parameter of the query as the value that it stands for, to be checked together with JSON."""
    if name not in model.model_fields:
        return text
    field = model.model_fields[name]
    kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    try:
        return TypeAdapter(kind).validate_python(text)
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        raise RequestValidationError([detail | {"loc": (name, *detail["loc"])} for detail in details]) from None


def documented(model: type[BaseModel], photos: dict[str, str]) -> dict[str, Any]:
    """The OpenAPI of a body that `read_upload` reads: its photographs (name -> meaning) and parameters.

    Of parameters that may stand in the query or in the form, the query alone has them: who sees both, as Swagger UI
    shows them, would fill in both.
    """
    encoded = {"type": "string", "contentEncoding": "base64"}
    members = {
        "type": "object",
        "required": list(photos),
        "properties": {name: encoded | {"description": f"{meaning} In base64."} for name, meaning in photos.items()}
        | {name: _untitled(field) for name, field in _properties(model).items()},
        "additionalProperties": False,
    }
    files = {name: BINARY | {"description": meaning} for name, meaning in photos.items()}
    content: dict[str, Any] = {FORM: {"schema": _form(files, list(photos))}, JSON: {"schema": members}}
    if len(photos) == 1:
        content |= {image: {"schema": BINARY} for image in IMAGES}
    return {"requestBody": {"required": True, "content": content}, "parameters": query_of(model)}


def documented_job(model: type[BaseModel], archives: Iterable[str]) -> dict[str, Any]:
    """The OpenAPI of a job: files of a form, or an archive of one of these media types, and parameters."""
    files = {
        "archive": BINARY | {"description": "A zip or a tar of photographs."},
        "image": {
            "type": "array",
            "items": BINARY,
            "description": "Photographs, as many as there are; each under its own name, folders of people included.",
        },
    }
    content: dict[str, Any] = {FORM: {"schema": _form(files, [])}}
    content |= {archive: {"schema": BINARY} for archive in archives}
    return {"requestBody": {"required": True, "content": content}, "parameters": query_of(model)}


def query_of(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Parameters as OpenAPI has those of a query."""
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": field.get("description", ""),
            "schema": {key: value for key, value in field.items() if key != "description"},
        }
        for name, field in ((name, _as_text(field)) for name, field in _properties(model).items())
    ]


def _properties(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = model.model_json_schema(ref_template="#/components/schemas/{model}")[
        "properties"
    ]
    return found


def _form(files: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        **({"required": required} if required else {}),
        "properties": files,
        "additionalProperties": {"type": "string", "description": "Parameters may stand here instead of the query."},
    }


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


class _Parts(MultiPartParser):
    """The framework's parser, which knows a file by its `filename` alone."""

    spool_max_size = 2**62  # never to disk; the size of the whole body is bounded elsewhere

    def on_part_begin(self) -> None:
        """A part begins: can its text be read?"""
        if self._charset not in CHARSETS:
            raise MultiPartException("its charset is not taken here; send its text in UTF-8")
        super().on_part_begin()

    def on_headers_finished(self) -> None:
        """The headers of a part are there: is it a file?"""
        part = self._current_part
        kind = dict(part.item_headers).get(b"content-type", b"").lower()
        # `filename*` (RFC 5987) has no place in a form (RFC 7578), and yet some clients send nothing else; others leave
        # the name away. The name is never used.
        if _EXTENDED_NAME.search(part.content_disposition or b"") or kind.startswith((b"image/", BYTES.encode())):
            part.content_disposition = (part.content_disposition or b"") + b'; filename="photograph"'
        super().on_headers_finished()


async def _read_form(request: Request, names: Iterable[str]) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    parser = _Parts(
        request.headers, request.stream(), max_files=len(tuple(names)), max_fields=MAX_FIELDS, max_part_size=2**18
    )
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


def _untitled(field: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in field.items() if key != "title"}


def _as_text(field: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema as it travels in a query or form: no null, no alternatives, lists as a JSON string."""
    field = _untitled(field)
    options = [
        each
        for option in field.get("anyOf", [])
        if option != {"type": "null"}
        for each in option.get("oneOf", [option])
    ]
    if len(options) == 1:
        field = {key: value for key, value in field.items() if key not in ("anyOf", "default")} | options[0]
    elif options:
        # A form or a query has text alone, and generated clients stumble over a word or a number.
        field = {key: value for key, value in field.items() if key != "anyOf"} | {"type": "string"}
        words = [word for option in options for word in option.get("enum", [option.get("const")]) if word is not None]
        if words:
            field["pattern"] = f"^({'|'.join(words)}|[0-9]{{1,9}})$"
    if (default := field.pop("default", None)) is not None:
        # As words: generated clients send a default that they know, in query and form at once.
        field["description"] = f"{field.get('description', '')} Default: {default}.".strip()
    if field.get("type") == "array":
        field = {"type": "string", "description": field.get("description", "")}
    return field


def _taken(names: tuple[str, ...]) -> str:
    return ", ".join((FORM, JSON, *IMAGES) if len(names) == 1 else (FORM, JSON))


def _how(names: tuple[str, ...]) -> str:
    fields = " and ".join(f"'{name}'" for name in names)
    raw = f", or the bytes of the photograph as {', '.join(IMAGES)}" if len(names) == 1 else ""
    plural = "s" if len(names) > 1 else ""
    return f"Send {FORM} with the file field{plural} {fields}, or {JSON} with {fields} in base64{raw}."
