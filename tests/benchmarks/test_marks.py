"""The measurement of the mark: its figures in the document, and what a run goes on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.marks import Bench
from benchmarks.marks_written import AIMS, BEGIN, DOCUMENT, END, FIGURES, brief, section, written

SAID = json.loads(FIGURES.read_text(encoding="utf-8"))


def test_the_document_has_the_figures_that_were_measured() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == written(text, SAID), "run `python -m benchmarks.marks --write`"


def test_every_aim_was_measured_and_met() -> None:
    parts = {row["name"]: row["right"] / row["pictures"] for row in SAID["rows"]}
    assert {name: parts[name] for name, aim in AIMS.items() if parts[name] < aim} == {}
    assert SAID["photographs"]["alarms"] == 0
    assert SAID["psnr"][0] >= 40
    assert SAID["moved"][0] <= 0.01


def test_figures_in_brief() -> None:
    rows = [
        {"psnr": 41.0, "moved": moved, "steps": [0.8, 0.84], "read": {"screenshot": [right, score]}}
        for moved, right, score in ((-0.03, 1.0, 20.0), (0.01, 0.0, 4.0))
    ]
    results = {"of": "1.2.3 abc", "drawn": rows, "photographs": [3.0, 99.0], "grid": [1.0, 1.0], "ms": [0.01, 0.02]}
    said = brief(results)
    assert said["rows"] == [{"name": "screenshot", "pictures": 2, "right": 1, "score": 12.0}]
    assert said["photographs"] == {"looked_at": 2, "alarms": 1, "best": 99.0}
    assert said["moved"][0] == 0.02
    text = section(said)
    assert "| screenshot | 2 | 50.0 % | 12.0 | >= 99 % |" in text
    assert "the weights 1.2.3" in text
    assert written(f"a\n{BEGIN}old\n{END}\nb", said) == f"a\n{BEGIN}{text}{END}\nb"
    with pytest.raises(ValueError, match="no place"):
        written("a\nb", said)


def test_figures_of_something_else_are_not_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "marks.json"
    Bench(out).keep()
    assert Bench(out).results["drawn"] == []
    out.write_text(json.dumps({**json.loads(out.read_text()), "of": "0.0.1 0123"}))
    with pytest.raises(SystemExit, match="another model"):
        Bench(out)
