"""OpenTelemetry tracing: a span for each request and each of its stages; off unless it was configured.

The extra `otel` brings the SDK; without it, and while tracing is off, all of this costs next to nothing. Where spans go
is said by OpenTelemetry's own variables, OTEL_EXPORTER_OTLP_ENDPOINT and the like. Spans carry names, numbers and the
request id: no path, no query, no header, no message of an exception, and nothing of a face.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span as OpenTelemetrySpan
    from opentelemetry.trace import Tracer

FLUSH_MILLISECONDS = 5000

Attribute = str | int | float

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def available() -> bool:
    """Whether the packages of the extra `otel` are installed."""
    try:
        return all(
            importlib.util.find_spec(f"opentelemetry.{package}") is not None
            for package in ("sdk.trace", "exporter.otlp.proto.http")
        )
    except ModuleNotFoundError:
        return False


def configure(processor: SpanProcessor | None = None) -> None:
    """Begin to trace.

    Args:
        processor: where spans go; None sends them in batches over OTLP/HTTP.

    Raises:
        ImportError: the extra `otel` is not installed.
    """
    global _provider, _tracer
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider

    if processor is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        processor = BatchSpanProcessor(OTLPSpanExporter())
    ours = Resource({"service.name": "lookalike", "service.version": __version__})
    _provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    _provider.add_span_processor(processor)
    _tracer = _provider.get_tracer("lookalike", __version__)


def stop() -> None:
    """Send what has not been sent, and trace no more; may block for some seconds."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider:
        provider.force_flush(FLUSH_MILLISECONDS)
        provider.shutdown()


class Span:
    """What may be said about a piece of work while it goes on."""

    def name(self, name: str) -> None:
        """Name it anew."""

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Add attributes: never anything that a client wrote."""

    def fail(self, kind: str) -> None:
        """Mark it as failed, with the kind of failure."""


class _Recording(Span):
    def __init__(self, span: OpenTelemetrySpan) -> None:
        self._span = span

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        self._span.set_attributes(attributes)

    def fail(self, kind: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))


_NO_SPAN = Span()


@contextmanager
def span(name: str, carrier: Mapping[str, str] | None = None) -> Iterator[Span]:
    """Trace a piece of work.

    Args:
        name: what it is.
        carrier: headers of a request, which may name the span that caused it (W3C Trace Context); with it the span is
            that of a server.
    """
    if _tracer is None:
        yield _NO_SPAN
        return
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = None if carrier is None else TraceContextTextMapPropagator().extract(carrier)
    kind = SpanKind.INTERNAL if carrier is None else SpanKind.SERVER
    # What an exception says may quote a client, so only its type is recorded.
    with _tracer.start_as_current_span(
        name, parent, kind, record_exception=False, set_status_on_exception=False
    ) as current:
        recording = _Recording(current)
        try:
            yield recording
        except BaseException as error:
            recording.fail(type(error).__qualname__)
            raise


def trace_id() -> str | None:
    """The trace that the current work belongs to, 32 hex digits; None where it is not traced."""
    if _tracer is None:
        return None
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else None
