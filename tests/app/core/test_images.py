import io
import json
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.core.images import Format, contact_sheet, read_photo, write_image
from app.core.origin import Origin
from app.core.provenance import SYNTHETIC, Provenance
from app.errors import NotAnImage, TooManyPixels
from app.settings import Settings
from tests.patience import PATIENCE

MANY = 10**8
PROVENANCE = Provenance("lookalike", "1.2.3", "0123abcd")
FORMATS: list[Format] = ["jpeg", "webp", "png"]


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    output = io.BytesIO()
    image.save(output, form, **options)
    return output.getvalue()


def quadrants(width: int = 60, height: int = 40) -> Image.Image:
    """Red, green over blue, white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    pixels[height // 2 :, width // 2 :] = 255
    return Image.fromarray(pixels)


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_photograph_is_turned_upright(orientation: int, form: str) -> None:
    upright = quadrants()
    # How a camera would store it, so that the tag brings it back.
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = read_photo(encoded(stored, form, exif=exif), MANY)
    assert (photo.width, photo.height) == upright.size
    found = np.asarray(photo.image).astype(int)
    for y, x in ((5, 5), (5, -5), (-5, 5), (-5, -5)):
        assert np.abs(found[y, x] - np.asarray(upright)[y, x]).max() < 40


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "I;16"])
def test_every_kind_of_png_becomes_rgb(mode: str) -> None:
    source = Image.new(mode, (16, 16), 40000 if mode == "I;16" else None)
    photo = read_photo(encoded(source, "PNG"), MANY)
    assert photo.image.mode == "RGB"
    if mode == "I;16":
        assert photo.image.getpixel((3, 3)) == (40000 >> 8,) * 3


def test_cmyk_jpeg_becomes_rgb() -> None:
    assert read_photo(encoded(quadrants().convert("CMYK"), "JPEG"), MANY).image.mode == "RGB"


def test_transparency_becomes_white() -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert read_photo(encoded(clear, "PNG"), MANY).image.getpixel((4, 4)) == (255, 255, 255)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert read_photo(data, MANY).image.getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_large_photograph_comes_at_a_fraction_and_its_scale_is_told(form: str) -> None:
    data = encoded(Image.new("RGB", (6400, 3200)), form)
    reduced, full = read_photo(data, MANY), read_photo(data, MANY, reduced=False)
    assert (reduced.width, reduced.height, reduced.image.size) == (6400, 3200, (1600, 800))
    assert reduced.scale == 4
    assert (full.image.size, full.scale) == ((6400, 3200), 1)


def test_the_size_of_a_turned_fraction_is_that_of_the_upright_photograph() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = read_photo(encoded(Image.new("RGB", (6400, 3200)), "JPEG", exif=exif), MANY)
    assert (photo.width, photo.height, photo.image.size, photo.scale) == (3200, 6400, (800, 1600), 4)


def test_size_is_checked_before_decoding() -> None:
    with pytest.raises(TooManyPixels, match="30000 x 30000"):
        read_photo(png_header(30000, 30000), 64_000_000)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_picture_is_not_an_image(form: str, share: float, portrait: Image.Image) -> None:
    data = encoded(portrait, form)
    with pytest.raises(NotAnImage):
        read_photo(data[: int(len(data) * share)], MANY)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 30}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_that_lacks_its_end_marker_alone_is_whole(
    portrait: Image.Image, mode: str, options: dict[str, object]
) -> None:
    data = encoded(portrait.convert(mode), "JPEG", **options)
    whole = np.asarray(read_photo(data, MANY).image)
    for cut in (1, 2):
        assert np.array_equal(np.asarray(read_photo(data[:-cut], MANY).image), whole)
    for cut in (6, 20, 200, 2000):
        with pytest.raises(NotAnImage, match="incomplete"):
            read_photo(data[:-cut], MANY)


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_a_part_of_a_png_that_is_not_needed_may_be_broken(before: bytes) -> None:
    data = encoded(quadrants(), "PNG")
    place = data.index(before) - 4
    broken = struct.pack(">I", 5) + b"tEXta\0bcd" + b"\0\0\0\0"
    assert np.array_equal(np.asarray(read_photo(data[:place] + broken + data[place:], MANY).image), quadrants())


def test_pixels_of_a_png_may_not_be_broken() -> None:
    data = bytearray(encoded(quadrants(), "PNG"))
    data[data.index(b"IDAT") + 20] ^= 0xFF
    with pytest.raises(NotAnImage):
        read_photo(bytes(data), MANY)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\xff\xd8\xff",
        b"<svg/>",
        b"%PDF-1.4",
        pytest.param(b"GIF89a" + b"\0" * 50, id="GIF without a picture"),
        pytest.param(png_header(100, 100), id="PNG without pixels"),
        b"RIFF\0\0\0\0WEBP",
    ],
)
def test_anything_else_is_not_an_image(data: bytes) -> None:
    with pytest.raises(NotAnImage):
        read_photo(data, MANY)


@pytest.mark.parametrize("form", FORMATS)
def test_an_image_says_that_it_is_synthetic_and_what_made_it(form: Format) -> None:
    data = write_image(np.asarray(quadrants()), form, 90, PROVENANCE)
    image = Image.open(io.BytesIO(data))
    xmp = image.info["xmp"]
    text = xmp.decode() if isinstance(xmp, bytes) else xmp
    assert SYNTHETIC in text
    assert "<xmpMM:DocumentID>0123abcd<" in text
    assert "<Iptc4xmpExt:AISystemVersionUsed>1.2.3<" in text
    software = image.text["Software"] if form == "png" else image.getexif()[0x0131]
    assert software == "lookalike 1.2.3"


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_pixels_give_the_same_bytes(form: Format) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert write_image(pixels, form, 80, PROVENANCE) == write_image(pixels.copy(), form, 80, PROVENANCE)


@pytest.mark.parametrize(("form", "quality"), [("png", 1), ("webp", 100)])
def test_lossless_is_lossless(form: Format, quality: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(write_image(pixels, form, quality, PROVENANCE)))), pixels)


def test_a_mark_is_visible_and_leaves_the_pixels_alone() -> None:
    pixels = np.full((128, 128, 3), 90, np.uint8)
    marked = np.asarray(Image.open(io.BytesIO(write_image(pixels, "png", 90, PROVENANCE, mark=True))))
    changed = (marked != 90).any(axis=2)
    assert 20 < changed.sum() < 500
    assert changed[96:, 96:].sum() == changed.sum()
    assert (pixels == 90).all()


@pytest.mark.parametrize(("count", "columns", "size"), [(1, None, (8, 8)), (5, None, (24, 16)), (9, 9, (72, 8))])
def test_a_contact_sheet_is_about_square_unless_told(count: int, columns: int | None, size: tuple[int, int]) -> None:
    images = [np.full((8, 8, 3), index, np.uint8) for index in range(count)]
    sheet = contact_sheet(images, columns)
    assert (sheet.shape[1], sheet.shape[0]) == size
    assert sheet[0, 0, 0] == 0
    assert sorted(set(sheet[..., 0].ravel().tolist()) - {255}) == list(range(count))


@pytest.mark.parametrize(("form", "size"), [("webp", (15_990, 16)), ("png", (16_400, 8)), ("jpeg", (16_400, 8))])
def test_a_row_that_a_format_has_no_room_for_is_broken(form: Format, size: tuple[int, int]) -> None:
    origin = Origin(Settings(watermark=False))
    faces = [np.full((8, 410, 3), index, np.uint8) for index in range(40)]
    with Image.open(io.BytesIO(origin.sheet(faces, 40, form, 90, PROVENANCE))) as sheet:
        assert sheet.size == size


def test_nothing_is_read_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "face.jpg"
    quadrants().save(path)
    with pytest.raises(NotAnImage):
        read_photo(str(path).encode(), MANY)


@pytest.mark.parametrize("form", FORMATS)
def test_exiftool_reads_the_provenance_and_finds_nothing_amiss(
    form: Format, tmp_path: Path, program: Callable[[str], str]
) -> None:
    """By the program that everybody reads metadata with."""
    exiftool = program("exiftool")
    file = tmp_path / f"face.{form}"
    file.write_bytes(write_image(np.asarray(quadrants()), form, 90, PROVENANCE))
    printed = subprocess.run(
        [exiftool, "-json", "-all", "-validate", "-warning", "-G1", "-a", str(file)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    (tags,) = json.loads(printed.stdout)
    assert tags["XMP-iptcExt:DigitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert tags["XMP-iptcExt:AISystemVersionUsed"] == PROVENANCE.version
    assert tags["XMP-xmpMM:DocumentID"] == PROVENANCE.answer
    assert tags["ExifTool:Validate"] == "OK", tags


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def many_scans(scans: int, between: bytes = b"") -> bytes:
    """A progressive grey JPEG, 8 x 8 pixels, whose one block is gone over again and again."""
    scan = jpeg_segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + b"\x7f"
    return (
        b"\xff\xd8"
        + jpeg_segment(0xDB, b"\0" + bytes([1] * 64))
        + jpeg_segment(0xC2, struct.pack(">BHHB", 8, 8, 8, 1) + bytes([1, 0x11, 0]))
        + jpeg_segment(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0")
        + jpeg_segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0")
        + jpeg_segment(0xDA, bytes([1, 1, 0, 0, 0, 0]))
        + b"\x7f"
        + (between + scan) * (scans - 1)
        + b"\xff\xd9"
    )


# A marker that stands alone must not hide the scans after it, as if they were its content.
@pytest.mark.parametrize("between", [b"", b"\xff\x01", b"\xff\xff"])
def test_a_jpeg_that_would_be_gone_over_thousands_of_times_is_not_read(between: bytes) -> None:
    assert read_photo(many_scans(40), MANY).image.size == (8, 8)
    with pytest.raises(NotAnImage, match="more parts"):
        read_photo(many_scans(5000, between), MANY)


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


@pytest.mark.parametrize(
    ("form", "place", "crumb"),
    [
        ("JPEG", 2, b"\xff\xe1\0\2"),
        ("JPEG", 2, b"\xff\xfe\0\3a"),
        ("JPEG", 2, b"\xff"),
        ("PNG", 33, png_chunk(b"prVt", b"")),
        ("PNG", -12, png_chunk(b"IDAT", b"")),
    ],
    ids=["application segments", "comments", "filling", "private chunks", "empty data"],
)
def test_a_picture_of_a_hundred_thousand_crumbs_is_not_read(form: str, place: int, crumb: bytes) -> None:
    file = io.BytesIO()
    quadrants().save(file, form)
    data = file.getvalue()
    with pytest.raises(NotAnImage, match="more parts"):
        read_photo(data[:place] + crumb * 100_000 + data[place:], MANY)
