"""What the tests of deploy/ share: the repository's files, parsed, and what a LOOKALIKE_ variable may be."""

from __future__ import annotations

import os
import shutil
import sys
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


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Finds a program: what came from PyPI lies beside Python, whether or not the environment is active."""

    def find(name: str) -> str:
        found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
        if not found:
            pytest.skip(f"{name} is not installed")
        return found

    return find


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
