"""Structured logs: one JSON object a line on standard error.

Never a body, a parameter or a raw path. Of an exception the type and the stack are logged, not the message, since that
may quote what a client sent.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType

from app.telemetry import tracing

request_id: ContextVar[str] = ContextVar("request_id")
"""The request that is being answered: every line of its log carries it."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON, with what was passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Make the line."""
        event = record.getMessage()
        if record.name == "asyncio":
            event = event.partition("\n")[0]  # what follows shows tasks, and in them messages of exceptions
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event,
        }
        if identifier := request_id.get(None):
            line["request_id"] = identifier
        if trace_id := tracing.trace_id():
            line["trace_id"] = trace_id
        # What begins with an underscore was put there by a library, Ray for one, for itself.
        extras = {name: value for name, value in vars(record).items() if not name.startswith("_")}
        line |= {name: value for name, value in extras.items() if name not in _STANDARD}
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__qualname__
            line["stack"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Send every log line of this process to standard error.

    `debug` is for the service alone: what libraries say at that level has pieces of what they read, such as the EXIF
    tags of a photograph.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    least = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(least, logging.INFO), handlers=[handler], force=True)
    logging.getLogger("app").setLevel(least)
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False  # else a line that cannot be written is shown in full
    sys.excepthook = _log_crash


def _log_crash(kind: type[BaseException], error: BaseException, stack: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, stack)
        return
    logging.getLogger("app").critical("the process failed", exc_info=(kind, error, stack))
