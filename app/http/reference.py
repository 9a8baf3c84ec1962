"""The API reference in Markdown, made of the OpenAPI description: `python -m app reference`, kept as docs/api.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.http.problems import MEDIA_TYPE, PREFIX

Json = Mapping[str, Any]

HEAD = """\
# API reference

Made by `python -m app reference` from the OpenAPI description, which the service itself shows at `/docs` and
`/openapi.json`. What a number or a picture means stands in [the model card](../app/models/MODEL_CARD.md); how to use it
all in the guides: [harden a verifier](harden.md), [make training data](training-data.md), [operate](operate.md)."""

TITLES = {
    "faces": "Faces",
    "jobs": "Jobs",
    "model": "The model",
    "open inference protocol": "Open Inference Protocol",
    "operations": "Operations",
}


def markdown(description: Json) -> str:
    """The reference as one Markdown document.

    Args:
        description: what `app.openapi()` gives.
    """
    lines = [HEAD]
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    for tag in dict.fromkeys(tag for _, operation in operations for tag in operation["tags"]):
        lines.append(f"## {TITLES.get(tag, tag)}")
        for name, operation in operations:
            if tag in operation["tags"]:
                lines += _operation(name, operation)
    lines += ["## Problems", *_problems(operations), "## Data"]
    for name, schema in sorted(description["components"]["schemas"].items()):
        lines += [f"### {name}", *_prose(schema)]
        if schema.get("properties"):
            lines.append(_fields(schema))
    return "\n\n".join(lines) + "\n"


def _operation(name: str, operation: Json) -> Iterator[str]:
    yield f"### `{name}`"
    yield f"**{operation['summary']}.**" if operation["summary"][-1] not in "?." else f"**{operation['summary']}**"
    yield from _prose(operation)
    if operation.get("parameters"):
        rows = [
            [
                f"`{item['name']}`" + (" (required)" if item.get("required") else ""),
                item["in"],
                _kind(item["schema"]),
                item.get("description") or item["schema"].get("description", ""),
            ]
            for item in operation["parameters"]
        ]
        yield _table(["parameter", "in", "type", "meaning"], rows)
    bodies = operation.get("requestBody", {}).get("content", {})
    if bodies:
        yield "Body: " + "; ".join(_content(form, content) for form, content in bodies.items()) + "."
    for status, answer in operation["responses"].items():
        if status.startswith("2") and answer.get("content"):
            forms = (_content(form, content) for form, content in answer["content"].items())
            yield f"Answer {status}: " + "; ".join(forms) + "."
    if failures := [
        f"{status} ({', '.join(f'`{slug}`' for slug in slugs)})" if (slugs := _slugs(answer)) else status
        for status, answer in operation["responses"].items()
        if not status.startswith("2")
    ]:
        yield "Problems: " + ", ".join(failures) + "."


def _content(form: str, content: Json) -> str:
    """A media type, and what is in it."""
    schema = content.get("schema", {})
    if schema.get("properties") and form.startswith("multipart/"):
        files = [
            name
            for name, item in schema["properties"].items()
            if "binary" in (item.get("format"), item.get("items", {}).get("format"))
        ]
        named = " and ".join(f"`{name}`" for name in files)
        return f"`{form}` with the file{'s' * (len(files) > 1)} {named}, and parameters as further fields"
    kind = _kind(schema) if schema else ""
    return f"`{form}`" + (f" with {kind}" if kind.startswith("[") else "")


def _slugs(answer: Json) -> list[str]:
    examples = answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
    return list(examples)


def _problems(operations: Sequence[tuple[str, Json]]) -> Iterator[str]:
    yield (
        f"Errors are problem details (RFC 9457), `{MEDIA_TYPE}`: see Problem below. The `type` is `{PREFIX}` and "
        "one of these names. The Open Inference Protocol has a form of its own: ProtocolError."
    )
    known: dict[str, Json] = {}
    for _, operation in operations:
        for answer in operation["responses"].values():
            for slug, example in answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}).items():
                known[slug] = example["value"]
    rows = [
        [f"`{slug}`", str(problem["status"]), problem["title"], problem["detail"]] for slug, problem in known.items()
    ]
    yield _table(["name", "status", "title", "detail, for instance"], sorted(rows, key=lambda row: (row[1], row[0])))


def _fields(schema: Json) -> str:
    needed = schema.get("required", ())
    rows = [
        [
            f"`{name}`" + (" (required)" if name in needed else ""),
            _kind(item),
            _default(item),
            item.get("description", ""),
        ]
        for name, item in schema["properties"].items()
    ]
    return _table(["field", "type", "default", "meaning"], rows)


def _prose(item: Json) -> Iterator[str]:
    text = item.get("description", "").strip()
    if text:
        yield text


def _default(schema: Json) -> str:
    default = schema.get("default")
    return "-" if default is None or default == {} or default == [] else f"`{default}`"


def _kind(schema: Json) -> str:
    """What a schema allows, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_kind(item) for item in schema[key] if item.get("type") != "null"))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "anything")
    if kind == "array":
        return _array(schema)
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"object of {_kind(inner)}" if isinstance(inner, dict) and inner else "object"
    return str(kind) + _range(schema)


def _array(schema: Json) -> str:
    low, high = schema.get("minItems"), schema.get("maxItems")
    size = "" if high is None and low is None else str(high) if low == high else f"{low or 0} to {high or 'any'}"
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])}: {', '.join(map(_kind, schema['prefixItems']))}"
    kind = _kind(schema.get("items", {}))
    return f"list of {size}{': ' if size else ''}{f'({kind})' if ' or ' in kind else kind}"


def _range(schema: Json) -> str:
    low, high, below = (_number(schema.get(bound)) for bound in ("minimum", "maximum", "exclusiveMaximum"))
    if low and (high or below):
        return f", {low} to {high or f'below {below}'}"
    return f", {low} or more" if low else f", at most {high}" if high else f", below {below}" if below else ""


def _number(value: float | None) -> str:
    return "" if value is None else str(int(value) if value == int(value) else value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in row) + " |" for row in lines
    )
