"""Depths and colour models, against what a viewer shows."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from app.core.colour import MAX_PROFILE, as_shown, desaturated, is_grey
from app.core.images import read_photo
from tests.conftest import encoded

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def profile(*, swapped: bool) -> bytes:
    """sRGB, or with red and green exchanged, so that every viewer shows it who reads profiles."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if swapped:
        data = data.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
        table, rest = data[: 132 + 12 * 20], data[132 + 12 * 20 :]
        table = table.replace(b"rXYZ", b"xxxx").replace(b"gXYZ", b"rXYZ").replace(b"xxxx", b"gXYZ")
        data = table + rest
    return data


def shown(image: Image.Image, form: str, **options: object) -> np.ndarray:
    return np.asarray(read_photo(encoded(image, form, **options), 10**6).image).astype(int)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_a_profile_is_applied(form: str) -> None:
    flat = Image.new("RGB", (16, 16), (200, 60, 20))
    options = {"lossless": True} if form == "WEBP" else {}
    found = shown(flat, form, icc_profile=profile(swapped=True), **options).reshape(-1, 3).mean(0)
    np.testing.assert_allclose(found, (60, 200, 20), atol=4)
    plain = shown(flat, form, icc_profile=profile(swapped=False), **options).reshape(-1, 3).mean(0)
    np.testing.assert_allclose(plain, (200, 60, 20), atol=3)


def test_a_profile_does_not_cost_the_transparency() -> None:
    clear = Image.new("RGBA", (8, 8), (200, 60, 20, 0))
    clear.paste((200, 60, 20, 255), (0, 0, 4, 8))
    found = shown(clear, "PNG", icc_profile=profile(swapped=True))
    np.testing.assert_allclose(found[4, 2], (60, 200, 20), atol=2)
    assert found[4, 6].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    "useless", [b"no profile", profile(swapped=True)[:200], profile(swapped=True) + bytes(MAX_PROFILE)]
)
def test_a_profile_that_is_of_no_use_is_passed_over(useless: bytes) -> None:
    assert np.array_equal(shown(Image.fromarray(COLOUR), "WEBP", lossless=True, icc_profile=useless), COLOUR)


def test_a_profile_of_another_colour_model_is_passed_over() -> None:
    grey = shown(Image.fromarray(RAMP), "PNG", icc_profile=profile(swapped=True))
    assert np.array_equal(grey, np.repeat(RAMP[..., None], 3, 2))


@pytest.mark.parametrize("wide", ["I;16", "I", "F"])
def test_deep_grey_keeps_its_ramp(wide: str) -> None:
    ramp = {
        "I;16": Image.fromarray(RAMP.astype(np.uint16) * 257),
        "I": Image.fromarray(RAMP.astype(np.int32) * 257),
        "F": Image.fromarray(RAMP.astype(np.float32) / 255),
    }[wide]
    assert ramp.mode == wide
    assert np.array_equal(np.asarray(as_shown(ramp)), np.repeat(RAMP[..., None], 3, 2))


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_floats_of_any_range(white: float) -> None:
    values = RAMP.astype(np.float32) / 255 * np.float32(white)
    values[0, :3] = (np.nan, np.inf, -1)
    found = np.asarray(as_shown(Image.fromarray(values))).astype(int)
    assert np.abs(found[1:] - np.repeat(RAMP[1:, :, None], 3, 2)).max() <= 1
    assert found[0, :3].max() == 0


def test_sixteen_bits_of_colour() -> None:
    """Pillow cannot write them, so the file is made by hand."""
    import struct
    import zlib

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in COLOUR.astype(np.uint16) * 257)
    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.array_equal(np.asarray(read_photo(data, 10**6).image), COLOUR)


def test_a_palette_with_a_transparent_colour() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(0, (0, 0, 4, 8))
    found = shown(image, "PNG", transparency=0)
    assert (found[4, 2].tolist(), found[4, 6].tolist()) == ([255, 255, 255], [200, 100, 50])


@pytest.mark.parametrize(("mode", "key", "expected"), [("L", 7, [200] * 3), ("RGB", (7, 8, 9), [200, 100, 50])])
def test_one_colour_that_stands_for_transparency(mode: str, key: object, expected: list[int]) -> None:
    image = Image.new(mode, (8, 8), 200 if mode == "L" else (200, 100, 50))
    image.paste(key, (0, 0, 4, 8))
    found = shown(image, "PNG", transparency=key)
    assert (found[4, 2].tolist(), found[4, 6].tolist()) == ([255, 255, 255], expected)


def test_half_transparency_lies_over_white() -> None:
    assert shown(Image.new("LA", (4, 4), (0, 128)), "PNG")[2, 2].tolist() == [127] * 3


def test_cmyk_as_cameras_and_printers_write_it() -> None:
    """Adobe's files are inverted; ink of 100 % cyan is no red at all."""
    found = shown(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG").reshape(-1, 3).mean(0)
    np.testing.assert_allclose(found, (0, 255, 255), atol=3)
    file = io.BytesIO()
    Image.new("CMYK", (16, 16), (0, 0, 0, 255)).save(file, "TIFF")
    assert np.asarray(as_shown(Image.open(file))).max() == 0


@pytest.mark.parametrize("mode", ["YCbCr", "LAB", "HSV", "RGBX", "RGBa"])
def test_other_models_become_rgb(mode: str) -> None:
    assert as_shown(Image.new(mode, (4, 4))).mode == "RGB"


@pytest.mark.parametrize("quality", [95, 60, 20])
def test_grey_is_grey_through_jpeg(portrait: Image.Image, quality: int) -> None:
    grey = portrait.convert("L").resize((128, 128))
    for stored in (grey, grey.convert("RGB")):
        assert is_grey(shown(stored, "JPEG", quality=quality).astype(np.uint8))
    noise = np.random.default_rng(0).normal(0, 6, (128, 128, 3))
    assert is_grey(np.clip(np.asarray(grey.convert("RGB")) + noise, 0, 255).astype(np.uint8))


def test_colours_are_none(portrait: Image.Image) -> None:
    face = portrait.crop((160, 60, 288, 188))
    grey = face.convert("L")
    sepia = np.clip(np.asarray(grey.convert("RGB")) * [1.05, 1.0, 0.85], 0, 255).astype(np.uint8)
    faded = Image.blend(grey.convert("RGB"), face, 0.25)
    for coloured in (np.asarray(face), sepia, np.asarray(faded)):
        assert not is_grey(coloured)


def test_grey_has_the_luma_of_the_colours() -> None:
    grey = desaturated(COLOUR)
    assert np.ptp(grey, axis=-1).max() == 0
    assert np.abs(grey[..., 0].astype(int) - np.asarray(Image.fromarray(COLOUR).convert("L"))).max() <= 1
    assert np.array_equal(desaturated(grey), grey)
