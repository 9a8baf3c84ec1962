"""Does a drawn face show the machine? Grids, seams, unlike eyes: things that features of frozen networks do not see."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.core.colour import desaturated, is_grey
from app.core.faces import FRAME_POINTS, Bytes
from model_export.evaluation.metrics import Array, Intervals, as_json
from model_export.evaluation.sample import Sample

EYE_SIDE = 0.16
"""Side of the patch around an eye, in units of the frame."""


def measure(sample: Sample) -> dict[str, Any]:
    """Equal phases and even steps of redrawings and variants, and how like the eyes are, beside photographs."""
    kinds = {
        "photographs": sample.sources[:, None],
        "redrawn": sample.redrawn.images[:, None],
        "variants": sample.variants.images,
    }
    found = {kind: of(sample, pictures, drawn=kind != "photographs") for kind, pictures in kinds.items()}
    return {"texture": found | {"grey": greyness(sample)}}


def greyness(sample: Sample) -> dict[str, Any]:
    """Mean over the picture of largest minus least channel, in levels of 255, of the redrawings of grey photographs.

    As the networks draw them, and as they are served: where the photograph is grey, what is drawn is desaturated.
    """
    grey = np.array([is_grey(picture) for picture in sample.sources])
    if not grey.any():
        return {"photographs": 0}
    drawn = sample.redrawn.images[grey]
    tints = {"networks": drawn, "served": desaturated(drawn)}
    rows = {name: sample.intervals.mean(np.ptp(pictures, axis=3).mean((1, 2))) for name, pictures in tints.items()}
    return {"photographs": int(grey.sum()), **as_json(rows | {"served": rows["served"].with_aim("<=", 1)})}


def of(sample: Sample, pictures: Bytes, *, drawn: bool) -> dict[str, Any]:
    """The figures of one kind of pictures [n, k, s, s, 3], k of each face; drawn ones have aims."""
    flat = pictures.reshape(-1, *pictures.shape[2:])
    sharpness, colour = (of_faces(found, len(pictures)) for found in (eye_sharpness(flat), eye_colour(flat)))
    figures = {
        "eye_sharpness": sample.intervals.of(lambda x: float(x[:, 1].mean() / x[:, 0].mean()), sharpness),
        "eye_colour": sample.intervals.mean(colour),
    }
    entries = even_steps(sample.intervals, pictures, drawn=drawn) | as_json(figures)
    if drawn:
        entries["eye_sharpness"] |= _about_one(entries["eye_sharpness"]["value"], 0.05)
    return entries


def even_steps(intervals: Intervals, pictures: Bytes, *, drawn: bool) -> dict[str, Any]:
    """Grids of period two and seams in pictures [n, k, s, s, 3], across and down; of drawn ones with aims.

    Intervals resample the n faces.
    """
    found = steps(pictures.reshape(-1, *pictures.shape[2:]))
    across, down = (of_faces(profile, len(pictures)) for profile in found)
    figures = {
        "columns": intervals.of(phase_ratio, across),
        "rows": intervals.of(phase_ratio, down),
        "column_standing_out": intervals.of(standing_out, across),
        "row_standing_out": intervals.of(standing_out, down),
    }
    if drawn:
        for name in ("column_standing_out", "row_standing_out"):
            figures[name] = figures[name].with_aim("<=", 1.05)
    entries = as_json(figures)
    if drawn:
        for name in ("columns", "rows"):
            entries[name] |= _about_one(entries[name]["value"], 0.03)
    return entries


def of_faces(values: Array, faces: int) -> Array:
    """Of values [n * k, ...] of k pictures of each of n faces the means [n, ...]."""
    means: Array = values.reshape(faces, -1, *values.shape[1:]).mean(1)
    return means


def _about_one(value: float, allowed: float) -> dict[str, Any]:
    return {"aim": f"1 +- {allowed}", "met": abs(value - 1) <= allowed}


def steps(pictures: Bytes) -> tuple[Array, Array]:
    """Mean absolute step of luminance at each column and at each row, [n, side - 1] each."""
    grey = pictures.astype(np.float32).mean(3)
    return np.abs(np.diff(grey, axis=2)).mean(1), np.abs(np.diff(grey, axis=1)).mean(2)


def phase_ratio(profile: Array) -> float:
    """Mean step at odd places over that at even ones; 1 where there is no grid of period two."""
    return float(profile[:, 1::2].mean() / profile[:, ::2].mean())


def standing_out(profile: Array) -> float:
    """The largest mean step over the mean of its two neighbours'."""
    mean = profile.mean(0)
    return float((mean[1:-1] / ((mean[:-2] + mean[2:]) / 2)).max())


def _eyes(pictures: Bytes) -> list[Array]:
    side = pictures.shape[1]
    half = round(EYE_SIDE * side / 2)
    patches = []
    for x, y in FRAME_POINTS[:2]:
        column, row = round(float(x) * side), round(float(y) * side)
        patches.append(pictures[:, row - half : row + half, column - half : column + half].astype(np.float64))
    return patches


def eye_sharpness(pictures: Bytes) -> Array:
    """Mean absolute Laplacian of luminance around the left and the right eye, [n, 2]."""
    found = []
    for patch in _eyes(pictures):
        grey = patch.mean(3)
        laplacian = grey[:, 2:, 1:-1] + grey[:, :-2, 1:-1] + grey[:, 1:-1, 2:] + grey[:, 1:-1, :-2]
        found.append(np.abs(laplacian - 4 * grey[:, 1:-1, 1:-1]).mean((1, 2)))
    return np.stack(found, axis=1)


def eye_colour(pictures: Bytes) -> Array:
    """Distance [n] of the mean colours of the two eyes, luminance taken off, in levels of 255."""
    chroma = [patch.mean((1, 2)) - patch.mean((1, 2, 3))[:, None] for patch in _eyes(pictures)]
    distances: Array = np.abs(chroma[0] - chroma[1]).mean(1)
    return distances
