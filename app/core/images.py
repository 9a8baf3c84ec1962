"""Pictures: bytes from a client into pixels, pixels into the bytes of an answer.

Everything that comes in is untrusted: the format is taken from the bytes, the size from the header before anything is
decoded, and whatever a decoder raises means "not an image". Everything that goes out says that it is synthetic.
"""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin

from app.core.colour import as_shown
from app.core.provenance import Provenance
from app.errors import NotAnImage, TooManyPixels

Bytes = NDArray[np.uint8]
Format = Literal["jpeg", "webp", "png"]

READABLE = ("JPEG", "PNG", "WEBP")
MOST_PIXELS: dict[Format, int] = {"jpeg": 65_500, "webp": 16_383, "png": 2**31 - 1}
"""Widest and highest picture that a format has room for, or Pillow writes."""
REDUCED_SIDE = 1600
"""A large photograph is brought to a fraction of its size, as long as its longer side keeps this many pixels."""

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations of a picture that was stored with width and height exchanged."""

TURNS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
"""Clockwise; Pillow's are counterclockwise."""

MAX_PARTS = 16384
"""Segments of a JPEG, chunks of a PNG: each costs the reader time and memory, even an empty one."""

MAX_SCANS = 100
"""Scans of a JPEG. Each passes over the whole picture, in as few as 40 bytes of the file; encoders write about ten."""

