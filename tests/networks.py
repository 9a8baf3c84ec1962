"""The shipped networks, checked and loaded once a process: every application of a test takes a second otherwise."""

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
        patch.setattr(models, name, _for_shipped(cache(_warmed_once(getattr(models, name))), getattr(models, name)))
    manifest = cache(models.read_manifest)
    patch.setattr(models, "read_manifest", _for_shipped(manifest, models.read_manifest))
    genuine = models.check_signatures
    checked = cache(lambda folder: genuine(folder, manifest(folder)))
    patch.setattr(models, "check_signatures", _for_shipped(lambda folder, _: checked(folder), genuine))


def _warmed_once(genuine: Any) -> Any:
    def make(*given: Any, **named: Any) -> Any:
        made = genuine(*given, **named)
        made.warm = cache(made.warm)
        return made

    return make


def _for_shipped(once: Any, genuine: Any) -> Any:
    """A function of a folder of models that is `once` for the shipped one, and `genuine` for every other."""

    def either(folder: object, *given: Any, **named: Any) -> Any:
        return (once if folder == SHIPPED else genuine)(folder, *given, **named)

    return either
