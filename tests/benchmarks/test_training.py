"""What a step of training costs is measured by recipe and part, in turns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.training import BEGIN, DOCUMENT, END, PARTS, ROUNDS, main, measured, table
from model_export.training.config import RECIPES, SHIPPED, TrainConfig


def test_the_table_compares_means_with_the_first_and_parts_with_the_last() -> None:
    written = table({"old": [0.3, 0.5], "new": [0.1, 0.1]}, {"texture": [0.08, 0.07]})
    assert "| old | 0.400 | 1.00 |" in written
    assert "| new | 0.100 | 4.00 |" in written
    assert "| part of new |" in written
    assert "| texture | 25% |" in written


class Run:
    """A run of 160 faces, eight a step, each of which keeps a core busy for a moment."""

    def __init__(self, busy: int) -> None:
        self.config, self.batches = SimpleNamespace(total_images=160), SimpleNamespace(step_images=8)
        self.images, self._busy = 0, busy

    def step(self) -> None:
        self.images += 8
        sum(range(self._busy))


def test_runs_are_measured_in_turns_from_their_middle_on() -> None:
    runs: dict[str, Any] = {"slow": Run(2_000_000), "fast": Run(20_000)}
    found = measured(runs, rounds=3)
    assert all(len(values) == 3 for values in found.values())
    assert min(found["slow"]) > max(found["fast"]) > 0
    assert all(run.images == 80 + 4 * 8 for run in runs.values())


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.json")), ids=lambda path: path.stem)
def test_whatever_takes_turns_in_a_run_has_its_share_of_the_rounds(recipe: Path) -> None:
    config, landmark_networks = TrainConfig.load(recipe), 3
    judges = 2 * (len(config.recognizers) - 1) if config.in_turns else 1
    assert [ROUNDS % turns for turns in (config.penalty_every, judges, landmark_networks)] == [0, 0, 0]


def test_each_part_can_be_switched_off_and_the_document_has_a_place() -> None:
    shipped = TrainConfig.load(SHIPPED)
    assert all(shipped.changed(list(off)) != shipped for off in PARTS.values())
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.index(BEGIN) < text.index(END)


def test_recipes_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipes = [tmp_path / name / "config.json" for name in ("one", "other")]
    for recipe in recipes:
        recipe.parent.mkdir()
        recipe.write_text(SHIPPED.read_text())
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--recipes", *map(str, recipes)])
    assert "two recipes have one name" in capsys.readouterr().err
