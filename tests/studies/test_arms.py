"""Cohorts, drawn pairs and the manner of a photograph: what the studies' arms are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from studies import cohorts, doppelgaenger
from studies.cohorts import KINDS, Seen, arms, cohort
from studies.figures import trial
from studies.frames import matched, sharpness
from studies.material import GALLERY, PROBES, Kept

PEOPLE = 40
ROWS = {"gallery": PEOPLE * GALLERY, "redrawn": PEOPLE * GALLERY, "look-alikes": PEOPLE * GALLERY}


@pytest.fixture(scope="module")
def seen() -> Seen:
    random = np.random.default_rng(0)
    rows = ROWS | {"probes": PEOPLE * PROBES} | dict.fromkeys(("utkface", "fairface", "random", "random matched"), 300)

    def units(count: int) -> np.ndarray:
        vectors = random.standard_normal((count, 12))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return Seen({kind: units(count) for kind, count in rows.items()})


@pytest.fixture
def model_of() -> np.ndarray:
    return np.random.default_rng(1).integers(0, PEOPLE * GALLERY, 300)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_held_against_a_cohort_with_themselves(kind: str, seen: Seen, model_of: np.ndarray) -> None:
    of = trial(0, seen.vectors["gallery"], seen.vectors["probes"], PEOPLE)
    members = cohort(kind, of, seen, model_of)
    theirs = {
        row.tobytes()
        for part, each in (("gallery", GALLERY), ("probes", PROBES), ("redrawn", GALLERY), ("look-alikes", GALLERY))
        for row in seen.vectors[part].reshape(PEOPLE, each, -1)[of.reporting].reshape(-1, 12)
    }
    theirs |= {
        row.tobytes()
        for row, model in zip(seen.vectors["random matched"], model_of, strict=True)
        if model // GALLERY in of.reporting
    }
    assert len(members) >= 2 * len(of.development)
    assert not theirs & {row.tobytes() for row in members}


def test_every_arm_of_the_protocol_is_there(seen: Seen, model_of: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohorts, "SIZES", (10, 40))
    monkeypatch.setattr(cohorts, "MAIN", 40)
    of = trial(0, seen.vectors["gallery"], seen.vectors["probes"], PEOPLE)
    found = [about for about, scores in arms(0, of, seen, model_of) if np.isfinite(scores).all()]
    assert [about["weight"] for about in found if about["arm"] == "less look-alikes"] == [0.25, 0.5, 1.0]
    norms = {(about["arm"], about["cohort"], about["size"]) for about in found if "cohort" in about}
    assert norms == {(arm, kind, size) for arm in ("S-norm", "AS-norm") for kind in KINDS for size in (10, 40)}


def test_look_alikes_are_taken_off_those_of_the_person(seen: Seen) -> None:
    of = trial(0, seen.vectors["gallery"], seen.vectors["probes"], PEOPLE)
    scores = cohorts.less_look_alikes(of, seen, 0.5)
    person, probe = of.first[3], seen.vectors["probes"][of.probes[7]]
    own = seen.vectors["look-alikes"][[person * GALLERY, person * GALLERY + 1]]
    expected = seen.vectors["gallery"][of.gallery[3]] @ probe - 0.5 * (own @ probe).mean()
    assert scores[3, 7] == pytest.approx(expected)


def test_drawing_tells_nothing_of_a_drawn_pair(seen: Seen) -> None:
    redrawn, look_alikes = seen.vectors["redrawn"], seen.vectors["look-alikes"]
    pairs, genuine, people = doppelgaenger.drawn_pairs(np.array([3, 5]), redrawn, look_alikes)
    assert genuine.tolist() == [True] * 2 + [False] * 4
    assert people.tolist() == [3, 5] * 3
    np.testing.assert_allclose(pairs[0, :-1], redrawn[6] * redrawn[7])
    np.testing.assert_allclose(pairs[2, :-1], redrawn[6] * look_alikes[7])
    np.testing.assert_allclose(pairs[5, -1], redrawn[11] @ look_alikes[10])


def test_mined_pairs_are_the_hardest_of_two_people(seen: Seen) -> None:
    gallery, probes = seen.vectors["gallery"], seen.vectors["probes"]
    people = np.arange(10)
    mined, genuine, _ = doppelgaenger.real_pairs(people, gallery, probes, mined=True, seed=0)
    random, _, _ = doppelgaenger.real_pairs(people, gallery, probes, mined=False, seed=0)
    assert genuine.sum() == 10 * GALLERY * PROBES == (~genuine).sum()
    assert mined[~genuine, -1].min() > np.median(random[~genuine, -1])


def test_a_drawing_takes_light_colour_and_softness_of_a_photograph() -> None:
    random = np.random.default_rng(0)
    sharp = random.integers(60, 200, (1, 64, 64, 3)).astype(np.uint8)
    ramp = np.linspace(80, 160, 64)
    soft = np.repeat(np.add.outer(ramp, ramp)[..., None] / 2, 3, 2)[None].astype(np.uint8)
    made = matched(sharp, soft)
    np.testing.assert_allclose(made.mean((1, 2)), soft.mean((1, 2)), atol=1)
    np.testing.assert_allclose(made.std((1, 2)), soft.std((1, 2)), rtol=0.05)
    assert sharpness(made[0]) < 0.3 * sharpness(sharp[0])
    np.testing.assert_allclose(matched(soft, soft), soft, atol=1)


def test_what_was_made_is_not_made_again(tmp_path: Path) -> None:
    kept, made = Kept(tmp_path), []

    def make(rows: slice) -> np.ndarray:
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(rows)
        return np.arange(rows.start, rows.stop)

    with pytest.raises(KeyboardInterrupt):
        kept("some", 70, make)
    again = kept("some", 70, lambda rows: np.arange(rows.start, rows.stop) + 1000)
    assert again[:50].tolist() == list(range(50))
    assert again[50:].tolist() == list(range(1050, 1070))
