"""The loop around the steps of a run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from model_export.training.loop import Pace, RunFolder, keep_stepping


class Run:
    """Steps with these losses; its checkpoint says how many were made."""

    def __init__(self, losses: list[float]) -> None:
        self._losses, self.steps = losses, 0

    def step(self) -> dict[str, float]:
        self.steps += 1
        return {"pixel": self._losses[self.steps - 1]}

    def save(self, path: Path) -> None:
        path.write_text(str(self.steps))


def stepped(run: Run, folder: RunFolder, limit: int) -> None:
    pace = Pace(limit=limit, stop=lambda: False, save_every=-1, look_every=math.inf)
    keep_stepping(run, lambda: run.steps, folder, pace, lambda: None, writes=True)


def test_it_stops_at_the_limit_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    run, folder = Run([1.0] * 3), RunFolder(tmp_path)
    stepped(run, folder, 3)
    assert folder.checkpoint.read_text() == "3"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_after_a_loss_that_is_no_number_the_last_sound_checkpoint_stays(tmp_path: Path, bad: float) -> None:
    run, folder = Run([1.0, 1.0, bad, 1.0]), RunFolder(tmp_path)
    with pytest.raises(FloatingPointError, match="not finite: pixel"):
        stepped(run, folder, 4)
    assert folder.checkpoint.read_text() == "2"
