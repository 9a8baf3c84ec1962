from __future__ import annotations

import numpy as np
import pytest

from app.core.normalisation import adaptive_s_norm, normalise, s_norm, statistics

FIRST = np.array([[0.0, 2.0, 4.0, -6.0], [1.0, 3.0, 1.0, 3.0]])
SECOND = np.array([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 4.0, 8.0]])
SCORES = np.array([5.0, 4.0])


def test_s_norm_is_the_mean_of_both_sides_in_their_own_deviations() -> None:
    # Means 0 and 2 with deviations sqrt(14) and 1; means 2 and 3 with deviations 1 and sqrt(11).
    expected = [(5 / np.sqrt(14) + 3) / 2, (2 + 1 / np.sqrt(11)) / 2]
    assert s_norm(SCORES, FIRST, SECOND) == pytest.approx(expected)


def test_adaptive_s_norm_takes_the_members_most_like_each_side() -> None:
    # Of the first pair 2 and 4, 3 and 5; of the second 3 and 5, 4 and 8.
    first, second = FIRST.copy(), SECOND.copy()
    first[1, 3], second[0, 2] = 5, 5
    assert adaptive_s_norm(SCORES, first, second, top=2) == pytest.approx([(2 + 1) / 2, (0 + -1) / 2])


def test_order_of_a_pair_and_of_the_cohort_changes_nothing() -> None:
    random = np.random.default_rng(0)
    scores, first, second = random.normal(size=9), random.normal(size=(9, 50)), random.normal(size=(9, 50))
    expected = adaptive_s_norm(scores, first, second, top=7)
    assert adaptive_s_norm(scores, second[:, ::-1], first, top=7) == pytest.approx(expected)
    assert adaptive_s_norm(scores, first, second, top=50) == pytest.approx(s_norm(scores, first, second))
    assert adaptive_s_norm(scores, first, second) == pytest.approx(
        s_norm(scores, first, second)
    )  # fewer than there are


def test_a_scale_of_a_recogniser_is_no_matter() -> None:
    random = np.random.default_rng(1)
    scores, first, second = random.normal(size=9), random.normal(size=(9, 50)), random.normal(size=(9, 50))
    scaled = adaptive_s_norm(100 * scores - 3, 100 * first - 3, 100 * second - 3, top=5)
    assert scaled == pytest.approx(adaptive_s_norm(scores, first, second, top=5))


def test_a_table_of_pairs_takes_statistics_of_either_side() -> None:
    rows, columns = statistics(FIRST, 3), statistics(SECOND, 3)
    table = np.array([[0.1, 0.2], [0.3, 0.4]])
    i, j = np.meshgrid([0, 1], [0, 1], indexing="ij")
    flat = adaptive_s_norm(table.ravel(), FIRST[i.ravel()], SECOND[j.ravel()], top=3)
    assert normalise(table, rows.of(i), columns.of(j)).ravel() == pytest.approx(flat)


def test_a_cohort_that_is_scored_alike_gives_finite_scores() -> None:
    assert np.isfinite(s_norm(np.array([0.5]), np.full((1, 5), 0.2), np.full((1, 5), 0.3))).all()


@pytest.mark.parametrize(("cohort", "top"), [(np.zeros((3, 1)), None), (np.zeros(3), None), (np.zeros((3, 5)), 1)])
def test_too_small_a_cohort_is_refused(cohort: np.ndarray, top: int | None) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        statistics(cohort, top)
