"""How a study is scored: halves of people, hard pairs, thresholds set anew, people drawn with replacement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SEEDS = 5
RESAMPLES = 300
HARD = 1e-3
"""Share of the impostor pairs that are the hard ones: those the miner finds most alike."""
FNMR, FMR = 0.05, 1e-3
"""Where thresholds are set: genuine pairs refused, or impostor pairs let in."""
NAMES = ("hard_at_fnmr", "fnmr_at_fmr", "hard_at_fmr")


@dataclass(frozen=True)
class Trial:
    """One seed's halves and pairs of the reporting half.

    Attributes:
        development, reporting: numbers of people.
        gallery, probes: rows of the reporting half's photographs [g], [q].
        first, second: whose photograph each of them is [g], [q].
        hard: [g, q], the pairs of two people that the miner finds most alike.
    """

    development: Array
    reporting: Array
    gallery: Array
    probes: Array
    first: Array
    second: Array
    hard: Array

    @property
    def genuine(self) -> Array:
        """Pairs of one person [g, q]."""
        same: Array = self.first[:, None] == self.second
        return same


def rows_of(people: Array, each: int) -> Array:
    """Rows of people's photographs, `each` of them a person one after another."""
    rows: Array = (people[:, None] * each + np.arange(each)).ravel()
    return rows


