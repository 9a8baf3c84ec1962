"""The gain of a cohort, on people of whom one knows who is like everybody."""

import numpy as np
import pytest

from model_export.evaluation import cohort_gain, drawn_training


def photographs(blurred=0.0, people=60, seed=0):
    """Unit vectors [p, 4, 24]; a share of the photographs is drawn towards one place that all blurred ones share."""
    chance = np.random.default_rng(seed)
    centres, blur = chance.standard_normal((people, 1, 24)), 4 * np.ones(24) / 24**0.5
    vectors = centres + 0.3 * chance.standard_normal((people, 4, 24))
    vectors += blur * (chance.uniform(size=(people, 4, 1)) < blurred)
    return vectors / np.linalg.norm(vectors, axis=2, keepdims=True)


def gain(vectors, cohort):
    hard = cohort_gain.hardest(cohort_gain.similarities(vectors))
    before = cohort_gain.split(cohort_gain.similarities(vectors), hard)
    return cohort_gain.gain(*before, *cohort_gain.split(cohort_gain.normalised(vectors, cohort), hard))


def test_a_cohort_of_the_kind_takes_off_what_blurred_photographs_share():
    vectors = photographs(0.4)
    same, other = (photographs(blurred, seed=1).reshape(-1, 24) for blurred in (0.4, 0.0))
    assert gain(vectors, same) > 0.5
    assert gain(vectors, other) < 0.2


def test_hard_pairs_are_of_two_people_and_the_most_alike():
    scores = cohort_gain.similarities(photographs())
    hard = cohort_gain.hardest(scores)
    people, _, others, _ = np.nonzero(hard)
    assert (people != others).all()
    assert hard.sum() == int(cohort_gain.HARD * 60 * 59 * 4)
    genuine, split = cohort_gain.split(scores, hard)
    assert genuine.shape == (60, 4)
    assert np.isfinite(split).sum() == hard.sum()


def test_a_rate_is_of_the_threshold_that_refuses_a_twentieth():
    genuine, hard = np.arange(100.0).reshape(25, 4), np.array([[4.0, 4.9, 5.0, np.nan]])
    assert cohort_gain.rate(genuine, hard) == pytest.approx(1 / 3)


def test_accuracy_is_one_for_people_far_apart_and_a_half_for_noise():
    assert drawn_training.accuracies(np.repeat(np.eye(12), 4, 0), 4).tolist() == [1.0] * 12
    noise = np.random.default_rng(0).standard_normal((400, 30))
    assert drawn_training.accuracies(noise, 4).mean() == pytest.approx(0.5, abs=0.03)


def test_the_probe_finds_what_tells_people_apart_and_drops_the_rest():
    chance = np.random.default_rng(0)

    def taken(people):
        own = np.repeat(chance.standard_normal((people, 5)), 4, 0)
        return np.concatenate([own, 5 * chance.standard_normal((people * 4, 25))], axis=1)

    probe = drawn_training.fitted(taken(150), np.repeat(np.arange(150), 4))
    tested = taken(40)
    raw = drawn_training.accuracies(tested, 4).mean()
    assert drawn_training.accuracies(probe.transform(tested), 4).mean() > raw + 0.2
