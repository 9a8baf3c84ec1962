"""Pictures as nobody should send them: every format and mode, then cut, flipped, spliced, lied about, and blown up."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial

import numpy as np
from PIL import ExifTags, Image
from skimage import data

PNG = b"\x89PNG\r\n\x1a\n"


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    output = io.BytesIO()
    image.save(output, form, **options)
    return output.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_bomb(side: int, kind: int = 2, depth: int = 8) -> bytes:
    """`side` x `side` pixels of nothing, deflated twice as well as anybody should."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    row = b"\0" * (1 + (side * channels * depth + 7) // 8)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def scan_bomb(side: int, scans: int) -> bytes:
    """A progressive JPEG whose empty blocks are gone over again and again, 40 bytes a time."""
    blocks = ((side + 7) // 8) ** 2
    dc = b"\0" * ((blocks + 7) // 8)
    bits = ("0" + "1" * 14) * -(-blocks // 32767)
    bits += "1" * (-len(bits) % 8)
    run = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return (
        b"\xff\xd8"
        + segment(0xDB, b"\0" + bytes([1] * 64))
        + segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0]))
        + segment(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0")
        + segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0")
        + segment(0xDA, bytes([1, 1, 0, 0, 0, 0]))
        + dc
        + (segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + run) * scans
        + b"\xff\xd9"
    )


class Made(Mapping[str, bytes]):
    """Files by name, each made when somebody first asks for it: many want one, and all of them take seconds."""

    def __init__(self, makers: dict[str, Callable[[], bytes]]) -> None:
        self._makers = {name: cache(make) for name, make in makers.items()}

    def __getitem__(self, name: str) -> bytes:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def originals() -> Made:
    """One portrait in every format and mode that clients come up with, and some that are none of ours."""
    face = Image.fromarray(data.astronaut()).resize((320, 320))
    grey = face.convert("L")
    alpha = face.copy()
    alpha.putalpha(grey)
    frames = [face.rotate(90 * turn) for turn in range(4)]
    wide = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    lies = Image.Exif()
    lies[ExifTags.Base.Orientation] = 6
    lies[ExifTags.Base.ImageWidth], lies[ExifTags.Base.ImageLength] = 2**31, 1
    lies[ExifTags.Base.Software] = "x" * 60000
    absurd = Image.Exif()
    absurd[ExifTags.Base.Orientation] = 60000
    made: dict[str, Callable[[], bytes]] = {
        "jpeg": partial(saved, face, "JPEG", quality=90),
        "jpeg 4:2:0": partial(saved, face, "JPEG", quality=60, subsampling=2),
        "jpeg progressive": partial(saved, face, "JPEG", progressive=True),
        "jpeg restarts": partial(saved, face, "JPEG", restart_marker_blocks=3),
        "jpeg grey": partial(saved, grey, "JPEG"),
        "jpeg cmyk": partial(saved, face.convert("CMYK"), "JPEG"),
        "jpeg exif": partial(saved, face, "JPEG", exif=lies),
        "jpeg absurd exif": partial(saved, face, "JPEG", exif=absurd),
        "jpeg comment": partial(saved, face, "JPEG", comment=b"c" * 60000),
        "jpeg profile": partial(saved, face, "JPEG", icc_profile=b"not a profile" * 9000),
        "mpo": partial(saved, face, "MPO", save_all=True, append_images=frames[:1]),
        "webp": partial(saved, face, "WEBP"),
        "webp lossless": partial(saved, face, "WEBP", lossless=True),
        "webp alpha": partial(saved, alpha, "WEBP"),
        "webp animated": partial(saved, face, "WEBP", save_all=True, append_images=frames),
        "apng": partial(saved, face, "PNG", save_all=True, append_images=frames),
        "png 16 bit": partial(saved, wide, "PNG"),
        "gif": partial(saved, face, "GIF", save_all=True, append_images=frames),
        "tiff": partial(saved, face, "TIFF"),
        "bmp": partial(saved, face, "BMP"),
        "ico": partial(saved, face, "ICO"),
        "ppm": partial(saved, face, "PPM"),
        "jpeg 2000": partial(saved, face, "JPEG2000"),
        "avif": partial(saved, face, "AVIF"),
    }
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        made[f"png {mode}"] = partial(saved, alpha.convert(mode), "PNG", exif=lies)
    palette = face.quantize(200)
    made["png palette transparent"] = partial(saved, palette, "PNG", transparency=bytes(range(200)))
    return Made(made)


ORIGINALS = originals()
READABLE = [name for name in ORIGINALS if name.split()[0] in ("jpeg", "mpo", "webp", "apng", "png")]


def truncated(file: bytearray, chance: random.Random) -> bytes:
    return bytes(file[: chance.randrange(len(file))])


def flipped(file: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.choice((1, 3, 20, 200))):
        file[chance.randrange(len(file))] ^= 1 << chance.randrange(8)
    return bytes(file)


def flipped_head(file: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 8)):
        file[chance.randrange(min(len(file), 700))] = chance.randrange(256)
    return bytes(file)


