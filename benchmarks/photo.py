"""The photograph of the benchmark: Eileen Collins (NASA, public domain), 512x512, as scikit-image brings it."""

from __future__ import annotations

import io
from functools import cache

from PIL import Image
from skimage import data


@cache
def portrait() -> bytes:
    """Its JPEG."""
    output = io.BytesIO()
    Image.fromarray(data.astronaut()).save(output, "JPEG", quality=95)
    return output.getvalue()
