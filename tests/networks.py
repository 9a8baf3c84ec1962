"""The shipped networks, loaded once a process: every application of a test takes a second to read them otherwise."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from app.core import models
from app.settings import PACKAGE

SHIPPED = (PACKAGE / "models").resolve()


def load_once(patch: pytest.MonkeyPatch) -> None:
    """Have engines share the networks of the shipped directory, which no test changes; others are loaded as ever.

    They hold nothing of what they compute, and run in several threads at once when served as well. What is read and
    refused at start is tested on directories of its own, and on processes of their own.
    """
    for name in ("Detector", "Generator"):
        patch.setattr(models, name, _shared(getattr(models, name)))


def _shared(genuine: Any) -> Any:
    @cache
    def once(*given: Any, **named: Any) -> Any:
        made = genuine(*given, **named)
        if hasattr(made, "warm"):
            made.warm = cache(made.warm)
        return made

    def either(folder: object, *given: Any, **named: Any) -> Any:
        return (once if folder == SHIPPED else genuine)(folder, *given, **named)

    return either
