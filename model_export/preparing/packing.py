"""A prepared set in small parts, for a machine that has neither the sources nor room for the arrays.

Each part is a tar: the faces as JPEG, rows of faces.csv, and the embeddings as half-precision numbers. `FaceSet.open`
takes a folder of parts for what it is.
"""

from __future__ import annotations

import csv
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from app.core.faces import EMBEDDING_SIZE, FRAME_SIZE, Bytes, Floats
from model_export.preparing.files import replacing

PART_BYTES = 56 * 2**20
"""So that a checkout without weights travels beside a part in 64 MiB."""
QUALITY = 92
"""Of JPEG with full colour resolution: 43 dB, an embedding's cosine 0.9998, a seventh of the bytes."""
BLOCK = 8
"""Side of the squares JPEG is made of."""
EMBEDDINGS = ("embeddings", "embeddings_mirrored")
Result = TypeVar("Result")


def pack(prepared: Path, out: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Write a prepared set into parts `part-NNN-of-MMM.tar`, in its order.

    Args:
        prepared: the folder of `prepare`.
        out: the folder of the parts; parts that lie there are replaced.
        part_bytes: no part is larger.

    Returns:
        The parts.
    """
    faces, *embeddings = (np.load(prepared / f"{name}.npy", mmap_mode="r") for name in ("faces", *EMBEDDINGS))
    with (prepared / "faces.csv").open(newline="", encoding="utf-8") as file:  # a file name may have lines of its own
        header, *lines = map(_line, csv.reader(file))
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("part-*"):
        old.unlink()
    unnamed: list[Path] = []
    encoded = _in_threads(lambda row: encode(faces[row], row), range(len(lines)))
    for start, pictures in _portions(tqdm(encoded, total=len(lines), unit="face", desc="packing"), lines, part_bytes):
        some = slice(start, start + len(pictures))
        files = {f"{row:06d}.jpg": picture for row, picture in enumerate(pictures, start)}
        files["faces.csv"] = b"".join([header, *lines[some]])
        for name, array in zip(EMBEDDINGS, embeddings, strict=True):
            buffer = io.BytesIO()
            np.save(buffer, array[some].astype(np.float16))
            files[f"{name}.npy"] = buffer.getvalue()
        unnamed.append(out / f"part-{len(unnamed):03d}.unfinished")
        _write_tar(unnamed[-1], files)
    parts = [path.with_name(f"{path.stem}-of-{len(unnamed):03d}.tar") for path in unnamed]
    for path, part in zip(unnamed, parts, strict=True):
        os.replace(path, part)
    print(f"{out}: {len(lines)} faces in {len(parts)} parts, {sum(part.stat().st_size for part in parts) >> 20} MiB")
    return parts


def _line(row: Sequence[str]) -> bytes:
    """A row of a table, as `files.write_csv` writes it."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(row)
    return line.getvalue().encode()


def unpack(folder: Path) -> tuple[list[dict[str, str]], Bytes, Floats, Floats]:
    """Rows of faces.csv, faces and the two kinds of embeddings of a folder of parts, in memory.

    Raises:
        FileNotFoundError: there is no part, or one is missing.
    """
    parts = sorted(folder.glob("part-*-of-*.tar"))
    wanted = int(parts[0].stem.rsplit("-", 1)[1]) if parts else 0
    if not parts or len(parts) != wanted:
        raise FileNotFoundError(f"{folder}: {len(parts)} of {wanted} parts of a packed set are here")
    rows: list[dict[str, str]] = []
    faces: list[Bytes] = []
    embeddings: dict[str, list[Floats]] = {name: [] for name in EMBEDDINGS}
    for part in parts:
        files = _read_tar(part)
        some = list(csv.DictReader(io.StringIO(files["faces.csv"].decode(), newline="")))
        first = len(rows)
        rows += some
        faces.append(np.stack(list(_in_threads(_decoder(files), range(first, len(rows))))))
        for name, found in embeddings.items():
            array = np.load(io.BytesIO(files[f"{name}.npy"])).astype(np.float32)
            found.append(array / np.linalg.norm(array, axis=1, keepdims=True))
    plain, mirrored = (np.concatenate(embeddings[name]) for name in EMBEDDINGS)
    whole = np.concatenate(faces)
    whole.flags.writeable = False
    return rows, whole, plain, mirrored


def _decoder(files: dict[str, bytes]) -> Callable[[int], Bytes]:
    return lambda row: decode(files[f"{row:06d}.jpg"], row)


def encode(face: Bytes, row: int) -> bytes:
    """A face [128, 128, 3] as JPEG, within a margin that depends on its row.

    JPEG leaves steps between its squares of 8 pixels. They would stand at the same places of all faces, and a generator
    would learn them as a grid; the margin puts them elsewhere in every face.
    """
    top, left = _offset(row)
    margin = np.pad(face, ((top, BLOCK - top), (left, BLOCK - left), (0, 0)), mode="edge")
    buffer = io.BytesIO()
    Image.fromarray(margin).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def decode(data: bytes, row: int) -> Bytes:
    """What `encode` made of a face; raises ValueError where it is not that."""
    top, left = _offset(row)
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        if image.size != (FRAME_SIZE + BLOCK,) * 2:
            raise ValueError(f"face {row} of a packed set has {image.size} pixels")
        pixels = np.asarray(image.convert("RGB"))
    return pixels[top : top + FRAME_SIZE, left : left + FRAME_SIZE]


def _offset(row: int) -> tuple[int, int]:
    return row % BLOCK, row // BLOCK % BLOCK


def _portions(pictures: Iterable[bytes], lines: Sequence[bytes], part_bytes: int) -> Iterator[tuple[int, list[bytes]]]:
    """First row and pictures of each part."""
    # A tar rounds up to blocks of 512 after a header of as many, and ends with two such, padded to 10,240.
    overhead = 2 * EMBEDDING_SIZE * 2 + 2 * 512
    some: list[bytes] = []
    start, size = 0, 32_768
    for row, picture in enumerate(pictures):
        more = len(picture) + len(lines[row]) + overhead
        if some and size + more > part_bytes:
            yield start, some
            start, size, some = row, 32_768, []
        some.append(picture)
        size += more
    if some:
        yield start, some


def _in_threads(work: Callable[[int], Result], rows: Iterable[int]) -> Iterator[Result]:
    """Results in order, a bounded number at a time: Pillow works outside of Python's lock."""
    threads = min(16, os.cpu_count() or 1)
    left = iter(rows)
    with ThreadPoolExecutor(threads) as pool:
        while some := list(islice(left, 64 * threads)):
            yield from pool.map(work, some)


def _write_tar(path: Path, files: dict[str, bytes]) -> None:
    with replacing(path) as unfinished, tarfile.open(unfinished, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def _read_tar(path: Path) -> dict[str, bytes]:
    files: dict[str, Any] = {}
    with tarfile.open(path) as tar:
        for entry in tar:
            file = tar.extractfile(entry)
            if file is not None:
                files[entry.name] = file.read()
    return files
