"""What larger pictures cost is measured part by part, and told as one ratio."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.larger import BEGIN, DOCUMENT, END, measured, table
from tests.detail import with_detail


def test_the_ratio_is_of_all_parts() -> None:
    found = {"drawn": [10.0, 10.0, 10.0], "detail": [14.0, 15.0, 16.0], "written": [2.0] * 3, "larger": [5.0] * 3}
    written = table(found)
    assert "| detail | 15.00 | 14.00, 16.00 |" in written
    assert "costs 2.5 times" in written


def test_every_part_takes_some_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_MODELS", str(with_detail(tmp_path / "models")))
    found = measured(rounds=2)
    assert len(found) == 4
    assert all(value > 0 for values in found.values() for value in values)


def test_the_document_has_a_place_for_it() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.index(BEGIN) < text.index(END)
