"""Is it as good for everybody? Each figure by group and gender of the data's labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from model_export.evaluation.likeness import thresholds
from model_export.evaluation.metrics import Array, as_json, ratio_of_means
from model_export.evaluation.sample import Sample

SMALL_GROUP = 20
"""Groups of fewer faces are shown, but do not count as the one that is farthest behind."""


def measure(sample: Sample) -> dict[str, Any]:
    """In-band rate, redrawing and diversity of each group x gender, and how far the last one is behind."""
    inside = in_band_by_face(sample)
    above = (sample.redrawn.similarity >= thresholds(sample).band[0]).astype(np.float64)
    labels = group_labels(sample)
    rows = {name: _of_group(sample, labels == name, inside, above) for name in sorted(set(labels) - {""})}
    counted = [name for name, row in rows.items() if row["faces"] >= SMALL_GROUP]

    def gap(values: Array, names: Array) -> float:
        means = [values[names == name].mean() for name in counted if (names == name).any()]
        return float(100 * (values.mean() - min(means))) if means else float("nan")

    return {
        "fairness": {
            "groups": rows,
            "smallest_group_counted": SMALL_GROUP,
            **as_json(
                {
                    "in_band_gap": sample.intervals.of(gap, inside, labels).with_aim("<=", 5),
                    "reconstruction_gap": sample.intervals.of(gap, above, labels).with_aim("<=", 5),
                }
            ),
        }
    }


def in_band_by_face(sample: Sample) -> Array:
    """Share of each face's variants in the band [n]; all of the first faces', one of the others'."""
    low, high = thresholds(sample).band
    _, similarity = sample.firsts
    inside = ((similarity >= low) & (similarity <= high)).astype(np.float64)
    deep = sample.variants.similarity
    inside[: sample.deep] = ((deep >= low) & (deep <= high)).mean(1)
    return inside


def group_labels(sample: Sample) -> Array:
    """Group and gender of each face [n], such as "asian female"; empty where one is unknown."""
    test = sample.test
    return np.array(
        [
            f"{test.group_names[group]} {test.gender_names[gender]}" if min(group, gender) >= 0 else ""
            for group, gender in zip(test.groups[sample.rows], test.genders[sample.rows], strict=True)
        ]
    )


def _of_group(sample: Sample, mine: Array, inside: Array, above: Array) -> dict[str, Any]:
    intervals, redrawn = sample.intervals, sample.redrawn
    figures = {
        "in_band": intervals.mean(inside[mine]),
        "reconstruction_above_threshold": intervals.mean(above[mine]),
        "reconstruction_similarity": intervals.mean(redrawn.similarity[mine]),
        "psnr": intervals.mean(redrawn.psnr[mine]),
        "diversity": intervals.of(
            lambda spread: ratio_of_means(spread, sample.people), sample.spread[mine[: sample.deep]]
        ),
    }
    return {"faces": int(mine.sum()), **as_json(figures)}
