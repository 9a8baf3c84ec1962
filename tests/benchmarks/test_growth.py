"""What the growth of the cost is measured with."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from app.core.faces import Detector
from app.core.images import read_photo
from app.settings import Settings
from benchmarks.growth import photograph


@pytest.mark.parametrize("megapixels", [0.1, 4])
def test_a_photograph_has_the_pixels_and_a_face(megapixels: float) -> None:
    image = Image.open(io.BytesIO(photograph(megapixels)))
    assert image.width * image.height == pytest.approx(megapixels * 1e6, rel=0.01)
    (face,) = Detector(Settings().models, "cpu", 1)(read_photo(photograph(megapixels), 10**8).image)
    assert face.eye_distance > 16
