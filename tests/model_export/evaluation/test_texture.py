"""Grids, seams and unlike eyes, on pictures of which one knows what is wrong."""

import numpy as np
import pytest

from app.core.faces import FRAME_POINTS
from model_export.evaluation import texture
from model_export.evaluation.metrics import Intervals


def noise(seed=0, count=6):
    return np.random.default_rng(seed).integers(60, 200, (count, 128, 128, 3), np.uint8)


def test_a_grid_of_period_two_is_seen_in_the_direction_it_has():
    plain = noise()
    doubled = plain[:, :, ::2].repeat(2, axis=2) // 2 + noise(1) // 8
    across, down = texture.steps(plain)
    assert texture.phase_ratio(across) == pytest.approx(1, abs=0.02)
    assert texture.phase_ratio(down) == pytest.approx(1, abs=0.02)
    across, down = texture.steps(doubled)
    assert texture.phase_ratio(across) > 2
    assert texture.phase_ratio(down) == pytest.approx(1, abs=0.02)


def test_a_seam_stands_out():
    torn = noise() // 4
    torn[:, 64:] += 120
    across, down = texture.steps(torn)
    assert texture.standing_out(down) > 3
    assert texture.standing_out(across) < 1.2


def test_an_eye_that_is_blurred_or_tinted_is_told_from_the_other():
    pictures = noise()
    column, row = (round(float(value) * 128) for value in FRAME_POINTS[1])
    patch = (slice(None), slice(row - 11, row + 11), slice(column - 11, column + 11))
    even = texture.eye_sharpness(pictures)
    assert even[:, 1].mean() / even[:, 0].mean() == pytest.approx(1, abs=0.1)
    before = texture.eye_colour(pictures).mean()
    pictures[patch] = pictures[patch] // 8 + 120
    soft = texture.eye_sharpness(pictures)
    assert soft[:, 1].mean() < 0.4 * soft[:, 0].mean()
    pictures[(*patch, 0)] += 60
    assert texture.eye_colour(pictures).mean() > before + 10


def test_more_pictures_of_a_face_are_not_more_faces():
    """The same pictures three times: an interval over pictures would be narrower."""
    pictures, intervals = noise(count=12)[:, None], Intervals(resamples=50, seed=0)
    once, thrice = (texture.even_steps(intervals, faces, drawn=False) for faces in (pictures, pictures.repeat(3, 1)))
    for name, entry in once.items():
        assert thrice[name]["interval"] == pytest.approx(entry["interval"], rel=1e-6)
