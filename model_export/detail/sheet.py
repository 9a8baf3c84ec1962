"""Faces side by side: plainly enlarged, with the detail stage, and photographs of that size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from app.core.faces import Bytes
from app.core.images import contact_sheet


def plainly(small: Bytes, side: int) -> Bytes:
    """Faces [n, s, s, 3] at another side, by bicubic interpolation."""
    pictures = [Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC) for face in small]
    return np.stack([np.asarray(picture) for picture in pictures])


def write_sheet(path: Path, small: Bytes, large: Bytes, columns: int = 4) -> None:
    """Write pairs: each face plainly enlarged, and to its right what the detail stage makes of it."""
    pairs = np.concatenate([plainly(small, large.shape[1]), large], axis=2)
    Image.fromarray(contact_sheet(list(pairs), columns)).save(path)
