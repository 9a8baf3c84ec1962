"""Tracing: a span a request, a span a stage, and nothing of a face in them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import ValidationError

from app.main import create_app
from app.settings import Settings
from app.telemetry import tracing
from app.telemetry.logs import JsonFormatter

JPEG = {"Content-Type": "image/jpeg"}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def run(program: str, **variables: str) -> str:
    """What a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={name: value for name, value in os.environ.items() if not name.startswith("LOOKALIKE_")} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], tuple[ReadableSpan, ...]]]:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    exporter = InMemorySpanExporter()
    tracing.configure(SimpleSpanProcessor(exporter))
    yield exporter.get_finished_spans
    tracing.stop()


@pytest.fixture
def traced(spans: object, new_client: Callable[..., TestClient]) -> TestClient:
    return new_client(tracing=True)


def test_a_request_is_a_span_with_its_stages_below_it(
    traced: TestClient, spans: Callable[[], tuple[ReadableSpan, ...]], photo: bytes
) -> None:
    headers = JPEG | {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "r1"}
    assert traced.post("/v1/variants?count=2", content=photo, headers=headers).status_code == 200
    *stages, request = spans()
    assert request.name == "POST /v1/variants"
    assert request.kind is SpanKind.SERVER
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/variants",
        "http.response.status_code": 200,
        "lookalike.request_id": "r1",
    }
    assert request.status.status_code is StatusCode.UNSET
    assert {"read", "detect", "align", "encode", "decode", "write"} <= {stage.name for stage in stages}
    for stage in stages:
        assert stage.parent.span_id == request.context.span_id
        assert request.start_time <= stage.start_time <= stage.end_time <= request.end_time
    resource = request.resource.attributes
    assert resource["service.name"] == "lookalike"
    assert resource["deployment.environment.name"] == "test"


def test_spans_hold_nothing_of_a_face(
    traced: TestClient, spans: Callable[[], tuple[ReadableSpan, ...]], photo: bytes
) -> None:
    answer = traced.post("/v1/identities", content=photo, headers=JPEG | {"tracestate": "face=0.123"}).json()
    identity = answer["faces"][0]["identity"]
    traced.post("/v1/render?0.123", json={"identity": identity, "count": 1})
    traced.post("/v1/render", json={"identity": [*identity, 0.5]})
    traced.post("/v1/variants?face=0.123", content=photo[:1000], headers=JPEG)
    traced.get(f"/v1/{identity[0]}")
    finished = spans()
    assert len([span for span in finished if span.kind is SpanKind.SERVER]) == 5
    allowed = {
        "http.request.method",
        "http.route",
        "http.response.status_code",
        "lookalike.request_id",
        "lookalike.problem",
        "error.type",
    }
    for span in finished:
        assert set(span.attributes) <= allowed
        assert not span.events
        assert not span.links
        assert span.status.description is None
        text = span.to_json()
        assert "0.123" not in text
        for value in identity:
            assert str(value) not in text


def test_a_failed_stage_says_what_kind_of_failure_and_no_more(spans: Callable[[], tuple[ReadableSpan, ...]]) -> None:
    with pytest.raises(ValueError, match="a face"), tracing.span("read"):
        raise ValueError("a face")
    (span,) = spans()
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes) == {"error.type": "ValueError"}
    assert "a face" not in span.to_json()


def test_a_server_error_fails_the_span_and_a_client_error_does_not(
    spans: Callable[[], tuple[ReadableSpan, ...]],
) -> None:
    client = TestClient(create_app(Settings(tracing=True)), raise_server_exceptions=False)
    client.get("/v1/model")
    client.get("/nowhere")
    client.head("/health/live")
    failed, missed, head = spans()
    assert (failed.status.status_code, failed.attributes["error.type"]) == (StatusCode.ERROR, "not-ready")
    assert (missed.status.status_code, missed.attributes["lookalike.problem"]) == (StatusCode.UNSET, "not-found")
    assert missed.name == "GET none"
    assert head.name == "HEAD /health/live"


@pytest.mark.parametrize("traceparent", ["", "00-abc", "face", f"00-{'0' * 32}-{PARENT}-01"])
def test_a_malformed_parent_is_ignored(spans: Callable[[], tuple[ReadableSpan, ...]], traceparent: str) -> None:
    client = TestClient(create_app(Settings(tracing=True)))
    assert client.get("/health/live", headers={"traceparent": traceparent}).status_code == 200
    (span,) = spans()
    assert span.parent is None


def test_log_lines_carry_the_trace(spans: object) -> None:
    record = logging.makeLogRecord({"msg": "hello", "name": "app", "levelname": "INFO"})
    with tracing.span("read") as span:
        line = json.loads(JsonFormatter().format(record))
        assert line["trace_id"] == format(span._span.get_span_context().trace_id, "032x")
    assert "trace_id" not in json.loads(JsonFormatter().format(record))


def test_tracing_is_off_by_default() -> None:
    assert Settings().tracing is False
    with tracing.span("read") as span:
        span.set({"a": 1})
        assert tracing.trace_id() is None


def test_the_service_starts_without_the_packages_and_refuses_tracing_without_them() -> None:
    program = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter", "redis")):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from app.main import create_app
from app.settings import Settings, sentences
from pydantic import ValidationError
create_app(Settings(rate_limit="64/minute"))
try:
    Settings(tracing=True)
except ValidationError as error:
    print(*sentences(error))
"""
    assert run(program) == "tracing needs OpenTelemetry: pip install 'lookalike[otel]'"


def test_the_framework_itself_tells_a_collector_nothing() -> None:
    program = """
import logging
from fastapi.testclient import TestClient
from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from app.main import create_app
from app.settings import Settings
spans, records = InMemorySpanExporter(), InMemoryLogRecordExporter()
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(spans))
_logs.set_logger_provider(LoggerProvider())
_logs.get_logger_provider().add_log_record_processor(SimpleLogRecordProcessor(records))
client = TestClient(create_app(Settings()), raise_server_exceptions=False)
assert client.post("/v1/render?face=0.123", json={"identity": [0.123]}).status_code == 422
print(len(spans.get_finished_spans()), len(records.get_finished_logs()))
"""
    assert run(program, FASTAPI_OTEL_AUTO_CONFIGURE="true") == "0 0"


def test_with_the_packages_tracing_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings(tracing=True).tracing
    monkeypatch.setattr(tracing, "available", lambda: False)
    with pytest.raises(ValidationError, match="tracing needs OpenTelemetry"):
        Settings(tracing=True)
