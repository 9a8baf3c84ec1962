from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import det_curve as reference_det

from app.audit.rates import Bootstrap, Pairs, can_be_had, det_curve, equal_error_rate, match_rate, threshold_at


def made_up(people: int = 60, seed: int = 0) -> tuple[Pairs, Pairs]:
    """Three photographs a person: genuine scores around 2, impostors around 0."""
    random = np.random.default_rng(seed)
    own = np.repeat(np.arange(people), 3)
    first, second = np.triu_indices(people, 1)
    genuine = Pairs(random.normal(2, 1, len(own)), own, own)
    return genuine, Pairs(random.normal(0, 1, len(first)), first, second)


def test_a_threshold_lets_in_at_most_the_share_that_was_asked_for() -> None:
    scores = np.arange(1000) / 1000
    for rate in (0.5, 0.01, 0.001):
        threshold = threshold_at(scores, rate)
        assert match_rate(scores, threshold) == rate
        assert match_rate(scores, np.nextafter(threshold, 0) - 1e-12) > rate


def test_equal_scores_stand_or_fall_together() -> None:
    scores = np.array([0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert match_rate(scores, threshold_at(scores, 0.2)) == 0
    assert match_rate(scores, threshold_at(scores, 0.3)) == 0.3


def test_weights_count_as_repeated_pairs() -> None:
    random = np.random.default_rng(2)
    scores, weights = random.normal(size=200), random.integers(0, 4, 200)
    repeated = np.repeat(scores, weights)
    assert threshold_at(scores, 0.07, weights) == threshold_at(repeated, 0.07)
    assert match_rate(scores, 0.3, weights) == pytest.approx(match_rate(repeated, 0.3))


def test_the_curve_is_that_of_scikit_learn() -> None:
    genuine, impostor = made_up()
    fmr, fnmr, thresholds = det_curve(genuine.scores, impostor.scores)
    labels = np.concatenate([np.ones(len(genuine)), np.zeros(len(impostor))])
    expected = reference_det(labels, np.concatenate([genuine.scores, impostor.scores]))
    rows = np.searchsorted(thresholds, expected[2])
    inside = rows < len(thresholds)  # newer releases end at infinity
    for ours, theirs in zip((fmr, fnmr, thresholds), expected, strict=True):
        assert ours[rows[inside]] == pytest.approx(theirs[inside])
    assert equal_error_rate(genuine.scores, impostor.scores) == pytest.approx(0.1587, abs=0.03)  # of two unit normals


def test_an_operating_point_is_the_plain_one_with_an_interval_around_it() -> None:
    genuine, impostor = made_up(people=150)
    for point in Bootstrap(150, 200).at_rates(genuine, impostor, [0.01, 0.001]):
        assert point.threshold.value == threshold_at(impostor.scores, point.rate)
        assert point.fmr.value <= point.rate
        assert point.fnmr.value == 1 - match_rate(genuine.scores, point.threshold.value)
        assert point.fmr == pytest.approx(Bootstrap(150, 200).match_rate(impostor, point.threshold.value))
        for figure in (point.threshold, point.fmr, point.fnmr):
            assert figure.low <= figure.value <= figure.high
            assert figure.low < figure.high


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of FNMR at a fixed threshold, where each person has a level of its own, so that pairs would say far too much."""
    held = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        level = np.repeat(random.normal(0, 1, 80), 10)
        own = np.repeat(np.arange(80), 10)
        rate = Bootstrap(80, 100, seed).match_rate(Pairs(level + random.normal(0, 0.1, 800), own, own), 0.0)
        held += rate.low <= 0.5 <= rate.high
    assert 0.85 <= held / 60 <= 1


def test_a_person_drawn_twice_is_no_impostor_of_itself() -> None:
    pairs = Pairs(np.zeros(3), np.array([0, 0, 1]), np.array([0, 1, 2]))
    assert pairs.weights(np.array([2, 1, 0])).tolist() == [2, 2, 0]


def test_few_pairs_tell_no_low_rate() -> None:
    assert can_be_had(3000, 1e-3)
    assert not can_be_had(2999, 1e-3)


def test_one_person_has_no_interval() -> None:
    only = Pairs(np.array([0.5]), np.array([0]), np.array([0]))
    assert np.isnan(Bootstrap(1).match_rate(only, 0.1)[1:]).all()
