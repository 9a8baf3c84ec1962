"""The figures of an audit, of pairs that were made up."""

from __future__ import annotations

import numpy as np
import pytest

from app.audit.figures import Scored, by_similarity, cohort_gain, operating_points
from app.audit.rates import Bootstrap, Pairs

NONE = Pairs(np.zeros(0), np.zeros(0, int), np.zeros(0, int))


def few(people: int) -> Scored:
    """Twenty photographs of each of a few people: genuine scores around 2, impostors around 0."""
    own = np.repeat(np.arange(people), 20)
    first, second = np.triu_indices(len(own), 1)
    same = own[first] == own[second]
    scores = np.random.default_rng(0).normal(2 * same)
    genuine, impostor = (Pairs(scores[rows], own[first[rows]], own[second[rows]]) for rows in (same, ~same))
    return Scored(genuine, impostor, NONE, NONE, np.zeros(0), np.zeros(0), people)


@pytest.mark.parametrize("people", [2, 3, 6])
def test_a_cohort_that_changes_nothing_is_told_with_the_interval_of_the_operating_point(people: int) -> None:
    """Also of few people, of whom one alone may be drawn, which sets no threshold."""
    scored, bootstrap = few(people), Bootstrap(people, 100)
    point, *_ = operating_points(scored, bootstrap)
    gain = cohort_gain(scored, scored, bootstrap, 1e-2)
    assert gain["fnmr_before"] == gain["fnmr_after"] == point["fnmr"]
    assert gain["difference"] == {"value": 0, "interval": [0, 0]}


def test_each_look_alike_is_in_one_bin_of_its_similarity() -> None:
    alike = np.array([-1, -0.05, 0, 0.05, 0.1, 0.3, 0.999, 1])
    own = np.zeros(len(alike), int)
    scored = Scored(NONE, NONE, Pairs(np.ones(len(alike)), own, own), NONE, alike, np.zeros(0), 1)
    bins = by_similarity(scored, Bootstrap(1), 0.5)
    assert [(row["from"], row["to"], row["against_their_photograph"]["of"]) for row in bins] == [
        (-1, -0.9, 1),
        (-0.1, 0, 1),
        (0, 0.1, 2),
        (0.1, 0.2, 1),
        (0.3, 0.4, 1),
        (0.9, 1, 2),
    ]
