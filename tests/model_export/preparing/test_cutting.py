"""From a picture to a measured face."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from skimage import data

from app.core.faces import FRAME_POINTS, Detector, Face, align
from model_export.preparing.command import MODELS
from model_export.preparing.cutting import (
    Cutter,
    UnusablePicture,
    channel_difference,
    is_cut_out,
    outside_share,
    padding_share,
    read_picture,
    sharpness,
)

ASTRONAUT = Image.fromarray(data.astronaut())
TIGHT = ASTRONAUT.crop((165, 45, 285, 175))


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def cutter():
    return Cutter(MODELS)


def test_a_photograph_gives_a_measured_face_in_the_frame(cutter):
    face, quality = cutter.cut(encode(ASTRONAUT))
    assert face.shape == (128, 128, 3)
    assert face.dtype == np.uint8
    assert quality.score > 0.9
    assert quality.eye_distance == pytest.approx(43, abs=2)
    assert quality.turn < 0.1
    assert quality.misfit < 0.05
    assert quality.outside == quality.padding == 0
    assert not quality.grey


def test_a_tight_chip_is_cut_like_the_photograph_it_came_from(cutter):
    whole, _ = cutter.cut(encode(ASTRONAUT))
    tight, quality = cutter.cut(encode(TIGHT))
    assert quality.eye_distance == pytest.approx(43, abs=4)
    assert float(np.prod(cutter.embed(np.stack([whole, tight])), axis=0).sum()) > 0.96


def test_the_second_look_makes_a_mirrored_chip_the_mirrored_face(cutter):
    """Seen as it is, a face that fills its picture gets key points that are far off, and to one side."""

    def difference(cut):
        return np.abs(cut(TIGHT).astype(int) - cut(ImageOps.mirror(TIGHT))[:, ::-1]).mean()

    detect = Detector(MODELS, "cpu", 1)
    at_once = difference(lambda image: align(image, detect.first_look(image)[0]))
    assert difference(lambda image: cutter.cut(encode(image))[0]) < at_once / 2


def test_the_exif_orientation_is_obeyed(cutter):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    lying = ASTRONAUT.transpose(Image.Transpose.ROTATE_90)
    upright, _ = cutter.cut(encode(ASTRONAUT))
    turned, _ = cutter.cut(encode(lying, exif=exif))
    assert np.array_equal(upright, turned)


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", encode(ASTRONAUT, "JPEG")[:9000], encode(ASTRONAUT)[:9000]],
    ids=["empty", "text", "truncated JPEG", "truncated PNG"],
)
def test_what_cannot_be_decoded_is_unreadable(data):
    with pytest.raises(UnusablePicture, match="unreadable"):
        read_picture(data)


@pytest.mark.parametrize("height", [5_000, 10_000], ids=["over our limit", "over Pillow's"])
def test_a_picture_of_too_many_pixels_is_not_decoded(height):
    with pytest.raises(UnusablePicture, match="too many pixels"):
        read_picture(encode(Image.new("1", (25_000, height))))


def test_a_picture_without_a_face_says_so(cutter):
    with pytest.raises(UnusablePicture, match="no face"):
        cutter.cut(encode(Image.fromarray(data.rocket())))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = ASTRONAUT.convert("L").convert("I;16") if mode == "I;16" else ASTRONAUT.convert(mode)
    assert read_picture(encode(image, kind)).mode == "RGB"


def test_grey_of_16_bits_keeps_its_ramp():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    read = read_picture(encode(Image.fromarray(np.tile(ramp, (8, 1)))))
    assert np.abs(np.asarray(read)[0, :, 0].astype(int) - np.arange(256)).max() <= 1


def test_a_picture_of_very_many_parts_is_refused():
    """Each of them costs a decoder time, however little it holds."""
    whole = encode(ASTRONAUT)
    comment = b"\0\0\0\5tEXta\0bcd" + zlib.crc32(b"tEXta\0bcd").to_bytes(4, "big")
    assert read_picture(whole[:-12] + comment * 20 + whole[-12:]).size == ASTRONAUT.size
    with pytest.raises(UnusablePicture, match="unreadable"):
        read_picture(whole[:-12] + comment * 20_000 + whole[-12:])


def test_what_is_transparent_becomes_white():
    assert read_picture(encode(Image.new("RGBA", (4, 4), (255, 0, 0, 0)))).getpixel((0, 0)) == (255, 255, 255)


def test_the_share_outside_is_that_of_the_frame():
    points = np.vstack([FRAME_POINTS * 100, FRAME_POINTS[:2] * 100])  # a frame of 100 pixels at the origin
    face = Face((0, 0, 100, 100), points, 0.9)
    assert outside_share(face, (100, 100)) == 0
    assert outside_share(face, (75, 100)) == pytest.approx(0.25, abs=0.02)
    assert outside_share(face, (50, 50)) == pytest.approx(0.75, abs=0.02)


def test_blur_lowers_the_sharpness_and_dim_light_hardly(cutter):
    def measured(image):
        return sharpness(np.asarray(image.convert("L"), np.float32))

    face = Image.fromarray(cutter.cut(encode(ASTRONAUT))[0])
    blurred = [measured(face.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 1, 2, 4)]
    assert blurred == sorted(blurred, reverse=True)
    assert blurred[0] > 10 * blurred[2]
    assert measured(face.point(lambda value: value // 2)) > blurred[0] / 2.5


def test_the_black_wedge_of_a_rotated_picture_is_found(cutter):
    face, _ = cutter.cut(encode(ASTRONAUT))
    assert padding_share(face) == 0
    wedged = Image.fromarray(np.maximum(face, 40))  # dark hair beside the wedge would blur its edge
    ImageDraw.Draw(wedged).polygon([(0, 0), (20, 0), (8, 128), (0, 128)], fill="black")
    assert padding_share(np.asarray(wedged)) == pytest.approx(0.11, abs=0.01)


def test_dark_hair_is_no_padding(cutter):
    face, _ = cutter.cut(encode(ASTRONAUT))
    dark = Image.fromarray(face)
    ImageDraw.Draw(dark).ellipse((-60, -60, 188, 40), fill="black")
    assert padding_share(np.asarray(dark)) == 0


def test_grey_is_told_from_colour_and_tint(cutter):
    face, quality = cutter.cut(encode(ASTRONAUT))
    grey = Image.fromarray(face).convert("L")
    compressed = read_picture(encode(grey.convert("RGB"), "JPEG", quality=80))
    assert channel_difference(np.asarray(compressed)) < 4
    assert channel_difference(np.asarray(ImageOps.colorize(grey, "black", "#ffe8c0"))) > 4
    assert quality.channel_difference == pytest.approx(channel_difference(face))
    assert not quality.grey
    assert cutter.cut(encode(ASTRONAUT.convert("L")))[1].grey


def test_a_face_cut_out_and_laid_on_white_is_told_by_both_lower_corners(cutter):
    face, quality = cutter.cut(encode(ASTRONAUT))
    assert not quality.cut_out
    white, oval = Image.new("RGB", (128, 128), "white"), Image.new("L", (128, 128))
    ImageDraw.Draw(oval).ellipse((4, -20, 124, 126), fill=255)
    laid = np.asarray(Image.composite(Image.fromarray(face), white, oval))
    assert is_cut_out(laid)
    half = face.copy()
    half[:, :64] = laid[:, :64]  # a white wall on one side
    assert not is_cut_out(half)
