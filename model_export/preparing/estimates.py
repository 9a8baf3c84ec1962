"""Age, gender and group of faces without labels, estimated from those that have some.

Ridge regression on what the service's recogniser and an ImageNet network see of a face. Good enough to leave out
whoever may be a minor and to balance a set; it says nothing certain of anybody, and is marked as an estimate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from app.core.faces import Floats
from model_export.preparing.candidates import Candidate
from model_export.preparing.features import features
from model_export.preparing.labels import LABELS

FOLDS = 5
MOST = 24_000
"""Labelled faces that are learned from: more hardly helps."""
RATIO = 3.0
"""Years added to an age before its logarithm is taken: the first year is not to outweigh all others."""
STRENGTH = 0.03
"""Of the ridge, in mean variances of the features; a stronger one draws the young towards the mean."""


def estimate(candidates: Sequence[Candidate], refine: Mapping[str, Sequence[str]]) -> tuple[Floats, dict[str, float]]:
    """Fill in what is not labelled, and mark it as estimated.

    Args:
        candidates: faces; those of labelled minors are to be among them, for without them nobody looks like a minor.
        refine: group -> groups of which it may be any; such a label gives way to the likeliest of them.

    Returns:
        How old each face looks [n] in years, those with labels too (nan where no age is labelled at all): the estimate,
        or where there is no label the lower of two. And how well a fifth of the labelled faces was estimated from the
        others.
    """
    seen = _Seen(candidates)
    figures: dict[str, float] = {}
    ages, apparent, figure = seen.ages()
    if figure is not None:
        figures["age_mean_error_years"] = round(figure, 2)
    told: dict[str, list[str]] = {}
    for label in ("gender", "group"):
        told[label], figure = seen.classes(label, refine if label == "group" else {})
        if figure is not None:
            figures[f"{label}_accuracy"] = round(figure, 4)
    for number, candidate in enumerate(candidates):
        new: dict[str, float | str] = {}
        if np.isnan(candidate.labels.age) and not np.isnan(ages[number]):
            new["age"] = float(ages[number].round())
        new |= {label: told[label][number] for label in told if told[label][number] != getattr(candidate.labels, label)}
        candidate.labels = replace(candidate.labels, **new)  # type: ignore[arg-type]
        candidate.estimated = tuple(label for label in LABELS if label in new)
    return apparent, figures


class _Seen:
    """The features of all faces, and regressions on them."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self.features = features(candidates)
        self.features /= self.features.std(0) + 1e-3
        # By the names, so that whom an estimate learns from does not depend on the order.
        digests = [hashlib.sha256(candidate.name.encode()).digest() for candidate in candidates]
        self.order = np.array(sorted(range(len(candidates)), key=lambda number: digests[number]), np.int64)
        self.tried = np.array([digest[0] % FOLDS == 0 for digest in digests])

    def ages(self) -> tuple[Floats, Floats, float | None]:
        """Every face's estimated age [n], the lower of two estimates [n], and the mean error on faces not learned from.

        Least squares draw the young towards the mean. A second regression, of ratios of ages, does so less; it counts
        for faces without a label, of which nothing else says that they are grown up.
        """
        labelled = np.array([candidate.labels.age for candidate in self.candidates])
        known = np.isfinite(labelled)
        if not known.any():
            nothing = np.full(len(labelled), np.nan, np.float32)
            return nothing, nothing, None
        estimated, tried = self._regress(np.column_stack([labelled, np.log(labelled + RATIO)]), known)
        years, ratio = estimated[:, 0], np.exp(estimated[:, 1]) - RATIO
        rows = known & self.tried
        error = float(np.abs(tried[rows, 0] - labelled[rows]).mean()) if rows.any() else None
        return years, np.where(known, years, np.minimum(years, ratio)), error

    def classes(self, label: str, refine: Mapping[str, Sequence[str]]) -> tuple[list[str], float | None]:
        """Every face's value of a label, estimated where it has none, and the share that is told right."""
        labelled = [str(getattr(candidate.labels, label)) for candidate in self.candidates]
        names = sorted(set(labelled) - {"", *refine})
        if not names:
            return labelled, None
        places = np.array([names.index(value) if value in names else -1 for value in labelled])
        known = places >= 0
        scores, tried = self._regress(np.eye(len(names))[places], known)
        told = [
            value if number >= 0 else names[_best(row, names, refine.get(value, names))]
            for value, number, row in zip(labelled, places, scores, strict=True)
        ]
        rows = known & self.tried
        return told, float((tried[rows].argmax(1) == places[rows]).mean()) if rows.any() else None

    def _regress(self, targets: NDArray[np.float64], known: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Predictions [n, k] of one regression on all that is known, and of one on all but what is tried."""
        ordered = self.order[known[self.order]][:MOST]
        untried = ordered[~self.tried[ordered]]
        return self._ridge(ordered, targets), self._ridge(untried if len(untried) else ordered, targets)

    def _ridge(self, rows: NDArray[np.int64], targets: NDArray[np.float64]) -> Floats:
        x, y = self.features[rows], targets[rows].astype(np.float32)
        mean, middle = x.mean(0), y.mean(0)
        x = x - mean
        gram = x.T @ x / len(x)
        gram[np.diag_indices(len(gram))] += STRENGTH * np.trace(gram) / len(gram) + 1e-6
        weights = np.linalg.solve(gram, x.T @ (y - middle) / len(x))
        return np.asarray((self.features - mean) @ weights + middle, np.float32)


def _best(scores: Floats, names: Sequence[str], among: Sequence[str]) -> int:
    """The likeliest class; of those that it may be, where the set has any of them."""
    allowed = [number for number, name in enumerate(names) if name in among] or range(len(names))
    return max(allowed, key=lambda number: float(scores[number]))
