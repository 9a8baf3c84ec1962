"""What is generated is current: the API reference, and the pinned dependencies."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.http.reference import markdown
from app.main import create_app
from app.settings import Settings
from tests.docs.documents import ROOT

REFERENCE = ROOT / "docs" / "api.md"
LOCK = [Requirement(line) for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WANTED = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]


def test_the_api_reference_is_current() -> None:
    current = markdown(create_app(Settings.model_construct()).openapi())
    assert REFERENCE.read_text(encoding="utf-8") == current, "run `python -m app reference > docs/api.md`"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 64}, "integer, 1 to 64"),
        ({"type": "integer", "minimum": 0, "exclusiveMaximum": 4294967296.0}, "integer, 0 to below 4294967296"),
        ({"type": "number", "minimum": 0.5}, "number, 0.5 or more"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string"),
        ({"type": "array", "minItems": 1, "maxItems": 64, "items": {"type": "string"}}, "list of 1 to 64: string"),
        ({"$ref": "#/components/schemas/Problem"}, "[Problem](#problem)"),
    ],
)
def test_a_schema_reads_as_words(schema: dict[str, object], words: str) -> None:
    described = {
        "paths": {},
        "components": {"schemas": {"Thing": {"properties": {"part": schema}}}},
    }
    assert f"| `part` | {words} | - |  |" in markdown(described)


@pytest.mark.parametrize("line", [line for line in WANTED if canonicalize_name(Requirement(line).name) != "lookalike"])
def test_every_dependency_is_pinned_within_its_range(line: str) -> None:
    wanted = Requirement(line)
    pins = [pin for pin in LOCK if canonicalize_name(pin.name) == canonicalize_name(wanted.name)]
    assert pins, f"{wanted.name} is not in requirements.lock: run `make lock`"
    for pin in pins:
        (version,) = re.findall(r"==([^,]+)", str(pin.specifier))
        assert wanted.specifier.contains(version), f"{pin} is outside {wanted}: run `make lock`"


def test_the_pins_name_no_host() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert "--" not in text
