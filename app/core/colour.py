"""Colour: pictures of any depth and model as RGB of 8 bits, as a viewer shows them on an sRGB screen; and grey."""

from __future__ import annotations

import io
import logging
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Bytes = NDArray[np.uint8]

MAX_PROFILE = 2**22
"""Bytes of an ICC profile that is still looked at; those of printers take up to two million."""

RANGES = (1.0, 255.0, 65535.0, 2.0**32 - 1)
"""What white may be in pictures of floats or wide integers, which do not say: the least of these that none exceeds."""

GREY_SPREAD = 6.0
"""Levels of 255 by which the channels of a block of a grey picture may differ."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)

SRGB = ImageCms.createProfile("sRGB")

log = logging.getLogger(__name__)


def as_shown(image: Image.Image) -> Image.Image:
    """The same picture in RGB: its ICC profile applied, its transparency over white, its depth reduced to 8 bits."""
    profile = image.info.get("icc_profile")
    image = _eight_bits(image)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("L", "LA") else "RGBA")
        alpha = image.getchannel("A")
        image = image.convert("L" if image.mode == "LA" else "RGB")
    shown = _managed(image, profile) if profile else None
    if shown is None:
        shown = image if image.mode == "RGB" else image.convert("RGB")
    if alpha is not None:
        shown = Image.composite(shown, Image.new("RGB", shown.size, "white"), alpha)
    return shown


def is_grey(face: Bytes) -> bool:
    """Whether a picture [h, w, 3] has no colour, but for what JPEG or a camera adds to grey.

    Blocks of 8 x 8 are averaged, in which noise and the errors of compression cancel. A tint, as of sepia, is a colour.
    """
    height, width = (side // 8 * 8 for side in face.shape[:2])
    # Whole numbers, and rows before columns: a tenth of the time that their mean takes.
    bands = face[:height, :width].reshape(height // 8, 8, width, 3).sum(1, dtype=np.uint16)
    blocks = bands.reshape(height // 8, width // 8, 8, 3).sum(2, dtype=np.uint16)
    return float(np.ptp(blocks, axis=-1).max()) / 64 <= GREY_SPREAD


def desaturated(pixels: Bytes) -> Bytes:
    """Pictures [..., 3] in grey, in three equal channels: their luma (ITU-R BT.601), as JPEG has it."""
    luma = np.rint(pixels @ LUMA).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=-1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 1, 16 or 32 bits or of floats as grey of 8; all else as it is."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I;16"):
        # Pillow would clip at 255.
        return Image.fromarray((np.asarray(image, np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        most = float(values.max(initial=0))
        white = next((white for white in RANGES[image.mode == "I" :] if most <= white), most)
        return Image.fromarray(np.rint(np.clip(values / white, 0, 1) * 255).astype(np.uint8))
    return image


def _managed(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The picture's colours by its profile; None where that changes nothing, or the profile is of no use."""
    if len(profile) > MAX_PROFILE:
        return None
    transform = _transform(profile, image.mode)
    if transform is None:
        return None
    try:
        return ImageCms.applyTransform(image, transform)
    except ImageCms.PyCMSError:
        return None


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; kept, since the photographs of a camera all have the same. None: leave the colours."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower() and mode == "RGB":
            return None
        return ImageCms.buildTransform(source, SRGB, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        log.debug("a colour profile is not used: %s", type(error).__name__)  # as viewers do
        return None