def trial(seed: int, gallery: Array, probes: Array, people: int) -> Trial:
    """Halves by seed, and hard pairs by the miner's unit vectors of all gallery photographs and probes.

    The miner's first pairs are cut at exactly the share: of equal scores the earlier ones count.
    """
    order = np.random.default_rng([seed, people]).permutation(people)
    development, reporting = np.sort(order[: people // 2]), np.sort(order[people // 2 :])
    rows = rows_of(reporting, len(gallery) // people)
    columns = rows_of(reporting, len(probes) // people)
    first, second = rows // (len(gallery) // people), columns // (len(probes) // people)
    hard = _hardest(gallery[rows] @ probes[columns].T, first, second)
    return Trial(development, reporting, rows, columns, first, second, hard)


def everybody(gallery: Array, probes: Array, first: Array, second: Array) -> Trial:
    """All people report, where none is learned from: the miner's unit vectors [g, d], [q, d], and whose they are."""
    hard = _hardest(gallery @ probes.T, first, second)
    rows, columns = np.arange(len(gallery)), np.arange(len(probes))
    return Trial(np.zeros(0, np.int64), np.unique(first), rows, columns, first, second, hard)


def _hardest(alike: Array, first: Array, second: Array) -> Array:
    alike[first[:, None] == second] = -np.inf
    count = int(HARD * (first[:, None] != second).sum())
    hard = np.zeros(alike.shape, bool)
    hard.ravel()[np.argsort(-alike, axis=None, kind="stable")[:count]] = True
    return hard


def draws(people: int, resamples: int = RESAMPLES) -> Array:
    """How often each person counts [1 + resamples, people]: as they are, and then drawn with replacement."""
    random = np.random.default_rng([people, 7])
    drawn = [np.bincount(random.integers(0, people, people), minlength=people) for _ in range(resamples)]
    return np.stack([np.ones(people, np.int64), *drawn])


def measure(of: Trial, scores: Array, times: Array) -> Array:
    """The figures of one arm in one trial.

    Args:
        of: the trial.
        scores: [g, q] of the reporting half.
        times: what `draws` gave [d, people].

    Returns:
        [d, 3] in the order of `NAMES`.
    """
    rows, columns = np.nonzero(of.genuine)
    genuine, own = scores[rows, columns], times[:, of.first[rows]].astype(float)
    rows, columns = np.nonzero(of.hard)
    hard = scores[rows, columns]
    pairs = (times[:, of.first[rows]] * times[:, of.second[columns]]).astype(float)

    accepted = _at_fnmr(genuine, own)
    hard_at_fnmr = _share(hard, pairs, accepted)
    strict = _at_fmr(of, scores, times)
    fnmr = 1 - _share(genuine, own, strict)
    return np.stack([hard_at_fnmr, fnmr, _share(hard, pairs, strict)], axis=1)


def _at_fnmr(genuine: Array, weights: Array) -> Array:
    """The highest thresholds [d] that refuse at most the share `FNMR` of genuine pairs [n] with weights [d, n]."""
    order = np.argsort(genuine, kind="stable")
    below = np.cumsum(weights[:, order], axis=1)
    first_kept = (below <= FNMR * below[:, -1:] * (1 + 1e-12)).sum(1)
    thresholds: Array = genuine[order][np.minimum(first_kept, len(genuine) - 1)]
    return thresholds


def _at_fmr(of: Trial, scores: Array, times: Array) -> Array:
    """The lowest thresholds [d] that let in at most the share `FMR` of all impostor pairs."""
    impostors = np.where(of.genuine, -np.inf, scores)
    count = int(of.genuine.size - of.genuine.sum())
    kept = min(count, int(4 * FMR * count) + 50)
    top = np.argpartition(-impostors, kept - 1, axis=None)[:kept]
    top = top[np.argsort(-impostors.ravel()[top], kind="stable")]
    first, second = of.first[top // scores.shape[1]], of.second[top % scores.shape[1]]
    mass = np.cumsum(times[:, first] * times[:, second], axis=1).astype(float)
    half = times[:, of.reporting].astype(float)
    each = len(of.first) * len(of.second) / len(of.reporting) ** 2
    total = each * (half.sum(1) ** 2 - (half**2).sum(1))
    out = (mass <= FMR * total[:, None] * (1 + 1e-12)).sum(1)
    thresholds: Array = np.nextafter(impostors.ravel()[top][np.minimum(out, kept - 1)], np.inf)
    return thresholds


def _share(scores: Array, weights: Array, thresholds: Array) -> Array:
    """Of pairs [n] with weights [d, n] the share at or above thresholds [d]."""
    let_in = weights * (scores[None] >= thresholds[:, None])
    share: Array = let_in.sum(1) / np.maximum(weights.sum(1), 1e-9)
    return share


def redrawn_seeds(figures: Array) -> Array:
    """Figures [seeds, d, k] in which each draw of people is one of seeds with replacement too; the first is as it was.

    Of the same number of seeds and draws the same seeds are drawn, so that arms stay comparable.
    """
    seeds, count = figures.shape[:2]
    chosen = np.random.default_rng([seeds, count, 8]).integers(0, seeds, (seeds, count))
    chosen[:, 0] = np.arange(seeds)
    drawn: Array = np.take_along_axis(figures, chosen[:, :, None], 0)
    return drawn


def summary(figures: Array, nothing: Array, names: tuple[str, ...] = NAMES) -> dict[str, Any]:
    """An arm's figures [seeds, d, k] beside those of doing nothing: means of the seeds with 95 % intervals.

    `change` is relative to nothing, -0.2 a fifth less; where there was only one draw there are no intervals.
    """
    mean, base = figures.mean(0), nothing.mean(0)[: figures.shape[1]]
    changes = mean / np.maximum(base, 1e-9) - 1
    found: dict[str, Any] = {}
    for column, name in enumerate(names):
        entry: dict[str, Any] = {"value": _plain(mean[0, column]), "change": _plain(changes[0, column])}
        entry["seeds"] = [_plain(value) for value in figures[:, 0, column]]
        if len(mean) > 1:
            entry["interval"] = [_plain(end) for end in np.quantile(mean[1:, column], [0.025, 0.975])]
            entry["change_interval"] = [_plain(end) for end in np.quantile(changes[1:, column], [0.025, 0.975])]
        found[name] = entry
    return found


def _plain(value: float) -> float:
    return round(float(value), 5)
