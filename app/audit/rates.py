"""Error rates of verification, in the terms of ISO/IEC 19795-1 and NIST FRTE.

A pair *matches* where its score is at or above the threshold. FMR is the share of pairs of two people that match, FNMR
the share of pairs of one person that do not. People are the unit of every resampling: pairs of one person are not
independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

CONFIDENCE = 0.95
RULE_OF_3 = 3
"""Pairs, times the rate, below which not even no false match at all would show the rate (ISO/IEC 19795-1)."""
RULE_OF_30 = 30
"""False matches from which a rate is known within 30 % with 90 % confidence (Doddington et al. 2000)."""


class Interval(NamedTuple):
    """A measured number and the ends of its 95 % interval; nan where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Pairs:
    """Scored pairs of photographs.

    Attributes:
        scores: [n], higher is more alike.
        first, second: the people on them [n], numbers from 0; the same number twice is a genuine pair.
    """

    scores: Array
    first: Array
    second: Array

    def __len__(self) -> int:
        return len(self.scores)

    def where(self, rows: Array) -> Pairs:
        """Some of them: indices, or a truth for each."""
        return Pairs(self.scores[rows], self.first[rows], self.second[rows])

    def weights(self, times: Array) -> Array:
        """How often each pair is drawn where each person is drawn so many `times` [people].

        A person drawn twice makes no impostor of itself: what counts is pairs of different people, and a person's own.
        """
        return np.where(self.first == self.second, times[self.first], times[self.first] * times[self.second])


def can_be_had(impostors: int, rate: float) -> bool:
    """Whether so many impostor pairs can tell a threshold at a false match rate at all."""
    return impostors * rate >= RULE_OF_3 - 1e-9


def threshold_at(scores: Array, rate: float, weights: Array | None = None) -> float:
    """The least threshold at which at most a share `rate` of impostor scores match.

    Args:
        scores: of impostor pairs [n], n at least 1.
        rate: 0..1.
        weights: of the pairs [n]; 1 without.
    """
    order = np.argsort(scores, kind="stable")[::-1]
    ordered = np.asarray(scores, np.float64)[order]
    mass = np.arange(1, len(ordered) + 1) if weights is None else np.cumsum(weights[order])
    within = mass[-1] * rate * (1 + 1e-12)
    first_out = int(np.searchsorted(mass, within, side="right"))
    if first_out >= len(ordered):
        return float(ordered[-1])
    # Scores that are equal stand or fall together.
    return float(np.nextafter(ordered[first_out], np.inf))


def match_rate(scores: Array, threshold: float, weights: Array | None = None) -> float:
    """The share of pairs that match; nan of none."""
    total = len(scores) if weights is None else float(weights.sum())
    matching = scores >= threshold
    return float((matching if weights is None else weights[matching]).sum()) / total if total else float("nan")


def equal_error_rate(genuine: Array, impostor: Array) -> float:
    """The rate at the threshold where FMR and FNMR are nearest to each other, the mean of the two."""
    fmr, fnmr, _ = det_curve(genuine, impostor)
    nearest = int(np.argmin(np.abs(fmr - fnmr)))
    return float((fmr[nearest] + fnmr[nearest]) / 2)


def det_curve(genuine: Array, impostor: Array) -> tuple[Array, Array, Array]:
    """FMR, FNMR and threshold at each genuine or impostor score, thresholds rising: the detection error trade-off.

    Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.
    """
    thresholds = np.unique(np.concatenate([genuine, impostor]))
    fmr = 1 - np.searchsorted(np.sort(impostor), thresholds, side="left") / len(impostor)
    fnmr = np.searchsorted(np.sort(genuine), thresholds, side="left") / len(genuine)
    return fmr, fnmr, thresholds


class Bootstrap:
    """People drawn with replacement, the same draws for whatever is asked: what differs by pairs can be compared.

    Args:
        people: how many there are.
        resamples: how often they are drawn.
        seed: of the draws.
    """

    def __init__(self, people: int, resamples: int = 500, seed: int = 0) -> None:
        self.people, self.resamples, self.seed = people, resamples, seed

    def __iter__(self) -> Iterator[Array]:
        """How often each person was drawn [people], draw after draw."""
        random = np.random.default_rng(self.seed)
        for _ in range(self.resamples):
            yield np.bincount(random.integers(0, self.people, self.people), minlength=self.people)

    def interval(self, value: float, draws: Sequence[float]) -> Interval:
        """A value with the percentile interval of its draws."""
        known = np.asarray(draws, np.float64)
        known = known[np.isfinite(known)]
        if self.people < 2 or not len(known):
            return Interval(value, float("nan"), float("nan"))
        low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return Interval(value, float(low), float(high))

    def match_rate(self, pairs: Pairs, threshold: float) -> Interval:
        """The share of pairs that match a fixed threshold."""
        draws = [match_rate(pairs.scores, threshold, pairs.weights(times)) for times in self] if len(pairs) else []
        return self.interval(match_rate(pairs.scores, threshold), draws)

    def at_rates(self, genuine: Pairs, impostor: Pairs, rates: Sequence[float]) -> list[AtRate]:
        """What holds at false match rates; each draw sets the threshold anew, as whoever repeats the test would."""
        # Only the highest impostor scores set a threshold: the rest is needed for the sum of the weights alone.
        order = np.argsort(impostor.scores, kind="stable")[::-1]
        sorted_impostors = impostor.where(order)
        kept = min(len(order), int(3 * max(rates) * len(order)) + 50)
        top = sorted_impostors.where(np.arange(kept))
        thresholds = [threshold_at(impostor.scores, rate) for rate in rates]
        drawn = np.full((3, len(rates), self.resamples), np.nan)
        for draw, times in enumerate(self):
            total = impostor.weights(times).sum()
            if not total:
                continue
            weights = top.weights(times)
            mass = np.cumsum(weights)
            own = genuine.weights(times)
            for column, rate in enumerate(rates):
                out = int(np.searchsorted(mass, total * rate * (1 + 1e-12), side="right"))
                threshold = float(np.nextafter(top.scores[min(out, kept - 1)], np.inf))
                drawn[0, column, draw] = threshold
                drawn[1, column, draw] = 1 - match_rate(genuine.scores, threshold, own)
                drawn[2, column, draw] = weights[top.scores >= thresholds[column]].sum() / total
        return [
            AtRate(
                rate,
                len(impostor) * rate,
                self.interval(threshold, list(drawn[0, column])),
                self.interval(match_rate(impostor.scores, threshold), list(drawn[2, column])),
                self.interval(1 - match_rate(genuine.scores, threshold), list(drawn[1, column])),
            )
            for column, (rate, threshold) in enumerate(zip(rates, thresholds, strict=True))
        ]


@dataclass(frozen=True)
class AtRate:
    """An operating point.

    Attributes:
        rate: the false match rate that was asked for.
        matches: impostor pairs that may match at it; below `RULE_OF_3` the threshold cannot be had.
        threshold: the least at which FMR is at most `rate`.
        fmr: at that threshold, held fixed.
        fnmr: at that threshold; its interval sets the threshold anew in each draw.
    """

    rate: float
    matches: float
    threshold: Interval
    fmr: Interval
    fnmr: Interval
