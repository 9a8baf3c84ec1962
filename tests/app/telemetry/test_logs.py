"""Logs: lines of JSON that say what happened, and nothing of what was sent."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from app.core.service import Service
from app.http import problems
from app.http.middleware import Envelope
from app.keys import make_key
from app.main import create_app
from app.ops.readiness import Readiness
from app.settings import Settings
from app.telemetry import logs
from app.telemetry.logs import JsonFormatter
from app.telemetry.metrics import Metrics

SECRET = "0.12345678,-0.87654321"
"""Stands for an identity."""

Logged = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Logged]:
    """Reads the lines on standard error, each of them JSON, with logs as the service configures them."""
    output = io.StringIO()
    monkeypatch.setattr(sys, "stderr", output)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    logs.configure("debug")
    logging.getLogger("httpx2").propagate = False  # that is the client
    yield lambda: [json.loads(line) for line in output.getvalue().splitlines()]
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("app").setLevel(logging.NOTSET)
    logging.getLogger("httpx2").propagate = True


def test_a_line_has_time_level_logger_event_and_extras(logged: Logged) -> None:
    logging.getLogger("app.somewhere").info("it happened", extra={"images": 3})
    (line,) = logged()
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "info", "logger": "app.somewhere", "event": "it happened", "images": 3}


def test_an_exception_is_its_type_and_place_without_its_message(logged: Logged) -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("app").exception("it failed")
    (line,) = logged()
    assert line["exception"] == "ValueError"
    assert "test_logs.py" in line["stack"][0]
    assert "0.1234" not in json.dumps(line)


def test_warnings_are_lines_too(logged: Logged) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    assert [line["logger"] for line in logged()] == ["py.warnings"]


def test_a_task_that_nobody_awaited_does_not_show_its_exception(logged: Logged) -> None:
    async def forget() -> None:
        async def fail() -> None:
            raise ValueError(SECRET)

        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    asyncio.run(forget())
    (line,) = (line for line in logged() if line["logger"] == "asyncio" and line["level"] == "error")
    assert line["event"] == "Task exception was never retrieved"
    assert "0.1234" not in json.dumps(line)


def test_libraries_are_not_heard_below_info(logged: Logged) -> None:
    logging.getLogger("PIL.TiffImagePlugin").debug("tag: GPSLatitude - value: 52.5")
    logging.getLogger("app.core.service").debug("ours")
    assert [line["event"] for line in logged()] == ["ours"]


def test_a_crash_of_the_process_is_a_line_without_the_message() -> None:
    program = f"from app.telemetry import logs; logs.configure('info'); raise RuntimeError('{SECRET}')"
    output = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=False).stderr
    line = json.loads(output)
    assert (line["event"], line["exception"]) == ("the process failed", "RuntimeError")
    assert "0.1234" not in output


def test_a_line_that_cannot_be_formatted_is_not_shown_raw(logged: Logged) -> None:
    logging.getLogger("app").info("%d images", SECRET)
    assert logged() == []


# Lines of requests


def line_of(client: TestClient, logged: Logged, method: str, path: str, **request: object) -> dict[str, Any]:
    client.request(method, path, **request)
    (line,) = (line for line in logged() if line["logger"] == "app.requests" and line["event"] == "request")
    return line


@pytest.fixture
def unstarted() -> TestClient:
    """The application without its models."""
    return TestClient(create_app(Settings()), raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("path", "level"),
    [("/", "info"), ("/health/live", "debug")],
    ids=["request", "a probe that goes well would drown the rest"],
)
def test_a_request_is_one_line(unstarted: TestClient, logged: Logged, path: str, level: str) -> None:
    line = line_of(unstarted, logged, "GET", path, headers={"X-Request-ID": "abc-1.2_3"})
    assert line.pop("time")
    assert line.pop("seconds") >= 0
    assert line == {
        "level": level,
        "logger": "app.requests",
        "event": "request",
        "request_id": "abc-1.2_3",
        "method": "GET",
        "route": path,
        "status": 200,
    }


@pytest.mark.parametrize("given", ["", "a b", "a" * 65, "é", "abc\t", '{"a":1}', "a/b", "<script>"])
def test_a_request_id_that_is_not_well_formed_is_replaced(unstarted: TestClient, given: str) -> None:
    made = unstarted.get("/health/live", headers={"X-Request-ID": given.encode()}).headers["X-Request-ID"]
    assert made != given
    assert len(made) == 32
    assert set(made) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("method", "path", "request_", "expected"),
    [
        ("GET", f"/v1/{SECRET}", {}, {"route": "none", "status": 404}),
        ("GET", "/v1/model", {"params": {"identity": SECRET}}, {"route": "/v1/model", "status": 503}),
        ("POST", f"/v1/variants?{SECRET}", {"content": SECRET}, {"route": "/v1/variants", "status": 415}),
        ("POST", "/v1/render", {"json": {"identity": SECRET}}, {"route": "/v1/render", "status": 422}),
        ("POST", "/v1/render", {"json": {SECRET: 1}}, {"route": "/v1/render", "status": 422}),
        ("POST", "/v1/render", {"content": SECRET}, {"route": "/v1/render", "status": 415}),
        (SECRET.replace(",", "!"), "/v1/render", {}, {"method": "other", "status": 405}),
        ("GET", "/v1/model", {"headers": {"User-Agent": SECRET, "Referer": SECRET}}, {"status": 503}),
        ("GET", "/v1/model", {"headers": {"Authorization": f"Bearer {SECRET}"}}, {"status": 503}),
    ],
)
def test_nothing_that_a_client_wrote_is_logged_or_counted(
    unstarted: TestClient,
    logged: Logged,
    method: str,
    path: str,
    request_: dict[str, object],
    expected: dict[str, object],
) -> None:
    line = line_of(unstarted, logged, method, path, **request_)
    assert line.items() >= expected.items()
    assert "0.1234" not in json.dumps(logged())
    assert "0.1234" not in unstarted.get("/metrics").text


def test_the_name_of_the_key_is_logged_and_never_the_key(logged: Logged) -> None:
    key, entry = make_key("camera-7")
    client = TestClient(create_app(Settings(keys=(entry,))), raise_server_exceptions=False)
    line = line_of(client, logged, "GET", "/v1/model", headers={"X-API-Key": key})
    assert line["key"] == "camera-7"
    assert key not in json.dumps(logged())


def test_a_defect_is_logged_under_its_request_id_without_its_message(logged: Logged) -> None:
    app = FastAPI()
    problems.install(app)

    @app.post("/defect")
    async def defect(request: Request) -> None:
        logging.getLogger("app.deep").warning("about to fail")
        raise ValueError(await request.body())

    settings, metrics = Settings(), Metrics()
    service = Service(settings, metrics)
    readiness = Readiness(service, settings.max_requests)
    app.add_middleware(Envelope, settings=settings, metrics=metrics, service=service, readiness=readiness)
    client = TestClient(app, raise_server_exceptions=False)
    answer = client.post("/defect", content=SECRET, headers={"X-Request-ID": "r1"})
    assert answer.status_code == 500
    assert "0.1234" not in answer.text
    lines = [line for line in logged() if line["logger"].startswith("app")]
    assert [(line["event"], line["request_id"]) for line in lines] == [
        ("about to fail", "r1"),
        ("request failed", "r1"),
        ("request", "r1"),
    ]
    assert lines[1]["exception"] == "ValueError"
    assert "0.1234" not in json.dumps(lines)


def test_a_formatted_line_is_one_line() -> None:
    record = logging.makeLogRecord({"msg": "one\ntwo", "name": "app", "levelname": "INFO"})
    assert "\n" not in JsonFormatter().format(record)
