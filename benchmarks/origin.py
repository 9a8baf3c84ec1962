"""What the layers that say where a picture comes from cost, in CPU time, on a machine that is quiet."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from app.core.faces import Bytes
from app.core.origin import Origin
from app.core.provenance import Provenance
from app.core.watermark import Message, Watermark
from app.runtime.manifest import parse_manifest
from app.settings import Settings
from tests.app.chain import make_chain

BATCH = 8
"""Faces at once, as the service marks them."""
PROVENANCE = Provenance("lookalike", "0.0.0", "0" * 32)


def costs(tries: int = 40) -> dict[str, float]:
    """CPU milliseconds a picture by layer; content credentials only where the extra is installed."""
    faces = _faces(parse_manifest(Settings().models).image_size)
    plain = Origin(Settings(watermark=False, metadata=False))
    bare = _least(partial(_files, plain, faces), tries)
    named = Origin(Settings(watermark=False))
    found = {
        "mark in the pixels": marking(faces, tries)[0],
        "metadata": _least(partial(_files, named, faces), tries) - bare,
        "the picture's file itself, a JPEG": bare,
    }
    if importlib.util.find_spec("c2pa"):
        with TemporaryDirectory() as folder:
            chain = make_chain(Path(folder))
            signing = Origin(
                Settings(watermark=False, metadata=False, c2pa_certificates=chain.certificates, c2pa_key=chain.key)
            )
            found["content credentials (C2PA)"] = _least(partial(_files, signing, faces), max(2, tries // 8)) - bare
    return found


def marking(faces: Bytes, tries: int) -> tuple[float, float]:
    """CPU milliseconds of laying the mark into one of several faces, the least of the tries and the median."""
    watermark, message = Watermark(), Message(0x0180, 4711)
    times = _times(lambda: watermark.lay(faces, message), tries)
    return min(times) / len(faces), float(np.median(times)) / len(faces)


def _files(origin: Origin, faces: Bytes) -> None:
    origin.files(list(faces), "jpeg", 95, PROVENANCE)


def _least(work: Callable[[], object], tries: int) -> float:
    return min(_times(work, tries)) / BATCH


def _times(work: Callable[[], object], tries: int) -> list[float]:
    """CPU milliseconds of each try, all threads together; the first, which fills caches, is left out."""
    work()
    times = []
    for _ in range(tries):
        start = time.process_time()
        work()
        times.append((time.process_time() - start) * 1000)
    return times


def _faces(size: int) -> Bytes:
    """As many pictures [BATCH, size, size, 3]: what they show changes nothing but the size of their files."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (BATCH, size // 8, size // 8, 3), np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)[:, :size, :size]
