"""What is measured of a face, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from app.core.faces import Face
from app.core.quality import agreement, frontal_distance, judge, pose_of, probe_for, sharpness
from app.runtime.manifest import parse_manifest

MANIFEST = parse_manifest(Path(__file__).parents[3] / "app" / "models")
POINTS = np.array([[-50.0, 0], [50, 0], [0, 60], [0, 108], [-100, 10], [100, 10]])
LIKELY = np.zeros(192, np.float32)


def face(points: np.ndarray = POINTS, turn: float = 0.0) -> Face:
    """A face, turned clockwise by so many degrees."""
    angle = np.radians(turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Face((0, 0, 1, 1), points @ rotation.T + 300, 0.9)


@pytest.mark.parametrize("turn", [-90, -40, 0, 20, 90, 180])
def test_roll(turn: float) -> None:
    pose = pose_of(face(turn=turn))
    assert abs((pose.roll - turn + 180) % 360 - 180) < 1e-6
    assert pose.yaw == pytest.approx(0, abs=1e-6)
    assert pose.upright is (abs(turn) <= 45)


@pytest.mark.parametrize("roll", [0, 30])
@pytest.mark.parametrize("yaw", [-60, -30, 0, 15, 45])
def test_yaw(yaw: float, roll: float) -> None:
    """A head whose nose stands out by 0.64 eye distances, seen from afar."""
    points = POINTS.copy()
    points[:2, 0] *= np.cos(np.radians(yaw))
    points[2, 0] = 64 * np.sin(np.radians(yaw))
    turned = face(points, roll)
    assert pose_of(turned).yaw == pytest.approx(yaw, abs=0.1)
    assert frontal_distance(turned) == pytest.approx(100, abs=3)


@pytest.mark.parametrize(("point", "place"), [(3, (0, 40)), (3, (0, -100)), (2, (0, 130)), (2, (0, -20))], ids=str)
def test_key_points_that_are_no_face(point: int, place: tuple[float, float]) -> None:
    points = POINTS.copy()
    points[point] = place
    assert not pose_of(face(points)).upright


def test_blur_is_seen(portrait: Image.Image) -> None:
    frame = portrait.crop((165, 60, 285, 180)).resize((128, 128))
    values = [sharpness(np.asarray(frame.filter(ImageFilter.GaussianBlur(radius)))) for radius in (0, 1, 2, 5)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.15
    assert values[-1] < 0.06


def test_agreement_is_about_its_own_part() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    assert agreement(frame, frame) == pytest.approx((1, 1))
    covered = frame.copy()
    covered[70:] = 128
    eyes, mouth = agreement(frame, covered)
    assert eyes == pytest.approx(1)
    assert abs(mouth) < 0.3


def test_the_probe_is_for_one_recogniser() -> None:
    assert probe_for(MANIFEST) is not None
    other = MANIFEST.files["recognizer"].model_copy(update={"sha256": "0" * 64})
    assert probe_for(MANIFEST.model_copy(update={"files": {**MANIFEST.files, "recognizer": other}})) is None


@pytest.mark.parametrize(
    ("points", "fidelity", "expected"),
    [
        (POINTS, 0.8, []),
        (POINTS * 0.25, 0.8, ["inter-eye-distance"]),
        (POINTS + np.array([[0, 0], [0, 0], [60, 0], [30, 0], [0, 0], [0, 0]]), 0.8, ["head-pose-yaw"]),
        (POINTS, 0.45, ["fidelity"]),
        (POINTS, 0.2, ["fidelity"]),
    ],
)
def test_what_is_wrong_is_named(points: np.ndarray, fidelity: float, expected: list[str]) -> None:
    probe = probe_for(MANIFEST)
    assert probe is not None
    weights = np.asarray(probe.weights)
    likely = (weights / np.linalg.norm(weights)).astype(np.float32)
    frame = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    quality = judge(MANIFEST, pose_of(face(points)), frame, likely, frame, fidelity)
    assert [doubt.component for doubt in quality.doubts] == expected
    assert quality.likeness is not None
    assert quality.likeness > probe.sure
    unlikely = judge(MANIFEST, pose_of(face(points)), frame, -likely, frame, fidelity)
    assert [doubt.component for doubt in unlikely.doubts] == ["face-likeness", *expected]
