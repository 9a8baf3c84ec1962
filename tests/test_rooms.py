"""The rooms of `app`, and the ways between them: a reader of the folder names knows what a thing may touch."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
APP = ROOT / "app"
ARCHITECTURE = ROOT / "docs" / "architecture.md"

MAY_USE: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "telemetry": set(),
    "keys": {"errors"},
    "settings": {"keys", "telemetry"},
    "runtime": {"errors"},
    "core": {"errors", "telemetry", "settings", "runtime"},
    "batch": {"errors", "telemetry", "settings", "runtime", "core", "keys"},
    "ops": {"errors", "telemetry", "settings", "runtime", "core", "keys"},
    "audit": {"errors", "telemetry", "settings", "runtime", "core", "keys", "batch"},
    "http": {"errors", "telemetry", "settings", "runtime", "core", "keys", "batch", "ops"},
    "main": {"telemetry", "settings", "core", "http", "batch", "ops"},
    "__main__": {"errors", "telemetry", "settings", "runtime", "keys", "http", "batch", "ops", "audit", "main"},
}
"""Each room, and the rooms that it may use; `app` itself, its version, is open to all. Lower rooms stand first."""

WEB = {"fastapi", "starlette", "uvicorn", "httptools", "multipart", "mimeparse"}
ONLY_IN: dict[str, set[str]] = {
    **{package: {"http", "main"} for package in WEB},
    "ray": {"batch"},
    "onnxruntime": {"runtime", "ops"},
    "torch": set(),
    "model_export": set(),
    "studies": set(),
}
"""Packages that only some rooms may import; the service needs none of what trains the networks."""


def modules() -> dict[str, ast.Module]:
    """The modules of `app` by their dotted names, parsed."""
    found = {}
    for path in sorted(APP.rglob("*.py")):
        parts = path.relative_to(APP.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.AST) -> set[str]:
    """Everything that is imported anywhere in a module, in functions and for type checks too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "an import says in full where it leads"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = modules()


def room(module: str) -> str:
    """The room that a module stands in."""
    return module.split(".")[1] if "." in module else "__init__"


def uses(module: str) -> set[str]:
    """The modules of `app` that a module imports."""
    found = set()
    for name in imported(MODULES[module]):
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        if name:
            found.add(name)
    return found - {module}


def test_an_import_within_a_function_counts() -> None:
    assert "app.batch.ray" in uses("app.batch.command")


def test_the_table_names_every_room_and_no_other() -> None:
    assert set(MAY_USE) == {room(module) for module in MODULES}


def test_the_table_leads_down() -> None:
    lower: set[str] = set()
    for name, others in MAY_USE.items():
        assert others <= lower, f"{name} stands above what it uses"
        lower.add(name)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_uses_only_what_its_room_may(module: str) -> None:
    here = room(module)
    others = {room(other) for other in uses(module)} - {here, "__init__"}
    assert others <= MAY_USE[here], f"{module} imports from {', '.join(sorted(others - MAY_USE[here]))}"
    packages = {name.partition(".")[0] for name in imported(MODULES[module])}
    strangers = {package for package, rooms in ONLY_IN.items() if package in packages and here not in rooms}
    assert not strangers, f"{module} imports {', '.join(sorted(strangers))}"


def test_no_way_leads_back_to_where_it_began() -> None:
    graph = {module: uses(module) for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_nothing_uses_the_studies() -> None:
    for path in sorted((ROOT / "model_export").rglob("*.py")):
        names = imported(ast.parse(path.read_text(encoding="utf-8")))
        assert not any(name.partition(".")[0] == "studies" for name in names), path


@pytest.mark.parametrize("folder", ["app", "model_export", "studies", "tests", "benchmarks", "examples", "deploy"])
def test_files_and_functions_stay_short(folder: str) -> None:
    long = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if (lines := text.count("\n")) >= 400:
            long.append(f"{path.relative_to(ROOT)} has {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines >= 60:
                    long.append(f"{path.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert long == []


def reached(room: str, arrows: set[tuple[str, str]]) -> set[str]:
    """All rooms that arrows lead to, one after another."""
    found = {end for start, end in arrows if start == room}
    return found.union(*(reached(end, arrows) for end in found))


def test_the_picture_shows_the_table() -> None:
    """A room may use what can be reached from it: no more than the picture shows, and all that it shows."""
    picture = ARCHITECTURE.read_text(encoding="utf-8").partition("```mermaid")[2].partition("```")[0]
    arrows = set(re.findall(r"^ +(\w+)(?:\[.*?\])? --> (\w+)", picture, re.MULTILINE))
    rooms = {end for arrow in arrows for end in arrow}
    assert rooms == set(MAY_USE) - {"__init__", "__main__"}  # which is drawn with main
    for room in rooms:
        allowed = MAY_USE[room] | (MAY_USE["__main__"] - {"main"} if room == "main" else set())
        assert allowed <= reached(room, arrows), room
        assert {end for start, end in arrows if start == room} <= allowed, room


def test_every_path_that_the_architecture_names_is_there() -> None:
    named = set(re.findall(r"`((?:app|model_export|tests)/[\w./]*)`", ARCHITECTURE.read_text(encoding="utf-8")))
    assert len(named) > 30
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
