"""What is generated is current: the API reference, and the pinned dependencies."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.http.reference import markdown
from app.main import create_app
from app.settings import Settings
from tests.docs.services import ROOT

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


def machine(system: str, kind: str) -> dict[str, str]:
    """What markers see on a machine with Python 3.12."""
    names = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}
    return {
        "sys_platform": system,
        "platform_system": names[system],
        "platform_machine": kind,
        "os_name": "nt" if system == "win32" else "posix",
        "python_version": "3.12",
        "python_full_version": "3.12.3",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


def resolved(environment: dict[str, str]) -> set[str]:
    """Names of all that a machine needs to serve, each with the one pin that the lock has for it there.

    What a dependency needs in turn is read from what is installed here.
    """
    queue, found = [Requirement(line) for line in PROJECT["dependencies"]], set()
    while queue:
        wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        applies = wanted.marker is None or any(
            wanted.marker.evaluate(environment | {"extra": extra}) for extra in {"", *wanted.extras}
        )
        if not applies or name in found:
            continue
        pins = [pin for pin in LOCK if canonicalize_name(pin.name) == name]
        pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(environment)]
        assert len(pins) == 1, f"{name} has {len(pins)} pins for {environment['sys_platform']}: run `make lock`"
        found.add(name)
        try:
            needs = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:
            continue
        queue += [need for need in needs if need.marker is None or need.marker.evaluate(environment)]
    return found


@pytest.mark.parametrize(
    ("system", "kind", "runtime"),
    [
        ("linux", "x86_64", "onnxruntime-gpu"),
        ("linux", "aarch64", "onnxruntime"),
        ("darwin", "arm64", "onnxruntime"),
        ("darwin", "x86_64", "onnxruntime"),
        ("win32", "AMD64", "onnxruntime-gpu"),
        ("win32", "ARM64", "onnxruntime"),
    ],
)
def test_the_lock_resolves_on_every_machine_to_one_runtime(system: str, kind: str, runtime: str) -> None:
    names = resolved(machine(system, kind))
    assert {name for name in names if name.startswith("onnxruntime")} == {runtime}
    assert {"fastapi", "numpy", "starlette"} <= names


def test_the_pins_name_no_host() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert "--" not in text
