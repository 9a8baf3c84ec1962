"""What a recogniser that is audited is shown of a face: photographs and drawings cut alike."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from PIL import Image

from app.core.faces import RECOGNIZER_SIZE, Bytes, recognizer_maps

Crop = Literal["frame", "arcface", "portrait"]
CROPS: tuple[Crop, ...] = get_args(Crop)
"""`frame`: the face frame, 128x128; `arcface`: the 112x112 of ArcFace, grey beyond the face frame; `portrait`: the face
frame with a margin of half its side, in which its edge is repeated, for recognisers that find faces themselves."""

GREY = 127.5


def cropped(frame: Bytes, crop: Crop) -> Bytes:
    """A face [s, s, 3] in the face frame as one of the crops, uint8 RGB.

    Args:
        frame: the face.
        crop: which.
    """
    picture = frame
    if crop == "arcface":
        rows, columns = recognizer_maps(frame.shape[0], RECOGNIZER_SIZE)
        levels = np.einsum("ij,jkc,lk->ilc", rows, frame.astype(np.float32) - GREY, columns, optimize=True) + GREY
        picture = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    elif crop == "portrait":
        margin = frame.shape[0] // 2
        picture = np.pad(frame, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    return picture


def resized(picture: Bytes, size: int) -> Bytes:
    """A square picture with another side."""
    if size == picture.shape[0]:
        return picture
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC), np.uint8)