PNG = b"\x89PNG\r\n\x1a\n"
"""What a PNG begins with."""
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""The next marker within a scan: neither a stuffed byte, nor filling, nor a restart."""

# The size limit is ours (it answers with a problem, where Pillow's would only warn).
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Photo:
    """A decoded photograph, upright, RGB.

    Attributes:
        image: the pixels, perhaps at a fraction of the photograph's size.
        width, height: size of the upright photograph in full.
    """

    image: Image.Image
    width: int
    height: int

    def turned(self, degrees: int) -> Photo:
        """The photograph turned clockwise by 0, 90, 180 or 270 degrees."""
        if not degrees:
            return self
        width, height = (self.width, self.height) if degrees == 180 else (self.height, self.width)
        return Photo(self.image.transpose(TURNS[degrees]), width, height)

    @property
    def scale(self) -> float:
        """Pixels of the photograph in one pixel of `image`; 1 where it was decoded in full."""
        return self.width / self.image.width


JPEG_TAGS: dict[int, int] = {
    ExifTags.Base.XResolution: 72,
    ExifTags.Base.YResolution: 72,
    ExifTags.Base.ResolutionUnit: 2,  # inches
    ExifTags.Base.YCbCrPositioning: 1,  # centred
}
"""What Exif 3.0 demands of a JPEG file that has any Exif at all."""


def read_photo(data: bytes, max_pixels: int, reduced: bool = True, formats: tuple[str, ...] = READABLE) -> Photo:
    """Decode a photograph, turn it upright by its EXIF orientation, and make it RGB.

    Args:
        data: JPEG, PNG or WebP; of an animation the first frame is taken, transparency becomes white.
        max_pixels: most pixels its header may announce.
        reduced: let a large one come at a fraction of its size; a JPEG is decoded at 1/2, 1/4 or 1/8, which is faster.
        formats: what it may be, by Pillow's names.

    Raises:
        NotAnImage: not a picture in one of the formats, or a damaged one.
        TooManyPixels: more than `max_pixels`.
    """
    _check_parts(data)
    data = sound(data)
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=formats)
    except Exception as error:
        known = "JPEG, PNG or WebP " if formats == READABLE else ""
        raise NotAnImage(f"The bytes are not a {known}picture.") from error
    width, height = image.size
    if width * height > max_pixels:
        raise TooManyPixels(f"The picture has {width} x {height} pixels; at most {max_pixels} are accepted.")
    try:
        return _upright(image, reduced)
    except Exception as error:
        with suppress(Exception):
            if whole := _with_its_end(data):
                return _upright(Image.open(io.BytesIO(whole), formats=("JPEG",)), reduced)
        raise NotAnImage("The picture is damaged or incomplete.") from error


def _upright(image: Image.Image, reduced: bool) -> Photo:
    """Decode a picture that was opened; raises whatever its decoder does."""
    width, height = image.size
    if reduced:
        shrink = REDUCED_SIDE / max(width, height)
        image.draft(None, (math.ceil(width * shrink), math.ceil(height * shrink)))
    image.load()
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation in SIDEWAYS:
        width, height = height, width
    if orientation != 1:  # else it would be copied, as it is
        image = ImageOps.exif_transpose(image)
    shown = as_shown(image)
    # Looking for faces passes over all pixels some forty times where there is none.
    if reduced and (factor := max(shown.size) // REDUCED_SIDE) > 1:
        shown = shown.reduce(factor)
    return Photo(shown, width, height)


def _with_its_end(data: bytes) -> bytes | None:
    """A JPEG that lacks nothing but the marker of its end, with it; None where pixels are missing.

    Were there pixels to come, what stands in their place would be seen: so two fillings that look alike were not read.
    Raises whatever the decoder does.
    """
    if not data.startswith(b"\xff\xd8"):
        return None
    data = data.rstrip(b"\xff")
    whole = (data + filling * 64 + b"\xff\xd9" for filling in (b"\x00", b"\x5a"))
    first, second = (Image.open(io.BytesIO(file), formats=("JPEG",)).tobytes() for file in whole)
    return data + b"\xff\xd9" if first == second else None


def write_image(pixels: Bytes, form: Format, quality: int, provenance: Provenance | None, mark: bool = False) -> bytes:
    """Encode pixels [h, w, 3] uint8 with their provenance in XMP and a Software tag; equal arguments, equal bytes.

    Args:
        pixels: the image.
        form: file format.
        quality: 1..100 for JPEG and WebP (100: WebP without loss); PNG has no loss and ignores it.
        provenance: what the metadata says; None for none.
        mark: draw a visible "AI" into the lower right corner.
    """
    image = Image.fromarray(pixels)
    if mark:
        _draw_mark(image)
    xmp = provenance.xmp() if provenance else b""
    output = io.BytesIO()
    if form == "png":
        text = PngImagePlugin.PngInfo()
        if provenance:
            text.add_itxt("XML:com.adobe.xmp", xmp.decode())
            text.add_text("Software", provenance.software)
        # Level 1 is three times as fast as the default, for files a few percent larger.
        image.save(output, "PNG", pnginfo=text, compress_level=1)
        return output.getvalue()
    exif = _exif(provenance.software, form) if provenance else b""
    if form == "jpeg":
        image.save(output, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2, xmp=xmp, exif=exif)
    else:
        image.save(output, "WEBP", quality=quality, lossless=quality == 100, method=2, xmp=xmp, exif=exif)
    return output.getvalue()


@lru_cache(maxsize=8)
def _exif(software: str, form: Format) -> bytes:
    """The Software tag as Exif; kept, since making it takes as long as compressing a face to JPEG."""
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = software
    if form == "jpeg":
        exif.update(JPEG_TAGS)
    return exif.tobytes()


def normalised(pixels: Bytes) -> NDArray[np.float32]:
    """Levels 0..255 as networks take them, in [-1, 1]; shape as it was."""
    levels = pixels.astype(np.float32)
    levels /= np.float32(127.5)
    levels -= np.float32(1)
    return levels


def contact_sheet(images: Sequence[Bytes], columns: int | None = None) -> Bytes:
    """Lay images of one size [h, w, 3] out in rows, left to right; about square unless `columns` says otherwise."""
    columns = columns or math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height, width = images[0].shape[:2]
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = image
    return sheet


def _check_parts(data: bytes) -> None:
    """Refuse what would keep a decoder busy for minutes, by the parts that a JPEG or PNG says it is made of.

    Raises:
        NotAnImage: more parts or scans than any photograph has.
    """
    if data.startswith(b"\xff\xd8"):
        parts, scans = _jpeg_parts(data)
    elif data.startswith(PNG):
        parts, scans = sum(1 for _ in islice(_png_parts(data), MAX_PARTS + 1)), 1
    else:
        return
    if parts > MAX_PARTS or scans > MAX_SCANS:
        raise NotAnImage("The picture is made of more parts than a photograph has. Save it anew with a common program.")


def _jpeg_parts(data: bytes) -> tuple[int, int]:
    """Segments and scans of a JPEG up to its end, or to where there are too many."""
    parts = scans = 0
    place = 2
    while (match := _JPEG_MARKER.search(data, place)) and parts <= MAX_PARTS and scans <= MAX_SCANS:
        # Filling is read a byte at a time, and so counts like a segment.
        parts += 1 + match.start() - place if not scans else 1
        marker, place = data[match.start() + 1], match.end()
        if marker == 0xD9:
            break
        scans += marker == 0xDA
        if marker != 0x01:  # which stands alone, so that what follows it is read
            place += int.from_bytes(data[place : place + 2], "big")
    return parts, scans


def _png_parts(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each chunk of a PNG begins and ends; the last may lack its end."""
    place = len(PNG)
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        yield place, end
        place = end


def sound(data: bytes) -> bytes:
    """The same file without what is broken and not needed: a PNG's ancillary parts whose checksum is wrong.

    Viewers leave them out, and Pillow refuses the picture.
    """
    if not data.startswith(PNG):
        return data
    parts = list(_png_parts(data))
    kept = [data[start:end] for start, end in parts if not _broken(data, start, end)]
    return data if len(kept) == len(parts) else b"".join([PNG, *kept])


def _broken(data: bytes, start: int, end: int) -> bool:
    """Whether a chunk of a PNG is ancillary and its checksum wrong."""
    if start + 12 > len(data) or not data[start + 4] & 0x20:  # needed ones have a name that begins with a capital
        return False
    return zlib.crc32(data[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big")


def _draw_mark(image: Image.Image) -> None:
    size = max(9, image.height // 12)
    font = ImageFont.load_default(size)
    place = (image.width - size // 3, image.height - size // 3)
    ImageDraw.Draw(image).text(
        place, "AI", fill="white", font=font, anchor="rs", stroke_width=max(1, size // 8), stroke_fill="black"
    )
