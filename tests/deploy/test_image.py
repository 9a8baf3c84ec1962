"""The Dockerfile and what it puts into the images; tests/deploy/replay.py carries it out."""

from __future__ import annotations

import io
import json
import re
import shlex
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser

from app import __version__
from app.settings import Settings
from tests.patience import until
from tests.ports import Port

TARGETS = ("cpu", "cuda")


@pytest.fixture(scope="module")
def stages(root: Path) -> dict[str, list[dict[str, Any]]]:
    """The instructions of each stage, from its FROM on."""
    found: dict[str, list[dict[str, Any]]] = {}
    for step in DockerfileParser(fileobj=io.BytesIO((root / "Dockerfile").read_bytes())).structure:
        if step["instruction"] == "FROM":
            found[step["value"].split()[-1]] = steps = []
        if step["instruction"] != "COMMENT":
            steps.append(step)
    return found


def values(steps: list[dict[str, Any]], instruction: str) -> list[str]:
    return [step["value"] for step in steps if step["instruction"] == instruction]


def pairs(steps: list[dict[str, Any]], instruction: str) -> dict[str, str]:
    return dict(word.split("=", 1) for value in values(steps, instruction) for word in shlex.split(value))


def test_hadolint_finds_nothing(root: Path, program: Callable[[str], str]) -> None:
    lint = subprocess.run([program("hadolint"), "Dockerfile"], cwd=root, capture_output=True, text=True, check=False)
    assert (lint.returncode, lint.stdout) == (0, ""), lint.stderr


def test_base_images_have_a_version(stages: dict[str, list[dict[str, Any]]]) -> None:
    for name, steps in stages.items():
        assert re.search(r":\d+\.\d+", steps[0]["value"].split()[0]), name


@pytest.mark.parametrize("target", TARGETS)
def test_it_runs_without_privileges_and_gets_signals(
    stages: dict[str, list[dict[str, Any]]], target: str, settings_from: Callable[[dict[str, str]], Settings]
) -> None:
    steps = stages[target]
    assert values(steps, "USER") == ["10001:10001"]
    # A shell as process 1 would not hand SIGTERM on.
    assert json.loads(values(steps, "ENTRYPOINT")[0]) + json.loads(values(steps, "CMD")[0]) == [
        *("python3", "-m", "app"),
        "serve",
    ]
    check = json.loads(values(steps, "HEALTHCHECK")[0].partition("CMD ")[2])
    assert check[-1] == "/srv/lookalike/healthcheck.py"
    settings = settings_from(pairs(steps, "ENV"))
    assert (settings.device, settings.host, [str(settings.port)]) == (target, "0.0.0.0", values(steps, "EXPOSE"))
    assert pairs(steps, "LABEL")["org.opencontainers.image.version"] == __version__
    assert steps[0]["value"].split()[0] in pairs(steps, "LABEL")["org.opencontainers.image.base.name"]


def test_both_targets_differ_in_base_and_device_only(stages: dict[str, list[dict[str, Any]]]) -> None:
    def common(target: str) -> list[tuple[str, str]]:
        return [
            (
                step["instruction"],
                step["value"].replace(f"{target}-build", "build").replace(f"DEVICE={target}", "DEVICE="),
            )
            for step in stages[target]
            if step["instruction"] not in ("FROM", "LABEL", "RUN", "HEALTHCHECK")
        ]

    assert common("cpu") == common("cuda")


def test_what_is_copied_is_there_and_not_ignored(root: Path, stages: dict[str, list[dict[str, Any]]]) -> None:
    let_in = [line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = {
        source
        for steps in stages.values()
        for value in values(steps, "COPY")
        if "--from" not in value
        for source in value.split()[:-1]
    }
    assert copied == set(let_in)
    assert all((root / source).exists() for source in copied)


def test_requirements_are_those_of_the_project(root: Path) -> None:
    printed = subprocess.run(
        [sys.executable, "deploy/requirements.py", "redis"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert printed == project["dependencies"] + project["optional-dependencies"]["redis"]


@contextmanager
def answering(status: int, host: str = "127.0.0.1") -> Iterator[int]:
    """A server that gives every request this status; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    class Listening(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with Listening((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (401, True), (503, False)])
def test_health_check_tells_by_the_answer(root: Path, status: int, healthy: bool) -> None:
    with answering(status) as port:
        # It waits 4 s for an answer, which may be too short on a busy machine.
        until(lambda: (checked(root, port) == 0) is healthy, "it was told so")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.2", "::1"])
def test_health_check_asks_where_the_service_listens(root: Path, host: str) -> None:
    try:
        with answering(200, host) as port:
            until(lambda: checked(root, port, LOOKALIKE_HOST=host) == 0, "it was told so")
    except OSError as error:
        pytest.skip(f"there is no address {host} on this machine ({error.strerror})")


def test_health_check_fails_where_nobody_answers(root: Path) -> None:
    port = Port()  # kept from others, who could answer
    assert checked(root, port.number) == 1
    port.release()


def checked(root: Path, port: int, **environment: str) -> int:
    command = [sys.executable, root / "deploy" / "healthcheck.py"]
    environment["LOOKALIKE_PORT"] = str(port)
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode
