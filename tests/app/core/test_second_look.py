"""The second look at a face: sharper key points on tight portraits, and no cat taken for a person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from app.core.faces import Detector, Face

MODELS = Path(__file__).parents[3] / "app" / "models"


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(MODELS, "cpu", threads=1)


@pytest.mark.parametrize("box", [(170, 60, 285, 190), (180, 80, 270, 180)])
def test_a_portrait_that_fills_its_picture_is_framed_as_in_the_whole_photograph(
    detector: Detector, box: tuple[int, int, int, int]
) -> None:
    photograph = Image.fromarray(data.astronaut())
    whole, crop = detector(photograph)[0], photograph.crop(box)

    def miss(face: Face) -> float:
        moved = face.points[:4] + box[:2]
        return float(np.linalg.norm(moved - whole.points[:4], axis=1).mean() / whole.eye_distance)

    assert miss(detector(crop)[0]) < 0.06
    assert miss(detector(crop)[0]) < 0.6 * miss(detector.first_look(crop)[0])


@pytest.mark.parametrize("scale", [1, 2, 8])
def test_the_size_of_the_photograph_does_not_matter(detector: Detector, scale: int) -> None:
    photograph = Image.fromarray(data.astronaut())
    larger = photograph.resize((512 * scale, 512 * scale), Image.Resampling.BICUBIC)
    expected = detector(photograph)[0]
    np.testing.assert_allclose(detector(larger)[0].points / scale, expected.points, atol=1)


@pytest.mark.parametrize("name", ["chelsea", "coffee"])
def test_what_only_looked_like_a_face_is_dropped(detector: Detector, name: str) -> None:
    image = Image.fromarray(getattr(data, name)())
    assert detector.first_look(image), "the first look should be fooled, or this test shows nothing"
    assert detector(image) == []


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000), (17, 5)])
def test_pictures_of_any_shape_are_looked_at(detector: Detector, size: tuple[int, int]) -> None:
    assert detector(Image.new("RGB", size)) == []
