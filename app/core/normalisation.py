"""Normalisation of scores by a cohort: how unusual a similarity is for these two photographs, not how high it is.

Some photographs are like everybody's: blurred, dark, or of a face in the middle of the crowd. Each side of a pair is
therefore compared with a cohort, people that neither of the two can be, and the score is said in standard deviations of
that side's own scores.

- Z-norm and T-norm, one side each: Auckenthaler, Carey & Lloyd-Thomas, "Score normalization for text-independent
  speaker verification systems", Digital Signal Processing 10 (2000).
- S-norm, the mean of both sides: Kenny, "Bayesian speaker verification with heavy-tailed priors", Odyssey 2010; Shum et
  al., "Unsupervised speaker adaptation based on the cosine similarity", Odyssey 2010.
- Adaptive S-norm, each side by those of the cohort that are most like it: Karam, Campbell & Dehak, "Towards reduced
  false-alarms using cohorts", ICASSP 2011; Matejka et al., "Analysis of score normalization in multilingual speaker
  recognition", Interspeech 2017, whose AS-norm1 this is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TOP = 200
"""Of the cohort that each side is held against, where nothing else is said; a smaller cohort is used whole."""

LEAST = 2
"""Members of a cohort that a deviation needs."""

NARROWEST = 1e-6
"""A deviation below which a cohort says nothing: all of it is scored alike."""


class Statistics(NamedTuple):
    """What a cohort's scores are like for each of n photographs.

    Attributes:
        mean: [n].
        deviation: [n], positive.
    """

    mean: Array
    deviation: Array

    def of(self, rows: Array) -> Statistics:
        """Those of chosen photographs, in the shape of their indices."""
        return Statistics(self.mean[rows], self.deviation[rows])


def statistics(cohort: Array, top: int | None = None) -> Statistics:
    """Mean and deviation of the scores of photographs against a cohort.

    Args:
        cohort: scores [n, c] of n photographs against c members; whoever is on a photograph is no member.
        top: only the highest of each row; the whole cohort without it, or where it has no more.

    Raises:
        ValueError: fewer than two members, or a `top` below two.
    """
    scores = np.asarray(cohort, np.float64)
    if scores.ndim != 2 or scores.shape[1] < LEAST:
        raise ValueError(f"scores of a cohort are [n, c] with c at least {LEAST}, not {list(scores.shape)}")
    if top is not None:
        if top < LEAST:
            raise ValueError(f"at least {LEAST} of a cohort have to be used, not {top}")
        if top < scores.shape[1]:
            scores = np.partition(scores, -top, axis=1)[:, -top:]
    return Statistics(scores.mean(axis=1), np.maximum(scores.std(axis=1), NARROWEST))


def normalise(scores: Array, first: Statistics, second: Statistics) -> Array:
    """Scores in deviations of either side's cohort, the mean of both.

    Args:
        scores: of pairs, of any shape.
        first, second: of the photographs of each pair, in a shape that fits.
    """
    one = (scores - first.mean) / first.deviation
    other = (scores - second.mean) / second.deviation
    normalised: Array = (one + other) / 2
    return normalised


def s_norm(scores: Array, first: Array, second: Array) -> Array:
    """Symmetric normalisation of pairs.

    Args:
        scores: of n pairs [n].
        first, second: of either photograph of a pair against the cohort [n, c].

    Returns:
        [n], in standard deviations; the same whichever photograph comes first.
    """
    return normalise(np.asarray(scores, np.float64), statistics(first), statistics(second))


def adaptive_s_norm(scores: Array, first: Array, second: Array, top: int = TOP) -> Array:
    """Symmetric normalisation by the members of the cohort that are most like each photograph; see `s_norm`.

    Args:
        scores: of n pairs [n].
        first, second: of either photograph of a pair against the cohort [n, c].
        top: how many members each side is held against.
    """
    return normalise(np.asarray(scores, np.float64), statistics(first, top), statistics(second, top))
