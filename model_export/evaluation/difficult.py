"""Which photographs are redrawn badly? Turned, blurred, dark and open-mouthed faces, each kind apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from app.core.quality import agreement
from model_export.evaluation import features, texture
from model_export.evaluation.likeness import thresholds
from model_export.evaluation.metrics import Array, Figure, as_json
from model_export.evaluation.sample import Sample
from model_export.networks.landmarks import FEATURES

TURNED = 0.35
"""Nose tip off the eyes' middle, in eye distances, from which on a face is turned; a three-quarter view has 0.6."""
SHARE = 0.1
"""Share of the faces that count as blurred, dark or open-mouthed: those that are most so."""
FEWEST = 10
"""Faces below which a kind is not reported."""
LEAST = 0.9


def measure(sample: Sample) -> dict[str, Any]:
    """Similarity and PSNR of the redrawing of each kind, and for how many the recognisers take it for the person."""
    judged = None if sample.judged is None else sample.judged_again(sample.redrawn.images)
    kinds: dict[str, Any] = {}
    for name, chosen in kinds_of(sample):
        if chosen.sum() < FEWEST:
            continue
        by_judge = None if judged is None else judged[chosen]
        figures = rows(sample, sample.redrawn.similarity[chosen], sample.redrawn.psnr[chosen], by_judge)
        kinds[name] = {"faces": int(chosen.sum()), **as_json(figures)}
    return {"difficult": kinds}


def rows(sample: Sample, similarity: Array, psnr: Array, judged: Array | None) -> dict[str, Figure]:
    """What is said of a kind's redrawings, [n] each, beside the photographs; `judged` is the judge's similarity."""
    found = thresholds(sample)
    figures = {
        "above_threshold": sample.intervals.mean(similarity >= found.band[0]),
        "similarity_median": sample.intervals.median(similarity),
        "psnr": sample.intervals.mean(psnr),
    }
    if judged is not None:
        taken = judged >= found.judge_threshold
        figures["judge_above_threshold"] = sample.intervals.mean(taken).with_aim(">=", LEAST)
    return figures


def least_agreement(sample: Sample) -> dict[str, float]:
    """What all but 1 % of faces that are not turned reach around eyes and mouth: below it the service has doubts."""
    facing = np.flatnonzero(~(sample.test.turns[sample.rows] >= TURNED))
    found = np.array([agreement(sample.sources[row], sample.redrawn.images[row]) for row in facing])
    eyes, mouth = np.quantile(found, 0.01, axis=0)
    return {"eyes": round(float(eyes), 3), "mouth": round(float(mouth), 3)}


def kinds_of(sample: Sample) -> Iterator[tuple[str, Array]]:
    """Each kind and which faces are of it [n]; `usual` are those of no kind."""
    pictures = sample.sources
    detail = sum(part.mean(1) for part in texture.steps(pictures))
    found = {
        "turned": sample.test.turns[sample.rows] >= TURNED,
        "blurred": detail <= np.quantile(detail, SHARE),
    }
    brightness = pictures.mean((1, 2, 3))
    found["dark"] = brightness <= np.quantile(brightness, SHARE)
    if sample.mesh is not None:
        opening = features.of_photographs(sample)[:, FEATURES.index("mouth_opening")]
        found["open_mouth"] = opening >= np.quantile(opening, 1 - SHARE)
    yield "usual", ~np.any(list(found.values()), axis=0)
    yield from found.items()