def wrong_magic(file: bytearray, chance: random.Random) -> bytes:
    magic = chance.choice(
        (b"\xff\xd8\xff\xe0", PNG, b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a", b"%PDF-1.7", b"II*\0", b"\0" * 8)
    )
    return magic + bytes(file[len(magic) * chance.randrange(2) :])


def spliced(file: bytearray, chance: random.Random) -> bytes:
    other = ORIGINALS[chance.choice(list(ORIGINALS))]
    return bytes(file[: chance.randrange(len(file))]) + other[chance.randrange(len(other)) :]


def repeated(file: bytearray, chance: random.Random) -> bytes:
    start = chance.randrange(len(file))
    part = bytes(file[start : start + chance.choice((2, 30, 4000))])
    return bytes(file[:start]) + part * chance.randint(2, 60) + bytes(file[start:])


def zeroed(file: bytearray, chance: random.Random) -> bytes:
    start = chance.randrange(len(file))
    length = min(chance.choice((4, 64, 5000)), len(file) - start)
    file[start : start + length] = bytes([chance.choice((0, 255))]) * length
    return bytes(file)


def resized(file: bytearray, chance: random.Random) -> bytes:
    """Another size in the header, with a checksum that is right."""
    size = chance.choice((0, 1, 2, 7, 319, 4096, 7999, 16383, 65535, 2**31 - 1))
    other = chance.choice((0, 1, 320, 8000, 65535))
    whole = bytes(file)
    if whole.startswith(PNG):
        header = struct.pack(">II", size, other) + whole[24:29]
        return PNG + chunk(b"IHDR", header) + whole[33:]
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        place = whole.find(marker)
        if place > 0:
            return whole[: place + 5] + struct.pack(">HH", size & 0xFFFF, other & 0xFFFF) + whole[place + 9 :]
    place = chance.choice((24, 26, 27))
    return whole[:place] + struct.pack("<H", size & 0xFFFF) + whole[place + 2 :]


def polyglot(file: bytearray, chance: random.Random) -> bytes:
    """A picture that is something else as well."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as entries:
        entries.writestr("../../escape.txt", "x")
    script = b"<script>alert(1)</script><?php system('id'); ?>"
    tail = chance.choice((archive.getvalue(), script, b"%PDF-1.7\n%%EOF", ORIGINALS["gif"], b"#!/bin/sh\n"))
    if chance.random() < 0.3:
        return tail + bytes(file)
    return bytes(file) + tail


def lied_about(file: bytearray, chance: random.Random) -> bytes:
    """EXIF that a reader trusts at its peril: offsets beyond the end, counts beyond reason, directories in circles."""
    entries = b"".join(
        struct.pack(
            "<HHII",
            chance.choice((0x112, 0x100, 0x8769, 0x201, 0x202, 0x8825)),
            chance.randrange(14),
            chance.choice((0, 1, 9, 2**31, 2**32 - 1)),
            chance.choice((0, 6, 8, 60000, 2**32 - 1)),
        )
        for _ in range(chance.randint(1, 40))
    )
    directory = struct.pack("<H", len(entries) // 12) + entries + struct.pack("<I", chance.choice((0, 8, 2**32 - 1)))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + directory
    whole = bytes(file)
    if whole.startswith(PNG):
        return whole[:33] + chunk(b"eXIf", exif[6:]) + whole[33:]
    return whole[:2] + segment(0xE1, exif) + whole[2:]


def bomb(file: bytearray, chance: random.Random) -> bytes:
    side = chance.choice((3000, 7900, 8100, 30000))
    if side == 30000:
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10**6)) + chunk(b"IEND", b"")
    if chance.random() < 0.3:
        return scan_bomb(min(side, 7900), 400)
    kind, depth = chance.choice(((0, 1), (2, 8), (6, 8), (0, 16)))
    return png_bomb(side, kind, depth)


def noise(file: bytearray, chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice((0, 1, 50, 5000)))


def untouched(file: bytearray, chance: random.Random) -> bytes:
    return bytes(file)


Mutation = Callable[[bytearray, random.Random], bytes]

MUTATIONS: dict[Mutation, int] = {
    truncated: 15,
    flipped: 25,
    flipped_head: 20,
    wrong_magic: 6,
    spliced: 10,
    repeated: 10,
    zeroed: 10,
    resized: 10,
    polyglot: 6,
    lied_about: 8,
    noise: 2,
    untouched: 3,
}


def mutated(number: int) -> tuple[str, bytes]:
    """The picture of this number, always the same, and what was done to it; one in 400 is a bomb."""
    chance = random.Random(number)
    name = chance.choice(READABLE if chance.random() < 0.85 else list(ORIGINALS))
    if number % 400 == 399:
        return "bomb", bomb(bytearray(), chance)
    (mutation,) = chance.choices(list(MUTATIONS), list(MUTATIONS.values()))
    return f"{name}, {mutation.__name__}", mutation(bytearray(ORIGINALS[name]), chance)
