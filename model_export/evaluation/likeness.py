"""Whom do the recognisers take the drawn faces for? Thresholds, the band, the redrawing, and variety within it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from app.core.faces import Bytes
from model_export.evaluation.metrics import Figure, Intervals, as_json, calibrate, ratio_of_means
from model_export.evaluation.sample import Sample
from model_export.evaluation.studio import Variants

QUOTED_GENUINE_MEDIAN = 0.74
"""The recogniser's median similarity of two photographs of one person, quoted and not measured here.

From 1,000 photographs of Labeled Faces in the Wild (708 people), cut into the same 128-pixel face frame with nothing
outside of it. The faces that are evaluated on have no identity labels, so it cannot be had from them.
"""
QUOTED_FROM = "1,000 LFW photographs (708 people), same face frame and crop; quoted, not measured on these faces"

RATES = {"fmr_1e-2": 1e-2, "fmr_1e-3": 1e-3, "fmr_1e-4": 1e-4}


@dataclass(frozen=True)
class Thresholds:
    """Similarities from which on a recogniser takes two different people for one as often as its rate says.

    Attributes:
        recognizer: of the service's, by the name of the rate.
        judge: of the judge; None without one.
    """

    recognizer: dict[str, Figure]
    judge: dict[str, Figure] | None

    @property
    def band(self) -> tuple[float, float]:
        """Where a look-alike lies: taken for the person, and not liker than another photograph of theirs."""
        return self.recognizer["fmr_1e-3"].value, QUOTED_GENUINE_MEDIAN

    @property
    def judge_threshold(self) -> float:
        """From which on the judge takes two people for one; nan without one."""
        return self.judge["fmr_1e-3"].value if self.judge else float("nan")

    def as_manifest(self) -> dict[str, float]:
        """What the service is told."""
        return {name: figure.value for name, figure in self.recognizer.items()} | {
            "genuine_median": QUOTED_GENUINE_MEDIAN
        }


@lru_cache(maxsize=1)
def thresholds(sample: Sample) -> Thresholds:
    """Calibrate both recognisers on pairs of different held-out people."""
    draws = {"resamples": max(10, sample.settings.resamples // 10), "seed": sample.settings.seed}
    own = calibrate(np.asarray(sample.test.embeddings), sample.test.clusters, tuple(RATES.values()), **draws)
    judge = None
    if sample.judged is not None:
        figures = calibrate(sample.judged, sample.test.clusters[sample.rows], tuple(RATES.values()), **draws)
        judge = dict(zip(RATES, figures, strict=True))
    return Thresholds(dict(zip(RATES, own, strict=True)), judge)


def measure(sample: Sample) -> dict[str, Any]:
    """Calibration, rates in the band, the redrawing, and the variety of variants."""
    return {
        "calibration": calibration(sample),
        "in_band": band(sample),
        "reconstruction": redrawing(sample),
        "diversity": diversity(sample),
    }


def calibration(sample: Sample) -> dict[str, Any]:
    """The thresholds, and whether the judge can be trusted with drawn faces."""
    found = thresholds(sample)
    entry: dict[str, Any] = {
        "recognizer": as_json(found.recognizer),
        "genuine_median": {"value": QUOTED_GENUINE_MEDIAN, "quoted_from": QUOTED_FROM},
        "held_out_faces": len(sample.test),
    }
    if found.judge is not None:
        entry["judge"] = as_json(found.judge)
        entry["judge_faces"] = len(sample.rows)
        # A judge that lost people to blur and compression would judge the pictures and not the likeness.
        some = sample.sources[: sample.deep]
        mirrored, degraded = sample.judged_again(some[:, :, ::-1]), sample.judged_again(degrade(some))
        entry["judge_still_recognises"] = as_json(
            {
                "mirrored_photographs": sample.intervals.mean(mirrored >= found.judge_threshold),
                "degraded_photographs": sample.intervals.mean(degraded >= found.judge_threshold),
            }
        )
    return entry


def band(sample: Sample) -> dict[str, Any]:
    """Of random controls at full strength."""
    rows = in_band(sample.variants, thresholds(sample), sample.intervals)
    rows["rate"] = rows["rate"].with_aim(">=", 0.95)
    if "judge_taken_for_the_person" in rows:
        rows["judge_taken_for_the_person"] = rows["judge_taken_for_the_person"].with_aim(">=", 0.75)
    return as_json(rows)


def in_band(variants: Variants, found: Thresholds, intervals: Intervals) -> dict[str, Figure]:
    """Rates of variants inside, below and above the band, and what the judge says of them."""
    low, high = found.band
    similarity = variants.similarity
    rows = {
        "rate": intervals.mean((similarity >= low) & (similarity <= high)),
        "below": intervals.mean(similarity < low),
        "above": intervals.mean(similarity > high),
        "similarity_median": intervals.median(similarity),
    }
    if variants.judged is not None:
        # The judge's genuine median is unknown (no identity labels), so only the lower edge of its band holds.
        taken = variants.judged >= found.judge_threshold
        rows["judge_taken_for_the_person"] = intervals.mean(taken)
        rows["judge_similarity_median"] = intervals.median(variants.judged)
        rows["in_band_and_taken_by_the_judge"] = intervals.mean((similarity >= low) & (similarity <= high) & taken)
    return rows


def redrawing(sample: Sample) -> dict[str, Any]:
    """Control 0 against the photograph, over the wide sample."""
    found, redrawn, intervals = thresholds(sample), sample.redrawn, sample.intervals
    low, high = found.band
    rows = {
        "psnr": intervals.mean(redrawn.psnr).with_aim(">=", 22),
        "similarity_median": intervals.median(redrawn.similarity).with_aim(">=", high),
        "above_threshold": intervals.mean(redrawn.similarity >= low).with_aim(">=", 0.95),
    }
    if found.judge is not None:
        judged = sample.judged_again(redrawn.images[: sample.deep])
        rows["judge_above_threshold"] = intervals.mean(judged >= found.judge_threshold)
    return as_json(rows)


def diversity(sample: Sample) -> dict[str, Any]:
    """Feature distance among the variants of a face, over the distance of two people's photographs."""
    drawn = sample.redrawn.images[: sample.deep]
    redrawn = sample.looks.distance(drawn, drawn[sample.neighbours])
    return as_json(
        {
            "ratio": sample.intervals.of(ratio_of_means, sample.spread, sample.people).with_aim(">=", 0.35),
            "ratio_to_reconstructions": sample.intervals.of(ratio_of_means, sample.spread, redrawn),
            "distance_of_two_people": sample.intervals.mean(sample.people),
        }
    )


def degrade(faces: Bytes) -> Bytes:
    """Faces [n, 128, 128, 3] blurred by a Gaussian of one pixel and saved as JPEG at quality 85."""
    rows = []
    for face in faces:
        buffer = BytesIO()
        Image.fromarray(face).filter(ImageFilter.GaussianBlur(1)).save(buffer, "JPEG", quality=85)
        rows.append(np.asarray(Image.open(buffer)))
    return np.stack(rows)
