"""What the detail stage does to held-out faces: is it still the person, without a grid, and like a photograph?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from app.core.faces import Bytes, Recognizer
from model_export.detail.losses import degraded
from model_export.detail.material import LARGE, Material
from model_export.detail.pattern import mean_detail, pattern_left, quiet
from model_export.detail.sheet import plainly
from model_export.evaluation.metrics import Array, Intervals, KernelDistance, as_json
from model_export.evaluation.studio import Looks, batches
from model_export.evaluation.texture import even_steps, of_faces
from model_export.pictures import psnr, to_bytes, to_tensor

Enlarge = Callable[[Bytes], Bytes]
"""Faces [n, 128, 128, 3] -> [n, 256, 256, 3]."""


class Enlarger(NamedTuple):
    """The detail stage: of drawings, from which it takes the decoder's weave, and of pictures that have none."""

    drawings: Enlarge
    photographs: Enlarge


FINEST = 0.25
"""Cycles a pixel of a large face, across or down, beyond which a small one has nothing: its finest octave."""
MOST_MOVED = 0.01
REFERENCE = 1000
"""Training photographs that realism is measured against."""


def measure(held_out: Material, training: Material, models: Path, enlarge: Enlarger, seed: int = 0) -> dict[str, Any]:
    """Figures of `enlarge`, each beside what bicubic interpolation gives; see the module's text.

    Intervals resample faces, of which each has a redrawing and a variant.

    Args:
        held_out: faces that training never saw.
        training: what training photographs look like.
        models: the folder with the recogniser.
        enlarge: the detail stage.
        seed: of the intervals and of the degradation.
    """
    intervals = Intervals(resamples=1000, seed=seed)
    small = np.array(held_out.drawings).reshape(-1, *held_out.drawings.shape[2:])
    made = {"detail": enlarge.drawings(small), "bicubic": plainly(small, LARGE)}
    photographs = np.array(held_out.photographs)
    moved = similarity_moved(held_out, models, made["detail"])
    again = photographs_again(photographs, enlarge.photographs, seed)
    kinds = made | {"photographs": photographs}
    faces = {kind: len(held_out.photographs if kind == "photographs" else held_out.drawings) for kind in kinds}
    weight = quiet(mean_detail(photographs))
    return {
        "faces": len(held_out.drawings),
        "photographs": len(photographs),
        "similarity_moved": intervals.median(np.abs(moved)).with_aim("<=", MOST_MOVED).as_json(),
        "similarity_lost": intervals.mean(-moved).as_json(),
        "texture": {
            kind: even_steps(intervals, pictures.reshape(faces[kind], -1, *pictures.shape[1:]), drawn=True)
            for kind, pictures in made.items()
        },
        "pattern_left": {kind: {"value": round(pattern_left(pictures, weight), 4)} for kind, pictures in kinds.items()},
        "finest_octave_db": {
            kind: intervals.mean(of_faces(finest_octave(pictures), faces[kind])).as_json()
            for kind, pictures in kinds.items()
        },
        "photographs_enlarged_psnr": {
            kind: intervals.mean(psnr_of(pictures, photographs)).as_json() for kind, pictures in again.items()
        },
        "kernel_over_floor": _realism(made, photographs, np.array(training.photographs), intervals),
    }


def similarity_moved(held_out: Material, models: Path, large: Bytes) -> Array:
    """How the similarity [m, 2] of drawings to their photographs changes when the recogniser sees them enlarged."""
    small = held_out.drawings.reshape(-1, *held_out.drawings.shape[2:])
    sources = np.repeat(held_out.embeddings, 2, axis=0)
    similarities = []
    for pictures in (small, large):
        recognize = Recognizer(models, "cpu", 1, side=pictures.shape[1])
        embeddings = np.concatenate([recognize(part) for part in batches(pictures)])
        similarities.append((embeddings * sources).sum(1))
    moved: Array = (similarities[1] - similarities[0]).astype(np.float64)
    return moved.reshape(-1, 2)


def photographs_again(photographs: Bytes, enlarge: Enlarge, seed: int) -> dict[str, Bytes]:
    """Photographs halved and enlarged again in both ways."""
    random = torch.Generator().manual_seed(seed)
    small = np.concatenate([to_bytes(degraded(to_tensor(face[None]), random)).numpy() for face in photographs])
    return {"detail": enlarge(small), "bicubic": plainly(small, LARGE)}


def psnr_of(pictures: Bytes, originals: Bytes) -> Array:
    """Peak signal-to-noise ratio [n] in dB."""
    pairs = zip(batches(pictures), batches(originals), strict=True)
    return np.concatenate([psnr(to_tensor(a), to_tensor(b)).numpy() for a, b in pairs]).astype(np.float64)


def finest_octave(pictures: Bytes) -> Array:
    """Power [n] of luminance beyond `FINEST` in dB, of the face's middle under a Hann window; levels of 255 count 1."""
    side = pictures.shape[1]
    middle = slice(side // 4, side // 4 * 3)
    luma = pictures[:, middle, middle].astype(np.float32).mean(3)
    window = np.hanning(luma.shape[1])
    spectra = np.abs(np.fft.fft2((luma - luma.mean((1, 2), keepdims=True)) * window * window[:, None])) ** 2
    frequencies = np.abs(np.fft.fftfreq(luma.shape[1]))
    fine = np.maximum(frequencies, frequencies[:, None]) > FINEST
    power: Array = 10 * np.log10(spectra[:, fine].mean(1).astype(np.float64) + 1e-9)
    return power


def _realism(made: dict[str, Bytes], photographs: Bytes, training: Bytes, intervals: Intervals) -> dict[str, Any]:
    """Kernel distance of eyes, nose and mouth in the larger size to training photographs', over that of held-out ones.

    In features of a network trained on ImageNet alone, at the pixels' own size; the detail stage never saw them. The
    distance grows as samples shrink, so there are as many redrawings as photographs.
    """
    describe = Looks().describe
    few = training[:: max(1, len(training) // REFERENCE)]
    kernel = KernelDistance(describe(middles(few))[1].astype(np.float64))
    count = min(len(photographs), len(made["detail"]) // 2)
    floor = kernel.gram(describe(middles(_spread(photographs, count)))[1].astype(np.float64))

    def over(gram: tuple[Array, Array], rows: Array) -> float:
        return kernel.of_rows(*gram, rows) / max(kernel.of_rows(*floor, rows), 1e-12)

    figures = {}
    for kind, pictures in made.items():
        gram = kernel.gram(describe(middles(_spread(pictures[::2], count)))[1].astype(np.float64))
        figures[kind] = intervals.of(partial(over, gram), np.arange(count), cost=5, centred=True)
    return as_json(figures)


def _spread(pictures: Bytes, count: int) -> Bytes:
    """So many of pictures that lie in order, from all over it."""
    return pictures[np.linspace(0, len(pictures) - 1, count).round().astype(int)]


def middles(pictures: Bytes) -> Bytes:
    """The middle of large faces at their own pixels, [n, 128, 128, 3]: both eyes' inner halves, nose and mouth."""
    start = LARGE // 4
    return np.ascontiguousarray(pictures[:, start : start + LARGE // 2, start : start + LARGE // 2])
