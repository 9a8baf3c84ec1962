"""Do the drawn faces look like photographs? Distances of distributions, beside what photographs themselves have."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from app.core.faces import Bytes
from model_export.evaluation.metrics import Array, Figure, FrechetDistance, Intervals, KernelDistance, as_json
from model_export.evaluation.sample import Sample

JUDGE_REFERENCE = 1000
"""Of the reference faces, about so many are seen by the second recogniser."""


class Ruler:
    """Distances of pictures to training faces, plain and as multiples of what held-out photographs have.

    Args:
        reference: features [m, d] of training faces.
        photographs: features [n, d] of the sample's own photographs.
    """

    def __init__(self, reference: Array, photographs: Array) -> None:
        self.kernel, self.frechet = KernelDistance(reference), FrechetDistance(reference)
        self.photographs, self._floor = photographs, self.kernel.gram(photographs)

    def floors(self) -> dict[str, float]:
        """What the photographs themselves have."""
        rows = np.arange(len(self.photographs))
        return {
            "floor_kernel_distance": self.kernel.of_rows(*self._floor, rows),
            "floor_frechet_distance": self.frechet(self.photographs),
        }

    def __call__(self, drawn: Array, intervals: Intervals) -> dict[str, Figure]:
        """Of features [n, d] of one picture a photograph."""
        gram, rows = self.kernel.gram(drawn), np.arange(len(drawn))

        def frechet_over(rows: Array) -> float:
            return self.frechet(drawn[rows]) / max(self.frechet(self.photographs[rows]), 1e-12)

        return {
            "kernel_distance": intervals.of(lambda rows: self.kernel.of_rows(*gram, rows), rows, cost=5, centred=True),
            "kernel_over_floor": _kernel_over(self.kernel, gram, self._floor, intervals),
            "frechet_distance": intervals.of(lambda rows: self.frechet(drawn[rows]), rows, cost=16, centred=True),
            "frechet_over_floor": intervals.of(frechet_over, rows, cost=16, centred=True),
        }


@lru_cache(maxsize=1)
def _ruler(sample: Sample) -> Ruler:
    return Ruler(sample.reference.deep, sample.described.deep)


def distances(sample: Sample, images: Bytes) -> dict[str, Figure]:
    """Of one picture a face of the wide sample."""
    deep = sample.looks.describe(images)[1].astype(np.float64)
    return _ruler(sample)(deep, sample.intervals)


def measure(sample: Sample) -> dict[str, Any]:
    """Kernel and Frechet distance to training faces, beside what held-out photographs of the same people have."""
    firsts, _ = sample.firsts
    entry: dict[str, Any] = {
        "features": "EfficientNet-Lite0 (ImageNet) at 128 pixels, means of the last feature map (block 15)",
        "faces": len(sample.rows),
        "reference_faces": len(sample.reference.rows),
        **as_json({name: _aimed(name, figure) for name, figure in distances(sample, firsts).items()}),
        **_ruler(sample).floors(),
        "reconstructions": as_json(distances(sample, sample.redrawn.images)),
    }
    if sample.judged is not None:
        entry["judge_kernel_over_floor"] = _as_the_judge_sees_it(sample, sample.judged).as_json()
    return {"realism": entry}


def _aimed(name: str, figure: Figure) -> Figure:
    return figure.with_aim("<=", 3) if name.endswith("over_floor") else figure


def _as_the_judge_sees_it(sample: Sample, photographs: Array) -> Figure:
    """Kernel distance over the floor. Training saw the features above; these it did not."""
    rows = sample.reference.rows
    few = rows[:: max(1, len(rows) // JUDGE_REFERENCE)]
    judged = sample.studio.judge_faces(np.asarray(sample.train.faces[few]))
    drawn = sample.studio.judge_faces(sample.firsts[0])
    assert judged is not None
    assert drawn is not None
    kernel = KernelDistance(judged)
    return _kernel_over(kernel, kernel.gram(drawn), kernel.gram(photographs), sample.intervals)


def _kernel_over(
    kernel: KernelDistance, gram: tuple[Array, Array], floor: tuple[Array, Array], intervals: Intervals
) -> Figure:
    """A kernel distance as a multiple of the floor's."""

    def over(rows: Array) -> float:
        return kernel.of_rows(*gram, rows) / max(kernel.of_rows(*floor, rows), 1e-12)

    return intervals.of(over, np.arange(len(gram[1])), cost=5, centred=True)
