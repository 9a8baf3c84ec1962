"""The arithmetic of the evaluation: pure functions of arrays, free of networks, files and PyTorch.

Rates and similarities are plain numbers (a rate of 1 is 100 %). Faces are the unit of every resampling: variants of one
face are not independent of each other, and intervals that took them so would be too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]
from sklearn.kernel_ridge import KernelRidge  # type: ignore[import-untyped]
from sklearn.model_selection import GridSearchCV, PredefinedSplit  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

Array = NDArray[Any]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Figure:
    """A measured number with its 95 % interval and, where there is one, the aim it is held against.

    Attributes:
        value: the measurement.
        low, high: ends of the interval.
        aim: smallest or largest value that is good enough, such as (">=", 0.95).
    """

    value: float
    low: float
    high: float
    aim: tuple[str, float] | None = None

    @property
    def met(self) -> bool | None:
        """Whether the value (not its interval) reaches the aim; None without an aim or without a value."""
        if self.aim is None or math.isnan(self.value):
            return None
        sign, bound = self.aim
        return self.value >= bound if sign == ">=" else self.value <= bound

    def with_aim(self, sign: str, bound: float) -> Figure:
        """The same figure, held against an aim."""
        return Figure(self.value, self.low, self.high, (sign, bound))

    def as_json(self) -> dict[str, Any]:
        """What `evaluation.json` holds of it; nan becomes null."""
        entry: dict[str, Any] = {"value": _plain(self.value), "interval": [_plain(self.low), _plain(self.high)]}
        if self.aim is not None:
            entry |= {"aim": f"{self.aim[0]} {self.aim[1]:.4g}", "met": self.met}
        return entry


def _plain(value: float) -> float | None:
    return None if math.isnan(value) or math.isinf(value) else float(f"{value:.6g}")


# -- intervals ---------------------------------------------------------------------------------------------------------


def bootstrap(
    statistic: Callable[..., float], *arrays: Array, resamples: int = 1000, seed: int = 0, centred: bool = False
) -> Figure:
    """A statistic of per-face arrays with its percentile bootstrap interval (Efron & Tibshirani 1993).

    Args:
        statistic: takes the arrays, their first axis resampled, and returns a number.
        arrays: first axis is the face, of one length.
        resamples: how many times faces are drawn with replacement.
        seed: of the draws.
        centred: shift the interval so that it sits around the value. For statistics that grow when a sample repeats
            itself (distances of distributions), whose plain percentiles may not even hold the value.
    """
    count = len(arrays[0])
    value = float(statistic(*arrays)) if count else math.nan
    if count < 2:
        return Figure(value, math.nan, math.nan)
    random = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        rows = random.integers(0, count, count)
        draws.append(float(statistic(*(array[rows] for array in arrays))))
    if np.isnan(draws).all():
        return Figure(value, math.nan, math.nan)
    low, high = np.nanquantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    shift = value - float(np.nanmean(draws)) if centred else 0.0
    return Figure(value, float(low) + shift, float(high) + shift)


@dataclass(frozen=True)
class Intervals:
    """Figures with their intervals, all resampled alike.

    Attributes:
        resamples: how many times faces are drawn with replacement.
        seed: of the draws.
    """

    resamples: int
    seed: int

    def of(self, statistic: Callable[..., float], *arrays: Array, cost: int = 1, centred: bool = False) -> Figure:
        """A statistic with its interval; slow statistics are resampled `cost` times less often."""
        resamples = max(10, self.resamples // cost)
        return bootstrap(statistic, *arrays, resamples=resamples, seed=self.seed, centred=centred)

    def mean(self, values: Array) -> Figure:
        """A mean with its interval."""
        return self.of(lambda rows: float(np.mean(rows)), values.astype(np.float64))

    def median(self, values: Array) -> Figure:
        """A median with its interval."""
        return self.of(lambda rows: float(np.median(rows)), values)


def ratio_of_means(first: Array, second: Array) -> float:
    """Of two arrays."""
    return float(first.mean() / max(float(second.mean()), 1e-12))


def as_json(figures: dict[str, Figure]) -> dict[str, Any]:
    """What `evaluation.json` holds of figures by name."""
    return {name: figure.as_json() for name, figure in figures.items()}


# -- recognition -------------------------------------------------------------------------------------------------------


def impostor_similarities(embeddings: Array, clusters: Array) -> tuple[Array, Array]:
    """Cosines [n, n] of unit vectors and which of them are impostor pairs: upper triangle, different clusters."""
    similarity = np.asarray(embeddings, np.float32) @ np.asarray(embeddings, np.float32).T
    impostor = np.triu(clusters[:, None] != clusters[None, :], k=1)
    return similarity, impostor


def threshold_at(scores: Array, false_match_rate: float) -> float:
    """The score that a share `false_match_rate` of impostor scores reaches or exceeds."""
    return float(np.quantile(scores, 1 - false_match_rate, method="higher"))


def calibrate(
    embeddings: Array, clusters: Array, rates: Sequence[float], resamples: int = 100, seed: int = 0
) -> list[Figure]:
    """Thresholds at false match rates with intervals over faces, from all pairs of different clusters.

    Args:
        embeddings: unit vectors [n, d].
        clusters: [n]; faces of one cluster may show one person and are no impostors of each other.
        rates: false match rates, such as 1e-3.
        resamples: of the faces; a face drawn twice makes no pair with itself.
        seed: of the draws.
    """
    similarity, impostor = impostor_similarities(embeddings, clusters)
    values = [threshold_at(similarity[impostor], rate) for rate in rates]
    random = np.random.default_rng(seed)
    first, second = np.nonzero(impostor)
    scores = similarity[impostor]
    order = np.argsort(scores)[::-1]
    first, second, scores = first[order], second[order], scores[order]
    draws = np.empty((resamples, len(rates)))
    for draw in range(resamples):
        times = np.bincount(random.integers(0, len(clusters), len(clusters)), minlength=len(clusters))
        mass = np.cumsum(times[first] * times[second])
        draws[draw] = [scores[min(np.searchsorted(mass, rate * mass[-1]), len(scores) - 1)] for rate in rates]
    ends = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0).T
    return [Figure(value, float(low), float(high)) for value, (low, high) in zip(values, ends, strict=True)]


# -- distributions -----------------------------------------------------------------------------------------------------


class FrechetDistance:
    """Frechet distance of normal distributions fitted to features (Heusel et al. 2017), to one reference set.

    Args:
        reference: features [n, d].
    """

    def __init__(self, reference: Array) -> None:
        self.mean, self.covariance = _moments(reference)
        values, vectors = np.linalg.eigh(self.covariance)
        self._root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T

    def __call__(self, features: Array) -> float:
        """The distance of features [m, d]; 0 for the reference itself."""
        wide = features.astype(np.float64)
        mean = wide.mean(0)
        spread = (wide - mean) / math.sqrt(len(wide) - 1)  # B = spread.T @ spread
        # The trace of sqrt(A B) is the sum of the singular values of spread sqrt(A), by way of its shorter side.
        both = spread @ self._root
        square = both @ both.T if len(wide) < len(mean) else both.T @ both
        common = np.sqrt(np.maximum(np.linalg.eigvalsh(square), 0)).sum()
        distance = np.square(mean - self.mean).sum() + np.square(spread).sum()
        distance += np.trace(self.covariance) - 2 * common
        return float(max(distance, 0.0))


def _moments(features: Array) -> tuple[Array, Array]:
    wide = features.astype(np.float64)
    return wide.mean(0), np.cov(wide, rowvar=False)


class KernelDistance:
    """Squared maximum mean discrepancy under the kernel (x.y / d + 1)^3 (Binkowski et al. 2018), to one reference set.

    Features are standardised by the reference. The estimator is the biased one: it stays positive where two samples
    come from one distribution, so that a floor at equal sample size exists that others can be a multiple of.

    Args:
        reference: features [n, d].
    """

    def __init__(self, reference: Array) -> None:
        self._mean, self._deviation = reference.mean(0), np.maximum(reference.std(0), 1e-6)
        self._reference = self._standardise(reference)
        self._within = float(self._kernel(self._reference, self._reference).mean())

    def gram(self, features: Array) -> tuple[Array, Array]:
        """Kernel of features [m, d] with each other [m, m], and its mean with the reference [m]."""
        standard = self._standardise(features)
        return self._kernel(standard, standard), self._kernel(standard, self._reference).mean(1)

    def __call__(self, features: Array) -> float:
        """The distance of features [m, d]; 0 for the reference itself."""
        rows = np.arange(len(features))
        return self.of_rows(*self.gram(features), rows)

    def of_rows(self, within: Array, across: Array, rows: Array) -> float:
        """The distance of a resample, `rows` [k] of the features that `gram` was given."""
        weight = np.bincount(rows, minlength=len(across)) / len(rows)
        return float(weight @ within @ weight - 2 * weight @ across + self._within)

    def _standardise(self, features: Array) -> Array:
        return (np.asarray(features, np.float64) - self._mean) / self._deviation

    @staticmethod
    def _kernel(first: Array, second: Array) -> Array:
        return (first @ second.T / first.shape[1] + 1) ** 3


def auc(low: Array, high: Array) -> float:
    """Probability that an entry of `low` is below one of `high`, ties counting half: 0.5 where they are alike."""
    above = stats.mannwhitneyu(high, low, method="asymptotic").statistic
    return float(above / (len(low) * len(high)))


# -- controls ----------------------------------------------------------------------------------------------------------


def fresh_reader(x: Array, y: Array) -> Callable[[Array], Array]:
    """Ridge regression in the dual, linear or with a Gaussian kernel: fewer samples than features.

    Kernel and strength are chosen on the last fifth of the samples that it is fitted on; those should be other faces
    than the rest, so that what is chosen reads faces it has not seen.

    Args:
        x: [n, d] features.
        y: [n, k] targets.

    Returns:
        Features [m, d] -> predictions [m, k].
    """
    # Scaled so that a sample has a length of about 1, whatever the number of features.
    scaler, length = StandardScaler().fit(x), math.sqrt(x.shape[1])
    last_fifth = np.where(np.arange(len(x)) < max(1, len(x) * 4 // 5), -1, 0)
    strengths = {"alpha": [1e-3, 1e-2, 1e-1, 1.0]}
    choices = [
        {"kernel": ["linear"], **strengths},
        # Widths of 1 and 3 root mean square distances of the samples.
        {"kernel": ["rbf"], "gamma": [1 / (4 * width**2) for width in (1.0, 3.0)], **strengths},
    ]
    offset = y.mean(0)
    search = GridSearchCV(KernelRidge(), choices, scoring="r2", cv=PredefinedSplit(last_fifth))
    search.fit(scaler.transform(x) / length, y - offset)
    return lambda features: search.predict(scaler.transform(features) / length) + offset


def r_squared(predictions: Array, targets: Array) -> Array:
    """Coefficient of determination of each column: 1 where it is known exactly, 0 where the mean does as well."""
    residual = np.square(predictions - targets).mean(0)
    return 1 - residual / np.maximum(targets.var(0), 1e-12)


def nats_of_uniform(scores: Array) -> float:
    """Information in nats that Gaussian readings with these R^2 carry about controls uniform in [-1, 1].

    Each gives log 2 - log(2 pi e s^2) / 2 with s^2 = (1 - R^2) / 3, and never less than nothing; ten at R^2 = 0.9 give
    9.7.
    """
    variance = np.maximum(1 - np.asarray(scores, np.float64), 1e-9) / 3
    return float(np.maximum(math.log(2) - 0.5 * np.log(2 * math.pi * math.e * variance), 0).sum())


def spearman(values: Array, positions: Array) -> Array:
    """Rank correlation of each row of values [n, steps] with positions [steps]; 0 for a row that does not move."""
    if not len(values):
        return np.zeros(0)
    ranks = stats.rankdata(values, axis=1)
    ranks = ranks - ranks.mean(1, keepdims=True)
    target = stats.rankdata(positions)
    target = target - target.mean()
    scale = np.sqrt(np.square(ranks).sum(1) * np.square(target).sum())
    return np.where(scale > 0, ranks @ target / np.maximum(scale, 1e-12), 0.0)


def off_diagonal(responses: Array) -> float:
    """Mean absolute response off the diagonal, over that on it, mean over controls; at most 1 each.

    Rows of `responses` [k, k] are the controls moved, columns what is read. A control that does not move its own
    reading more than the others' counts 1, so one that does nothing is not hidden by the rest.
    """
    size = np.abs(responses)
    own = np.diag(size)
    others = (size.sum(1) - own) / (len(size) - 1)
    return float(np.minimum(others / np.maximum(own, 1e-12), 1).mean())


def mutual_information_gap(controls: Array, readings: Array, bins: int = 6) -> Array:
    """How much more the best reading knows of each control than the second best, over the control's entropy.

    Chen et al. 2018. Controls [n, k] and readings [n, m] are cut into bins of equal count; the information has Miller
    and Madow's correction for the number of samples.

    Returns:
        [k], each in [0, 1].
    """
    factors, codes = _binned(controls, bins), _binned(readings, bins)
    gaps = []
    for factor in factors.T:
        entropy = _entropy(factor)
        known = sorted(entropy + _entropy(code) - _entropy(factor * bins + code) for code in codes.T)
        gaps.append(np.clip((known[-1] - max(known[-2], 0)) / entropy, 0, 1) if entropy > 0 else 0.0)
    return np.array(gaps)


def _binned(values: Array, bins: int) -> NDArray[np.int64]:
    ranks = stats.rankdata(values, axis=0, method="ordinal") - 1
    return (ranks * bins // len(values)).astype(np.int64)


def _entropy(symbols: NDArray[np.int64]) -> float:
    counts = np.bincount(symbols)
    counts = counts[counts > 0]
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum() + (len(counts) - 1) / (2 * counts.sum()))
