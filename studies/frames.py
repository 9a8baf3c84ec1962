"""Drawn faces in the manner of photographs: a cheap way to bring a cohort nearer to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from app.core.faces import Bytes

BLURS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Radii in pixels that are tried to take away sharpness."""


def matched(drawn: Bytes, models: Bytes) -> Bytes:
    """Drawn faces [n, s, s, 3] in the manner of photographs [n, s, s, 3]: light, colour and sharpness of each.

    Each channel gets the photograph's mean and standard deviation (Reinhard et al., "Color transfer between images",
    2001, in RGB). Blurred by the least of `BLURS` with which it is no sharper; what is softer stays so.
    """
    return np.stack([_matched(face, model) for face, model in zip(drawn, models, strict=True)])


def _matched(face: Bytes, model: Bytes) -> Bytes:
    aim, picture = sharpness(model), Image.fromarray(face)
    blurred = face
    for radius in BLURS:
        blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(radius))) if radius else face
        if sharpness(blurred) <= aim:
            break
    levels = blurred.astype(np.float64)
    wanted = model.astype(np.float64)
    spread = np.maximum(levels.std((0, 1)), 1e-6)
    moved = (levels - levels.mean((0, 1))) / spread * wanted.std((0, 1)) + wanted.mean((0, 1))
    return np.clip(np.rint(moved), 0, 255).astype(np.uint8)


def sharpness(face: NDArray[Any]) -> float:
    """Variance of the Laplacian over that of the levels, of luminance: what does not change with contrast."""
    grey = face.astype(np.float64).mean(2)
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(laplacian.var() / max(grey.var(), 1e-9))
