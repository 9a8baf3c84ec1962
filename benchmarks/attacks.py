"""What happens to pictures on their way, and what somebody may do on purpose, for the measurement of the mark."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

Picture = Image.Image
Attack = Callable[[Picture, np.random.Generator], Picture]


def saved(form: str, quality: int) -> Attack:
    """Saved anew with loss."""

    def attack(picture: Picture, _: np.random.Generator) -> Picture:
        file = io.BytesIO()
        picture.save(file, form, quality=quality)
        return Image.open(file).convert("RGB")

    return attack


def scaled(side: int) -> Attack:
    """Brought to so many pixels, its shorter side, and back to its size."""

    def attack(picture: Picture, _: np.random.Generator) -> Picture:
        factor = side / min(picture.size)
        there = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        return picture.resize(there, Image.Resampling.BICUBIC).resize(picture.size, Image.Resampling.BICUBIC)

    return attack


def cropped(part: float) -> Attack:
    """Cut to this part of each side, at a place drawn at random."""

    def attack(picture: Picture, random: np.random.Generator) -> Picture:
        width, height = round(picture.width * part), round(picture.height * part)
        left = int(random.integers(0, picture.width - width + 1))
        top = int(random.integers(0, picture.height - height + 1))
        return picture.crop((left, top, left + width, top + height))

    return attack


def changed(kind: type[ImageEnhance.Brightness | ImageEnhance.Contrast], factor: float) -> Attack:
    """Brighter, darker, with more or less contrast."""
    return lambda picture, _: kind(picture).enhance(factor)


def screenshot(picture: Picture, random: np.random.Generator) -> Picture:
    """Shown on a page at 110 to 220 %, somewhere on a screen, and the screen kept."""
    factor = random.uniform(1.1, 2.2)
    width, height = round(picture.width * factor), round(picture.height * factor)
    screen = Image.new("RGB", (width + 500, height + 350), (245, 245, 245))
    place = (int(random.integers(0, 501)), int(random.integers(0, 351)))
    screen.paste(picture.resize((width, height), Image.Resampling.BILINEAR), place)
    return screen


def blurred(radius: float) -> Attack:
    """A Gaussian of so many pixels."""
    return lambda picture, _: picture.filter(ImageFilter.GaussianBlur(radius))


def noisy(deviation: float) -> Attack:
    """Gaussian noise of so many levels."""

    def attack(picture: Picture, random: np.random.Generator) -> Picture:
        pixels = np.asarray(picture, np.float32)
        noise = random.normal(0, deviation, pixels.shape)
        return Image.fromarray(np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8))

    return attack


def turned(degrees: float) -> Attack:
    """Turned by up to so many degrees either way, its size kept."""
    return lambda picture, random: picture.rotate(random.uniform(-degrees, degrees), Image.Resampling.BICUBIC)


AIMED: dict[str, tuple[Attack, float]] = {
    "as it leaves (JPEG 95)": (lambda picture, _: picture, 0.99),
    "JPEG 75": (saved("JPEG", 75), 0.99),
    "WebP 60": (saved("WEBP", 60), 0.99),
    "scaled to 64 pixels and back": (scaled(64), 0.99),
    "scaled to 96 pixels and back": (scaled(96), 0.99),
    "scaled to 256 pixels and back": (scaled(256), 0.99),
    "scaled to 512 pixels and back": (scaled(512), 0.99),
    "cut to 80 % of each side": (cropped(0.8), 0.99),
    "20 % brighter": (changed(ImageEnhance.Brightness, 1.2), 0.99),
    "20 % darker": (changed(ImageEnhance.Brightness, 0.8), 0.99),
    "contrast 20 % up": (changed(ImageEnhance.Contrast, 1.2), 0.99),
    "contrast 20 % down": (changed(ImageEnhance.Contrast, 0.8), 0.99),
    "screenshot": (screenshot, 0.99),
    "mirrored": (lambda picture, _: ImageOps.mirror(picture), 0.99),
    "JPEG 50": (saved("JPEG", 50), 0.90),
}
"""What the mark is to outlive, and in what part of the pictures."""

TWO = "two of these in a row, drawn at random"
TWO_AIM = 0.90

BEYOND: dict[str, Attack] = {
    "JPEG 30": saved("JPEG", 30),
    "cut to 60 % of each side": cropped(0.6),
    "turned by up to 5 degrees": turned(5),
    "turned by a quarter": lambda picture, _: picture.transpose(Image.Transpose.ROTATE_90),
    "noise of 8 levels": noisy(8),
    "blurred by 1 pixel": blurred(1),
    "blurred by 2 pixels": blurred(2),
    "blurred by 3 pixels": blurred(3),
    "scaled to 32 pixels and back": scaled(32),
}
"""What nobody promised anything of."""


def two(picture: Picture, random: np.random.Generator) -> Picture:
    """Two of `AIMED` in a row, each drawn at random."""
    names = [name for name in AIMED if not name.startswith("as it leaves")]
    for index in random.choice(len(names), 2, replace=False):
        picture = AIMED[names[index]][0](picture, random)
    return picture
