"""Which files are photographs, and photographs of other formats as one that the service reads.

Over HTTP a photograph is JPEG, PNG or WebP. Folders and archives hold what cameras and telephones write besides: TIFF,
AVIF, BMP and GIF, which Pillow reads, and HEIC with the extra `heif`.
"""

from __future__ import annotations

import importlib
import io
from functools import lru_cache

from PIL import Image

from app.core.images import READABLE, read_photo
from app.errors import NotAnImage

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .tif .tiff .heic .heif .hif .avif .bmp .dib .gif".split()  # noqa: SIM905 - a table
)
"""Suffixes of pictures, in lower case."""

HEAD_BYTES = 32
"""Bytes of a file that tell what it is."""

OTHERS = ("TIFF", "AVIF", "HEIF", "BMP", "GIF")
"""What is read besides what the service reads, by Pillow's names."""

_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"GIF87a", b"GIF89a")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


def is_picture(head: bytes) -> bool:
    """Whether a file that begins so is a picture, whatever its name."""
    return head.startswith(_STARTS) or _is_webp(head) or _brand(head) in _HEIF_BRANDS + _AVIF_BRANDS


def readable(data: bytes, max_pixels: int) -> bytes:
    """A picture in a format that the service reads: the same bytes where it is in one, else a PNG of it.

    Args:
        data: a whole file.
        max_pixels: most pixels its header may announce.

    Raises:
        NotAnImage: it is no picture in any format that can be read here, or a damaged one.
        TooManyPixels: more than `max_pixels`.
    """
    if _is_readable(data):
        return data
    output = io.BytesIO()
    read_any(data, max_pixels).save(output, "PNG", compress_level=1)
    return output.getvalue()


def read_any(data: bytes, max_pixels: int) -> Image.Image:
    """Decode a picture of any of these formats in full, upright and RGB; see `readable`."""
    if _is_readable(data):
        return read_photo(data, max_pixels, reduced=False).image
    if _brand(data) in _HEIF_BRANDS and not _heif():
        raise NotAnImage("It is a HEIC picture; to read those: pip install 'lookalike[heif]'.")
    formats = OTHERS if _heif() else tuple(set(OTHERS) - {"HEIF"})
    return read_photo(data, max_pixels, reduced=False, formats=formats).image


def _is_readable(data: bytes) -> bool:
    """Whether a file begins as what the service reads."""
    return data.startswith(_STARTS[:2]) or _is_webp(data)


def names() -> str:
    """The formats that can be read here, for people."""
    return ", ".join([*READABLE, *(name for name in OTHERS if name != "HEIF" or _heif())])


@lru_cache(maxsize=1)
def _heif() -> bool:
    """Teach Pillow to read HEIC, where the extra `heif` is installed."""
    try:
        plugin = importlib.import_module("pillow_heif")
    except ImportError:
        return False
    plugin.register_heif_opener()
    return True


def _is_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def _brand(head: bytes) -> bytes:
    """The kind of an ISO base media file (ISO/IEC 14496-12), empty for anything else."""
    return head[8:12] if head[4:8] == b"ftyp" else b""
