"""What the tests of whole folders share."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.app.batch.folders import fill


@pytest.fixture(autouse=True)
def _on_one_cpu_thread(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"DEVICE": "cpu", "THREADS": "1", "BATCH_SIZES": "1,2"}.items():
        monkeypatch.setenv(f"LOOKALIKE_{name}", value)


@pytest.fixture(scope="module")
def photographs(portrait: Image.Image) -> dict[str, bytes]:
    """Five photographs of a face by name, one in a folder below."""
    found = {}
    for number, name in enumerate(["c.jpg", "a.png", "below/b.webp", "below/ü d.JPEG", "e.jpg"]):
        pixels = np.clip(np.asarray(portrait) * (1 - 0.08 * number), 0, 255).astype(np.uint8)
        output = io.BytesIO()
        form = {"jpg": "JPEG", "JPEG": "JPEG"}.get(name.partition(".")[2], name.partition(".")[2].upper())
        Image.fromarray(pixels[: 300 + number, 100:400]).save(output, form)
        found[name] = output.getvalue()
    return found


@pytest.fixture
def folder(tmp_path: Path, photographs: dict[str, bytes]) -> Path:
    return fill(tmp_path / "in", photographs)
