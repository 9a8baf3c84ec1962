"""What the tests of deploy/ share: the repository's files, parsed, and what a LOOKALIKE_ variable may be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import PREFIX, Settings, sentences

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def settings_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], Settings]:
    """The settings that a container's environment makes; fails where the service would refuse them."""

    def make(environment: dict[str, str]) -> Settings:
        for name in list(os.environ):
            if name.startswith(PREFIX):
                monkeypatch.delenv(name)
        for name, value in environment.items():
            if name.startswith(PREFIX):
                monkeypatch.setenv(name, value)
        try:
            return Settings()
        except ValidationError as error:
            pytest.fail("; ".join(sentences(error)))

    return make
