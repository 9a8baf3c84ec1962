"""Schedules are pure functions of the images seen."""

from __future__ import annotations

import pytest

from model_export.training.schedules import average_decay, fade_in, learning_rate
from tests.model_export.tiny import TINY

CONFIG = TINY.changed(["total_images=1000", "warm_up=0.2"])


def test_the_learning_rate_rises_shortly_and_falls_to_its_end() -> None:
    assert learning_rate(CONFIG, 0) < learning_rate(CONFIG, 10)
    assert learning_rate(CONFIG, 20) > learning_rate(CONFIG, 500) > learning_rate(CONFIG, 1000)
    assert learning_rate(CONFIG, 1000) == learning_rate(CONFIG, 2000) == pytest.approx(CONFIG.final_rate)


def test_variation_fades_in_after_the_warm_up() -> None:
    assert [fade_in(CONFIG, images) for images in (0, 200, 300, 400, 1000)] == pytest.approx([0, 0, 0.5, 1, 1])


def test_the_averages_forget_more_slowly_the_longer_a_run_lasts() -> None:
    assert average_decay(CONFIG, 0, 16) == pytest.approx(0.5)
    assert average_decay(CONFIG, 1_000_000, 16) > 0.999
