"""Two keys, as clients send them and as settings hold them, and an application that knows whom it lets in."""

from __future__ import annotations

import hashlib

from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings

# Fixed, since tests are named after their parameters, and every process that runs them must find the same names.
DOOR, GATE = "lk_" + "d" * 43, "lk_" + "g" * 43
DOOR_LINE = f"door:{hashlib.sha256(DOOR.encode()).hexdigest()}"
GATE_LINE = f"gate:{hashlib.sha256(GATE.encode()).hexdigest()}"
WITHOUT_MODELS = 503
"""What an application that was not started says to whom it lets in."""


def unstarted(**settings: object) -> TestClient:
    """The application without its models: enough to see who is let in."""
    return TestClient(create_app(Settings(**settings)), raise_server_exceptions=False)
