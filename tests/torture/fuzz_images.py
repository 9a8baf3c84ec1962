"""A target for atheris: reading photographs, the code that sees a stranger's bytes first. Guided by coverage.

python tests/torture/fuzz_images.py -max_total_time=60 CORPUS
"""

from __future__ import annotations

import sys

import atheris

from app.errors import NotAnImage, TooManyPixels

with atheris.instrument_imports(include=["app.core.images", "PIL"]):
    from app.core.images import read_photo

MAX_PIXELS = 4_000_000


def one(data: bytes) -> None:
    """Whatever the bytes are: a whole RGB picture within the limit, or one of two refusals."""
    for reduced in (True, False):
        try:
            photo = read_photo(data, MAX_PIXELS, reduced)
        except (NotAnImage, TooManyPixels):
            continue
        if photo.image.mode != "RGB" or not 0 < photo.width * photo.height <= MAX_PIXELS or photo.scale <= 0:
            raise AssertionError(f"{photo.image.mode} {photo.width} x {photo.height}")


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
