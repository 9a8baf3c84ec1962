"""A model that misses what the one in service reaches does not take its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_export.__main__ import main
from model_export.exporting.gate import lost
from tests.model_export.conftest import MODELS

REACHED = {"value": 1.01, "interval": [1, 1.02], "aim": "1 +- 0.03", "met": True}
UNKNOWN = REACHED | {"value": None, "interval": [None, None], "met": None}
MISSED = REACHED | {"value": 1.2437, "met": False}


@pytest.mark.parametrize(
    ("before", "after", "sentences"),
    [
        (REACHED, REACHED, []),
        (MISSED, MISSED, []),
        (MISSED, REACHED, []),
        (REACHED, MISSED, ["texture.variants.columns is 1.244, wanted 1 +- 0.03"]),
        (REACHED, None, ["texture.variants.columns was not measured"]),
        (MISSED, None, []),
        (REACHED, UNKNOWN, ["texture.variants.columns was not measured"]),
        (REACHED, UNKNOWN | {"met": False}, ["texture.variants.columns was not measured"]),
        (UNKNOWN, UNKNOWN, []),
    ],
)
def test_what_was_reached_may_not_be_lost(before: dict, after: dict | None, sentences: list[str]) -> None:
    def metrics(figure: dict | None) -> dict:
        return {"texture": {"variants": {"columns": figure} if figure else {}}, "seconds": {"texture": 3.1}}

    assert lost(metrics(before), metrics(after)) == sentences


def test_export_writes_nothing_then(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = json.loads((MODELS / "manifest.json").read_text())["metrics"]
    assert lost(shipped, shipped) == []
    shipped["in_band"]["rate"] |= {"value": 0.9, "met": False}
    facts = tmp_path / "evaluation.json"
    facts.write_text(json.dumps({"metrics": shipped}))
    words = ["export", str(tmp_path / "run"), str(tmp_path / "out"), "--facts", str(facts)]
    assert main([*words, "--no-worse-than", str(MODELS)]) == 2
    assert "in_band.rate is 0.9, wanted >= 0.95" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_that_was_never_evaluated_is_nothing_to_hold_another_against(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    words = ["export", str(tmp_path / "run"), str(tmp_path / "out"), "--no-worse-than", str(tmp_path)]
    assert main(words) == 2
    assert "was never evaluated" in capsys.readouterr().err
