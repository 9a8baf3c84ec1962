"""What a picture is found to say of its origin, where it says it more than once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core import origin
from app.core.origin import Origin
from app.core.watermark import OPEN_KEY, Message, Watermark
from app.core.watermark_search import Found, Outcome
from app.settings import Settings


def test_the_surest_mark_comes_first_whosever_it_is(
    tmp_path: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mark.key").write_text("a secret of this test")

    def search(_: Any, __: Any, watermark: Watermark) -> Outcome:
        score = 30.0 if watermark._key == OPEN_KEY else 12.0
        return Outcome([Found(Message(1, 7), score, False, np.zeros((4, 2)))], score)

    monkeypatch.setattr(origin, "search", search)
    settings = Settings(watermark_key_file=tmp_path / "mark.key", installation=7)
    found = Origin(settings).examine(photo, lambda *_, **__: [], ("lookalike", "0.0.1"))
    assert [(mark.found.score, mark.ours) for mark in found.watermarks] == [(30.0, False), (12.0, True)]
    assert found.verdict == "drawn-by-this-model", "which the mark of its own key says"
