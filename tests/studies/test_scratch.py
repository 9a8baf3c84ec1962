"""Studies B and C at toy sizes: what arms learn from, how nets are tested, and that a stopped run goes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from studies import drawings, figures, nobodies, scratch, small, verification
from studies.drawings import KINDS, Lessons, closest_below, halved, held_out, mixed, neighbours
from studies.figures import redrawn_seeds
from studies.nobodies import People
from studies.scratch import AGAINST, ARMS, CANDIDATES, Nets, Sampler, compared
from studies.small import EXTRAS, PAIRS
from studies.verification import ALL, FIGURES, FRONTAL, Celebrities, accuracy, folds, hard_error, measured, sides
from tests.networks import SHIPPED

COUNT, PEOPLE = 200, 20


def plain(values: np.ndarray) -> np.ndarray:
    """Pictures of one level each."""
    return np.broadcast_to(values[:, None, None, None], (len(values), 64, 64, 3)).astype(np.uint8).copy()


@pytest.fixture(scope="module")
def lessons() -> Lessons:
    """Photograph r is as bright as r; a drawing of it is 1 brighter or darker for each kind."""
    levels = np.arange(COUNT)
    random = np.random.default_rng(0)
    vectors = random.standard_normal((COUNT, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made = {kind: plain(levels + 3 * number + 1) for number, kind in enumerate(KINDS)}
    similarity = {kind: np.full(COUNT, 0.9 - 0.1 * number) for number, kind in enumerate(KINDS)}
    similarity["farther"] = np.where(levels % 2, 0.25, 0.35)
    return Lessons(plain(levels), neighbours(vectors.astype(np.float32)), made, similarity)


@pytest.fixture(scope="module")
def test(tmp_path_factory: pytest.TempPathFactory) -> Celebrities:
    """People each of whom is a level of brightness, a bit of noise aside."""
    random = np.random.default_rng(1)
    levels = np.repeat(np.linspace(20, 230, PEOPLE), ALL)
    pictures = np.clip(plain(levels) + random.normal(0, 3, (PEOPLE * ALL, 64, 64, 3)), 1, 255).astype(np.uint8)
    found = np.ones(PEOPLE * ALL, bool)
    found[[3, 5 * ALL + FRONTAL]] = False
    gallery, probes = sides(found)
    protocol = tmp_path_factory.mktemp("protocol")
    write_protocol(protocol)
    vectors = np.random.default_rng(2).standard_normal((PEOPLE * ALL, 8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "HARD", 0.02)
        of = figures.everybody(vectors[gallery], vectors[probes], gallery // ALL, probes // ALL)
    return Celebrities(pictures, found, of, gallery, probes, folds(protocol, "FF"), folds(protocol, "FP"))


def write_protocol(protocol: Path) -> None:
    each = PEOPLE // 10
    for name, own in (("FF", 10), ("FP", 4)):
        for fold in range(10):
            folder = protocol / "Split" / name / f"{fold + 1:02d}"
            folder.mkdir(parents=True)
            one, two = fold * each, fold * each + 1
            same = [f"{one * 10 + k + 1},{one * own + (k + 1) % own + 1}" for k in range(4)]
            other = [f"{one * 10 + k + 1},{two * own + k + 1}" for k in range(4)]
            (folder / "same.txt").write_text("\n".join(same) + "\n")
            (folder / "diff.txt").write_text("\n".join(other) + "\n")


@pytest.mark.parametrize("name", ARMS)
def test_arms_of_a_seed_see_the_same_people_in_the_same_order(name: str, lessons: Lessons) -> None:
    first, second, others = Sampler(lessons, ARMS[name])(np.random.default_rng(4))
    pixels, _, random = Sampler(lessons, ARMS["pixels"])(np.random.default_rng(4))
    assert (len(first), len(second), len(others)) == (PAIRS, PAIRS, EXTRAS)
    assert (first == pixels).all()
    assert len(np.unique(first[:, 0, 0, 0])) == PAIRS
    assert not np.isin(random[:, 0, 0, 0], first[:, 0, 0, 0]).any()


@pytest.mark.parametrize("name", ARMS)
def test_half_of_the_second_pictures_are_drawings_of_the_arms_kind(name: str, lessons: Lessons) -> None:
    first, second, _ = Sampler(lessons, ARMS[name])(np.random.default_rng(4))
    moved = second[:, 0, 0, 0].astype(int) - first[:, 0, 0, 0]
    expected = {3 * list(KINDS).index(kind) + 1 for kind in ARMS[name].positives}
    assert set(moved) == {0} | expected
    assert (moved == 0).mean() == (1 if not expected else pytest.approx(0.5, abs=0.2))


def test_mined_others_are_near_the_people_and_none_of_them(lessons: Lessons) -> None:
    first, _, others = Sampler(lessons, ARMS["mined"])(np.random.default_rng(4))
    people, mined = first[:, 0, 0, 0], others[:, 0, 0, 0]
    assert not np.isin(mined, people).any()
    near = [row in lessons.neighbours[person] for person, row in zip(people[:EXTRAS], mined, strict=True)]
    assert np.mean(near) > 0.5


def test_morphs_are_the_mean_of_a_person_and_a_stranger(lessons: Lessons) -> None:
    first, _, others = Sampler(lessons, ARMS["morphs"])(np.random.default_rng(4))
    _, _, strangers = Sampler(lessons, ARMS["pixels"])(np.random.default_rng(4))
    mean = (first[:EXTRAS, 0, 0, 0].astype(int) + strangers[:, 0, 0, 0]) // 2
    assert (others[:, 0, 0, 0] == mean).all()


def test_other_people_are_the_most_alike_drawings_below_the_limit(lessons: Lessons) -> None:
    first, _, others = Sampler(lessons, ARMS["others beyond 0.3"])(np.random.default_rng(4))
    _, _, strangers = Sampler(lessons, ARMS["pixels"])(np.random.default_rng(4))
    person, other = first[:EXTRAS, 0, 0, 0].astype(int), others[:, 0, 0, 0]
    farther = person + 3 * list(KINDS).index("farther") + 1
    assert (other == np.where(person % 2, farther, strangers[:, 0, 0, 0])).all()
    assert Sampler(lessons, ARMS["others beyond 0.3"]).share == 0.5
    which, there = closest_below(lessons.similarity, 0.6, CANDIDATES)
    assert there.all()
    assert {CANDIDATES[place] for place in which} == {"full again"}


def test_one_photograph_of_a_cluster_and_none_that_was_trained_on(tmp_path: Path) -> None:
    lines = ["row,split,cluster", "0,train,0", "1,test,1", "2,test,1", "3,test,2", "4,train,3", "5,test,4"]
    (tmp_path / "faces.csv").write_text("\n".join(lines) + "\n")
    assert held_out(tmp_path, 3).tolist() == [1, 3, 5]
    with pytest.raises(ValueError, match="3 people who were kept from training, not 4"):
        held_out(tmp_path, 4)


def test_mixed_identities_keep_their_spread_and_pictures_their_mean() -> None:
    own, other = np.random.default_rng(0).standard_normal((2, 50_000, 1)).astype(np.float32)
    assert mixed(own, other, 0.6).std() == pytest.approx(1, abs=0.02)
    assert np.corrcoef(mixed(own, other, 0.6)[:, 0], own[:, 0])[0, 1] == pytest.approx(np.sqrt(0.4), abs=0.02)
    assert (mixed(own, other, 0.0) == own).all()
    face = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(1, 4, 4, 3)
    assert halved(face)[0, 0, 0, 0] == np.rint(face[0, :2, :2, 0].mean())


def test_what_is_drawn_is_kept_and_said_how_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    random = np.random.default_rng(0)
    np.save(prepared / "faces.npy", random.integers(0, 255, (6, 128, 128, 3)).astype(np.uint8))
    vectors = random.standard_normal((6, 192)).astype(np.float32)
    np.save(prepared / "embeddings.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    (prepared / "faces.csv").write_text("row,split,cluster\n" + "".join(f"{n},test,{n}\n" for n in range(6)))
    made = drawings.Drawings(SHIPPED, tmp_path / "runs").lessons(prepared, 6)
    assert all(pictures.shape == (6, 64, 64, 3) for pictures in made.drawings.values())
    assert not (made.drawings["redrawn"] == made.drawings["full"]).all()
    monkeypatch.setattr(drawings, "Generator", None)
    again = drawings.Drawings(SHIPPED, tmp_path / "runs")
    assert (again.lessons(prepared, 6).similarity["far"] == made.similarity["far"]).all()
    assert set(drawings.described(made)) == set(KINDS)


def test_a_net_learns_to_tell_people_and_a_stopped_study_goes_on(
    test: Celebrities, lessons: Lessons, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    batch = Sampler(lessons, ARMS["+ redrawn"])
    nets = Nets(test, tmp_path, "toy", steps=2)
    vectors = nets("+ redrawn", 0, batch, lessons.photographs)
    assert vectors.shape == (PEOPLE * ALL, small.DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    monkeypatch.setattr(small, "trained", None)
    assert (Nets(test, tmp_path, "toy", steps=2)("+ redrawn", 0, batch, lessons.photographs) == vectors).all()
    with pytest.raises(TypeError):
        Nets(test, tmp_path, "other photographs", steps=2)("+ redrawn", 0, batch, lessons.photographs)


def test_the_loss_falls_as_pairs_come_together_and_rises_with_others() -> None:
    first = torch.eye(4)
    near = small.loss(first, first, -first)
    assert near < small.loss(first, first.flip(0), -first)
    assert near < small.loss(first, first, first)


def test_augmentation_keeps_the_picture_in_place_and_comes_by_seed() -> None:
    picture = small.prepared(np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3)).astype(np.uint8))
    picture = torch.nn.functional.interpolate(picture, size=64, mode="bilinear")
    once, again = (small.augmented(picture, torch.Generator().manual_seed(seed)) for seed in (0, 0))
    assert torch.equal(once, again)
    assert once.shape == picture.shape
    turned_less = small.augmented(picture, torch.Generator().manual_seed(1))
    assert not torch.equal(once, turned_less)


def test_pictures_of_the_protocol_are_those_of_its_lists(test: Celebrities) -> None:
    assert test.frontal.first[0] == 0
    assert test.frontal.second[0] == 1
    assert test.profile.second[0] == FRONTAL + 1
    assert test.profile.second[4] == ALL + FRONTAL  # the first pair of two people: profile 1 of person 2
    assert test.frontal.same.sum() == 40 == (~test.frontal.same).sum()
    assert 3 not in test.gallery
    assert test.gallery[:2].tolist() == [0, 1]
    assert test.probes[:3].tolist() == [2, 4, 5]


def test_accuracy_is_that_of_the_threshold_of_the_other_folds() -> None:
    same = np.tile([True, False], 20)
    fold = np.repeat(np.arange(10), 4)
    scores = np.where(same, 0.8, 0.2)
    once = np.ones((1, 40))
    assert accuracy(scores, same, fold, once) == 1
    scores[[0, 1]] = 0.1, 0.9
    assert accuracy(scores, same, fold, once) == pytest.approx(38 / 40)
    without = once.copy()
    without[0, :2] = 0
    assert accuracy(scores, same, fold, without) == 1


def test_perfect_vectors_have_no_errors_but_the_faces_that_were_not_found(test: Celebrities) -> None:
    own = np.eye(PEOPLE, dtype=np.float32)[np.arange(PEOPLE * ALL) // ALL]
    times = figures.draws(PEOPLE, 5)
    found = dict(zip(FIGURES, measured(test, own, times)[0], strict=True))
    refused = test.frontal.same & ~(test.found[test.frontal.first] & test.found[test.frontal.second])
    assert refused.sum() == 2
    assert found["hard_error"] == found["hard_at_fnmr"] == found["profile_error"] == 0
    assert found["frontal_error"] == pytest.approx(2 / 80)
    random = np.random.default_rng(0).standard_normal((PEOPLE * ALL, 16)).astype(np.float32)
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    scores = random[test.gallery] @ random[test.probes].T
    assert hard_error(test.of, scores, times)[0] == pytest.approx(0.5, abs=0.25)


def test_seeds_are_drawn_alike_for_every_arm_and_the_first_is_as_it_was() -> None:
    of_seeds = np.broadcast_to(np.arange(3.0)[:, None, None], (3, 50, 2))
    drawn = redrawn_seeds(of_seeds)
    assert drawn[:, 0, 0].tolist() == [0, 1, 2]
    assert (drawn == redrawn_seeds(of_seeds)).all()
    assert len({tuple(sorted(draw)) for draw in drawn[:, 1:, 0].T}) > 3


def test_every_arm_stands_beside_pixels_and_drawings_beside_mined_and_morphs() -> None:
    made = {name: np.full((2, 6, 6), 0.1 * (number + 1)) for number, name in enumerate(ARMS)}
    found = {(row["arm"], row["against"]): row for row in compared(made, "pixels", AGAINST)}
    assert {arm for arm, against in found if against == "pixels"} == set(ARMS)
    assert found["+ redrawn", "pixels"]["hard_error"]["change"] == pytest.approx(1)
    assert ("others beyond 0.3", "+ redrawn") in found
    assert ("look-alikes the same", "morphs") in found
    assert ("mined", "morphs") not in found


def test_two_pictures_of_a_person_are_two_of_theirs_and_others_are_others() -> None:
    owners = np.repeat(np.arange(120), 2)
    pictures = plain(owners)
    pictures[:, 1] = np.arange(240)[:, None, None] % 2
    first, second, others = People(pictures, owners)(np.random.default_rng(0))
    assert (first[:, 0, 0, 0] == second[:, 0, 0, 0]).all()
    assert (first[:, 1, 0, 0] != second[:, 1, 0, 0]).all()
    assert not np.isin(others[:, 0, 0, 0], first[:, 0, 0, 0]).any()
    one, same, _ = People(pictures[::2], owners[::2])(np.random.default_rng(0))
    assert (one == same).all()


def test_nobody_is_tested_by_a_net_that_learned_from_them(test: Celebrities) -> None:
    class Recorder:
        def __call__(self, _name: str, _seed: int, _batch: People, calm: np.ndarray) -> np.ndarray:
            learned = {calm[place].tobytes() for place in range(len(calm))}
            theirs = [picture.tobytes() in learned for picture in test.pictures]
            return np.array(theirs, np.float32)[:, None]

    vectors = nobodies.real(test, Recorder(), 0)
    assert (vectors == 0).all()


def untrained(name: str, seed: int, batch: object, _calm: np.ndarray) -> np.ndarray:
    """In place of nets: vectors of chance, another for each arm and seed; the batch is asked for once."""
    assert len(batch(np.random.default_rng(0))) == 3
    vectors = np.random.default_rng([seed, *name.encode()]).standard_normal((PEOPLE * ALL, 16))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_study_b_reports_every_arm(test: Celebrities, lessons: Lessons) -> None:
    found = scratch.study(lessons, untrained, test, range(2))
    assert [row["arm"] for row in found if row["against"] == "pixels"] == list(ARMS)
    for row in found:
        for name in FIGURES:
            assert len(row[name]["seeds"]) == 2
            assert row[name]["interval"][0] <= row[name]["interval"][1]


def test_study_c_reports_every_arm(test: Celebrities, lessons: Lessons, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nobodies, "People", lambda *_given: Sampler(lessons, ARMS["pixels"]))
    people = SimpleNamespace(nobodies=lambda: np.zeros((4, 20, 64, 64, 3), np.uint8))
    ready = SimpleNamespace(drawings=people, lessons=lessons, test=test, nets=untrained)
    found = nobodies.study(ready, range(2))
    compared_with = {base: [row["arm"] for row in found if row["against"] == base] for base in nobodies.AGAINST}
    assert [row["arm"] for row in found if row["against"] == "photographs"] == [
        "photographs",
        *nobodies.DRAWINGS,
        "real people",
    ]
    assert compared_with == {base: list(arms) for base, arms in nobodies.AGAINST.items()}
    assert set(found[0]) == {"arm", "against", "frontal_error", "profile_error"}


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    made = {name: np.random.default_rng(number).random((2, 6, 6)) for number, name in enumerate(ARMS)}
    scratch.written.arms_figure(tmp_path / "a.png", compared(made, "pixels", AGAINST), ("hard_error", "frontal_error"))
    assert (tmp_path / "a.png").stat().st_size > 5000


@pytest.mark.parametrize("place", ["train/007", "007"])
def test_faces_are_cut_in_order_and_those_not_found_are_black(tmp_path: Path, photo: bytes, place: str) -> None:
    folder = tmp_path / "people" / place
    for kind, name in (("frontal", "02.jpg"), ("profile", "01.jpg")):
        (folder / kind).mkdir(parents=True)
        (folder / kind / name).write_bytes(photo)
    (folder / "frontal" / "03.jpg").write_bytes(b"no picture")
    cut = verification.faces(tmp_path / "people", SHIPPED, verification.Kept(tmp_path / "runs"))
    assert cut.shape == (1, ALL, 128, 128, 3)
    assert np.flatnonzero(cut.any((0, 2, 3, 4))).tolist() == [1, FRONTAL]


def test_a_folder_without_people_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no folder of a person"):
        verification.faces(tmp_path, SHIPPED, verification.Kept(tmp_path / "runs"))
