"""Halves, hard pairs and thresholds of the studies."""

from __future__ import annotations

import numpy as np
import pytest

from app.audit.rates import match_rate, threshold_at
from studies import figures
from studies.figures import draws, measure, summary, trial

PEOPLE, GALLERY, PROBES = 60, 2, 3


@pytest.fixture(scope="module")
def vectors() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    centres = random.standard_normal((PEOPLE, 16))

    def photographs(each: int) -> np.ndarray:
        taken = np.repeat(centres, each, 0) + 0.8 * random.standard_normal((PEOPLE * each, 16))
        return taken / np.linalg.norm(taken, axis=1, keepdims=True)

    return photographs(GALLERY), photographs(PROBES)


@pytest.fixture
def of(vectors: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> figures.Trial:
    monkeypatch.setattr(figures, "HARD", 0.02)
    monkeypatch.setattr(figures, "FMR", 0.01)
    return trial(1, *vectors, PEOPLE)


def test_halves_share_nobody_and_miss_nobody(of: figures.Trial) -> None:
    assert sorted([*of.development, *of.reporting]) == list(range(PEOPLE))
    assert set(of.first) == set(of.second) == set(of.reporting)


def test_hard_pairs_are_the_most_alike_of_two_people(of: figures.Trial, vectors: tuple[np.ndarray, np.ndarray]) -> None:
    alike = vectors[0][of.gallery] @ vectors[1][of.probes].T
    assert not (of.hard & of.genuine).any()
    assert of.hard.sum() == int(0.02 * (~of.genuine).sum())
    assert alike[of.hard].min() >= alike[~of.hard & ~of.genuine].max()


def test_figures_are_those_of_the_thresholds(of: figures.Trial, vectors: tuple[np.ndarray, np.ndarray]) -> None:
    scores = vectors[0][of.gallery] @ vectors[1][of.probes].T
    (hard_at_fnmr, fnmr, hard_at_fmr) = measure(of, scores, draws(PEOPLE, 0))[0]
    genuine = np.sort(scores[of.genuine])
    assert hard_at_fnmr == pytest.approx((scores[of.hard] >= genuine[int(0.05 * len(genuine))]).mean())
    strict = threshold_at(scores[~of.genuine], 0.01)
    assert fnmr == pytest.approx(1 - match_rate(scores[of.genuine], strict))
    assert hard_at_fmr == pytest.approx(match_rate(scores[of.hard], strict))


def test_a_person_who_was_drawn_twice_counts_twice(of: figures.Trial, vectors: tuple[np.ndarray, np.ndarray]) -> None:
    scores = vectors[0][of.gallery] @ vectors[1][of.probes].T
    times = np.ones((1, PEOPLE), np.int64)
    times[0, of.reporting[:5]] = 2
    times[0, of.reporting[5:9]] = 0
    (hard_at_fnmr, fnmr, _) = measure(of, scores, times)[0]

    def repeated(mask: np.ndarray) -> np.ndarray:
        rows, columns = np.nonzero(mask)
        first, second = of.first[rows], of.second[columns]
        often = np.where(first == second, times[0, first], times[0, first] * times[0, second])
        return np.repeat(scores[rows, columns], often)

    genuine = np.sort(repeated(of.genuine))
    assert hard_at_fnmr == pytest.approx((repeated(of.hard) >= genuine[int(0.05 * len(genuine))]).mean())
    strict = threshold_at(repeated(~of.genuine), 0.01)
    assert fnmr == pytest.approx((genuine < strict).mean())


def test_doing_nothing_changes_nothing_and_less_is_a_gain() -> None:
    nothing = np.random.default_rng(0).uniform(0.2, 0.3, (5, 40, 3))
    assert summary(nothing, nothing)["hard_at_fnmr"]["change_interval"] == [0, 0]
    better = summary(nothing * 0.75, nothing)["hard_at_fnmr"]
    assert better["change"] == pytest.approx(-0.25)
    assert better["change_interval"] == pytest.approx([-0.25, -0.25])
    assert "change_interval" not in summary(nothing[:, :1], nothing)["hard_at_fnmr"]
