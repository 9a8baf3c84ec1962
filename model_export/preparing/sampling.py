"""How often each training face is drawn, so that every group x gender and every source has its share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from model_export.preparing.candidates import Candidate

CAP = 4.0
"""No face is drawn more than this many times as often as the average one, and none less than its inverse."""


def weigh(training: Sequence[Candidate]) -> None:
    """Set the weights of the training faces; where nobody's group or gender is known, sources alone are balanced."""
    weights = balance(
        [candidate.cell for candidate in training],
        [candidate.source for candidate in training],
        [candidate.cluster for candidate in training],
    )
    for candidate, weight in zip(training, weights, strict=True):
        candidate.weight = float(weight)


def balance(
    cells: Sequence[Hashable], sources: Sequence[Hashable], people: Sequence[Hashable], rounds: int = 60
) -> NDArray[np.float64]:
    """Weights of mean 1 by iterative proportional fitting (Deming and Stephan 1940), capped.

    Every cell gets the same share, every source one like the root of its size, and of one person's many pictures each
    is drawn less often (like the root of their number): more people, not more pictures, is what a generator lacks.

    Args:
        cells: group and gender of each face [n].
        sources: where it is from [n].
        people: whom it shows [n].
        rounds: of the fitting.
    """
    pictures = Counter(people)
    weights = np.array([pictures[person] ** -0.5 for person in people])
    margins = []
    for values, power in ((sources, 0.5), (cells, 0.0)):  # the cells last: where both cannot be had, these are
        sizes = Counter(values)
        total = sum(size**power for size in sizes.values())
        numbers = {value: number for number, value in enumerate(sizes)}
        shares = np.array([len(values) * size**power / total for size in sizes.values()])
        margins.append((np.array([numbers[value] for value in values], np.int64), shares))
    for _ in range(rounds):
        for rows, shares in margins:
            weights *= (shares / np.bincount(rows, weights, len(shares)))[rows]
        weights = np.clip(weights / weights.mean(), 1 / CAP, CAP)
    for _ in range(rounds):  # what was cut off is spread over the others, until the cap holds for a mean of 1
        weights = np.clip(weights / weights.mean(), 1 / CAP, CAP)
    return weights
