"""The evaluation's arithmetic on data whose right answer is known."""

import math

import numpy as np
import pytest

from model_export.evaluation import metrics
from model_export.evaluation.metrics import Figure, bootstrap

CHANCE = np.random.default_rng(7)


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    chance = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        figure = bootstrap(lambda rows: float(rows.mean()), chance.normal(3, 1, 60), resamples=200, seed=trial)
        hits += figure.low <= 3 <= figure.high
    assert 0.89 <= hits / 200 <= 0.99


def test_bootstrap_resamples_faces_and_not_their_variants():
    # 20 faces, 50 variants each that are copies: the interval is that of 20 numbers, not of 1,000.
    values = CHANCE.normal(size=(20, 1))
    one = bootstrap(lambda rows: float(rows.mean()), values, seed=1)
    many = bootstrap(lambda rows: float(rows.mean()), np.repeat(values, 50, axis=1), seed=1)
    assert (one.low, one.high) == pytest.approx((many.low, many.high))


def test_bootstrap_is_the_same_for_the_same_seed_and_says_nothing_of_one_face():
    values = CHANCE.normal(size=30)
    assert bootstrap(np.mean, values, seed=5) == bootstrap(np.mean, values, seed=5)
    assert bootstrap(np.mean, values, seed=5) != bootstrap(np.mean, values, seed=6)
    single = bootstrap(np.mean, values[:1])
    assert single.value == values[0]
    assert math.isnan(single.low)
    assert single.as_json()["interval"] == [None, None]


def test_a_centred_interval_holds_a_value_that_repeats_bias():
    values = CHANCE.normal(size=(40, 30))
    distance = metrics.FrechetDistance(CHANCE.normal(size=(400, 30)))
    plain = bootstrap(distance, values, resamples=50)
    centred = bootstrap(distance, values, resamples=50, centred=True)
    assert plain.low > plain.value  # a resample repeats itself, and so seems farther away
    assert centred.low < centred.value < centred.high


@pytest.mark.parametrize(
    ("value", "aim", "met"),
    [(0.96, (">=", 0.95), True), (0.94, (">=", 0.95), False), (2.0, ("<=", 3), True), (math.nan, ("<=", 3), None)],
)
def test_an_aim_is_met_by_the_value(value, aim, met):
    figure = Figure(value, 0.0, 1.0).with_aim(*aim)
    assert figure.met is met
    assert figure.as_json()["met"] is met


def test_threshold_lets_the_wanted_share_of_impostors_through():
    scores = CHANCE.normal(size=200_000)
    for rate in (1e-1, 1e-2, 1e-3):
        threshold = metrics.threshold_at(scores, rate)
        assert (scores >= threshold).mean() == pytest.approx(rate, rel=0.02)


def test_faces_of_one_cluster_are_no_impostors():
    people = CHANCE.normal(size=(60, 64))
    people /= np.linalg.norm(people, axis=1, keepdims=True)
    twice = np.concatenate([people, people])
    clusters = np.tile(np.arange(60), 2)
    strict, loose = metrics.calibrate(twice, clusters, [1e-3, 1e-1], resamples=30)
    assert loose.value < strict.value < 0.7  # the copies, at 1.0, are left out
    assert strict.low <= strict.value <= strict.high
    (fooled,) = metrics.calibrate(twice, np.arange(120), [1e-3], resamples=5)
    assert fooled.value == pytest.approx(1)


def test_frechet_distance_of_equal_sets_is_zero_and_of_shifted_ones_the_squared_shift():
    features = CHANCE.normal(size=(500, 6))
    distance = metrics.FrechetDistance(features)
    assert distance(features) == pytest.approx(0, abs=1e-6)
    assert distance(features + 2) == pytest.approx(6 * 4, rel=1e-6)
    # Only the spread differs: the sum over dimensions of (s1 - s2)^2.
    variances = np.linalg.eigvalsh(np.cov(features, rowvar=False))
    assert distance(3 * (features - features.mean(0)) + features.mean(0)) == pytest.approx(4 * variances.sum())


