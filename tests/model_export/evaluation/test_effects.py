"""What a control does, and the name it gets for it."""

import numpy as np
import pytest

from model_export.evaluation import effects
from model_export.evaluation.effects import Measurement
from tests.model_export.conftest import MODELS

AGE = Measurement("age", "years", "older", "younger")
LIGHT = Measurement("brightness", "levels", "brighter", "darker")
TURN = Measurement("head turn", "degrees", "turned right", "turned left")
OTHER = Measurement("apparently other", "units", "more other", "less other")
STEPS = np.linspace(-1, 1, 9)


def found(slopes, distance, measurements=(AGE, LIGHT, TURN)):
    """Effects of controls whose measurements rise by slopes [controls, m] a unit, on 5 faces."""
    slopes = np.array(slopes, float)
    base = np.random.default_rng(0).normal(size=(1, 5, 1, slopes.shape[1]))
    sweeps = base + STEPS[None, None, :, None] * slopes[:, None, None, :]
    deviations = np.array([10.0, 20.0, 5.0])[: slopes.shape[1]]
    return effects.effects(measurements, sweeps, STEPS, deviations, np.array(distance))


def test_effects_are_the_change_from_end_to_end_in_deviations_over_people():
    result = found([[5, 0, 0], [0, -20, 0]], [0.4, 0.4])
    assert result.natural == pytest.approx(np.array([[10, 0, 0], [0, -40, 0]]), abs=1e-9)
    assert result.size == pytest.approx(np.array([[1, 0, 0], [0, -2, 0]]), abs=1e-9)
    assert result.monotony[0, 0] == pytest.approx(1)
    assert result.monotony[1, 1] == pytest.approx(-1)


def test_a_face_that_was_not_detected_does_not_count():
    sweeps = np.tile(STEPS, (1, 3, 1))[..., None].copy()
    sweeps[0, 1, 4] = np.nan
    result = effects.effects((AGE,), sweeps, STEPS, np.ones(1), np.ones(1))
    assert result.natural[0, 0] == pytest.approx(2)
    assert result.monotony[0, 0] == pytest.approx(1)


def test_names_are_distinct_and_follow_the_strongest_effect():
    names = effects.name_controls(found([[4, 0, 0], [0, 30, 0], [0, 20, 4], [0, 10, 0]], [0.3] * 4))
    assert [entry["name"] for entry in names] == ["age", "brightness", "head turn", "unnamed look 4"]
    assert "+8 years" in names[0]["effect"]
    assert "+0.80 standard deviations" in names[0]["effect"]
    assert "brightness more" in names[2]["effect"]
    assert len({entry["name"] for entry in names}) == 4


def test_the_first_control_is_age_only_if_it_moves_age():
    first, second = effects.name_controls(found([[0.5, 30, 0], [6, 0, 0]], [0.3, 0.3]))
    assert first["name"] == "brightness"
    assert second["name"] == "age"


def test_a_control_that_does_nothing_is_said_to_do_nothing():
    first, second = effects.name_controls(found([[0, 0, 0], [0, 30, 0]], [0.001, 0.3]))
    assert first["name"] == "no effect 1"
    assert "next to nothing" in first["effect"]
    assert second["name"] == "brightness"


def test_no_control_is_called_by_the_group_other_of_the_labels():
    (only,) = effects.name_controls(found([[20, 8]], [0.3], (OTHER, LIGHT)))
    assert only["name"] == "brightness"


def test_landmarks_of_the_face_frame():
    points = np.array([[0.298, 0.2825], [0.702, 0.2825], [0.5, 0.548], [0.5, 0.7325]])
    values = dict(zip([item.name for item in effects.LANDMARKS], effects.landmark_values(points), strict=True))
    assert values["eye distance"] == pytest.approx(40.4)
    assert values["head turn"] == pytest.approx(0)
    assert values["head tilt"] == pytest.approx(0)
    assert values["nose length"] == pytest.approx((0.548 - 0.2825) / 0.404)
    turned = points + np.array([[0, 0], [0, 0], [0.0404, 0], [0, 0]])
    assert effects.landmark_values(turned)[4] == pytest.approx(0.1)


def test_the_detector_finds_a_face_that_fills_the_frame_and_none_in_noise(face_set):
    from app.core.faces import Detector

    noise = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), np.uint8)
    rows = effects.measure_landmarks(Detector(MODELS, "cpu", 1), np.concatenate([face_set.faces[:1], noise]))
    assert rows[0, 0] == pytest.approx(40.4, abs=8)
    assert np.isnan(rows[1]).all()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("brightness", lambda face: face + 20),
        ("warmth", lambda face: face + np.array([20, 0, -20])),
        ("brightness of the chin", lambda face: face + 30 * (np.arange(128) > 112)[:, None, None]),
        ("light from the side", lambda face: face + np.linspace(-20, 20, 128)[None, :, None]),
        ("light from above", lambda face: face + np.linspace(20, -20, 128)[:, None, None]),
        ("fine detail", lambda face: face + 10 * (np.indices((128, 128)).sum(0) % 2)[..., None]),
    ],
)
def test_appearance_measures_what_it_says(name, change):
    rows, columns = np.indices((128, 128))
    face = (100 + 20 * np.sin(rows / 9) + 10 * np.cos(columns / 7))[..., None].repeat(3, -1)
    before, after = effects.measure_appearance(np.stack([face, change(face)]).clip(0, 255).astype(np.uint8))
    names = [item.name for item in effects.APPEARANCE]
    assert after[names.index(name)] > before[names.index(name)] + 3