def test_kernel_distance_is_zero_for_equal_sets_and_grows_with_the_shift():
    features = CHANCE.normal(size=(300, 10))
    distance = metrics.KernelDistance(features)
    assert distance(features) == pytest.approx(0, abs=1e-9)
    floor = distance(CHANCE.normal(size=(300, 10)))
    near, far = (distance(features + shift) for shift in (0.3, 1.0))
    assert 0 < floor < near < far


def test_kernel_distance_of_resampled_rows_is_that_of_the_rows():
    features, other = CHANCE.normal(size=(50, 4)), CHANCE.normal(size=(40, 4)) + 0.5
    distance = metrics.KernelDistance(features)
    rows = CHANCE.integers(0, 40, 40)
    assert distance.of_rows(*distance.gram(other), rows) == pytest.approx(distance(other[rows]))


def test_auc_is_a_half_for_one_distribution_and_one_for_separated_ones():
    assert metrics.auc(CHANCE.normal(size=4000), CHANCE.normal(size=4000)) == pytest.approx(0.5, abs=0.02)
    assert metrics.auc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1
    assert metrics.auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 0
    assert metrics.auc(np.ones(5), np.ones(7)) == 0.5


@pytest.mark.parametrize("shape", ["linear", "curved"])
def test_a_regressor_recovers_what_can_be_recovered_and_nothing_else(shape):
    chance = np.random.default_rng(3)
    truth = chance.uniform(-1, 1, (600, 2))
    hidden = np.column_stack([truth[:, 0], chance.uniform(-1, 1, 600)])  # the second target is not in there
    features = hidden @ chance.normal(size=(2, 40))
    if shape == "curved":
        features = np.tanh(2 * features)
    reader = metrics.fresh_reader(features[:500], truth[:500])
    recovered, lost = metrics.r_squared(reader(features[500:]), truth[500:])
    assert recovered > 0.97
    assert lost < 0.1


def test_nats_of_ten_controls_read_at_nine_tenths():
    assert metrics.nats_of_uniform(np.full(10, 0.9)) == pytest.approx(9.75, abs=0.01)
    assert metrics.nats_of_uniform(np.full(10, -0.3)) == 0


def test_spearman_of_rising_falling_still_and_bent_rows():
    steps = np.linspace(-1, 1, 9)
    rows = np.stack([steps**3, -steps, np.zeros(9), steps**2])
    assert metrics.spearman(rows, steps) == pytest.approx([1, -1, 0, 0])


def test_off_diagonal_counts_a_dead_control_as_one():
    assert metrics.off_diagonal(np.eye(4)) == 0
    assert metrics.off_diagonal(np.eye(4) + 0.1 * (1 - np.eye(4))) == pytest.approx(0.1)
    assert metrics.off_diagonal(np.full((3, 3), -2.0)) == 1
    dead = np.eye(4)
    dead[2] = [0.01, 0.01, 0, 0.01]
    assert metrics.off_diagonal(dead) == pytest.approx(0.25)


def test_information_gap_is_large_for_own_readings_and_none_for_shared_ones():
    controls = CHANCE.uniform(-1, 1, (3000, 3))
    own = controls + 0.01 * CHANCE.normal(size=controls.shape)
    assert metrics.mutual_information_gap(controls, own).min() > 0.8
    shared = np.column_stack([own[:, 0], own[:, 0] + 1e-4 * CHANCE.normal(size=3000), own[:, 1], own[:, 2]])
    gaps = metrics.mutual_information_gap(controls, shared)
    assert gaps[0] < 0.1
    assert gaps[1:].min() > 0.8
    noise = metrics.mutual_information_gap(controls, CHANCE.normal(size=(3000, 3)))
    assert noise.max() < 0.05
