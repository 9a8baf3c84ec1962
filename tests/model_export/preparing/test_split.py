"""Which faces are held out."""

from collections import Counter

import numpy as np
import pytest

from model_export.preparing.people import Likeness, Pairs
from model_export.preparing.split import drop_leaks, split, split_clusters
from tests.model_export.preparing.made_up import candidate


@pytest.fixture
def crowd():
    """2,000 faces in 1,400 clusters of up to 4, in three strata of very different size."""
    chance = np.random.default_rng(1)
    clusters = [f"person {number}" for number in chance.integers(0, 1400, 2000)]
    stratum = {name: ("rare" if int(name.split()[1]) < 40 else "common") for name in clusters}
    return clusters, [stratum[name] for name in clusters]


def test_no_cluster_stands_on_both_sides(crowd):
    clusters, strata = crowd
    test = split_clusters(clusters, strata, 300, 10)
    assert not {c for c, t in zip(clusters, test, strict=True) if t} & {
        c for c, t in zip(clusters, test, strict=True) if not t
    }
    assert abs(int(test.sum()) - 300) <= 8


def test_every_stratum_has_its_share_and_the_rare_one_its_least(crowd):
    clusters, strata = crowd
    test = split_clusters(clusters, strata, 100, 10)
    chosen = Counter(s for s, t in zip(strata, test, strict=True) if t)
    assert 8 <= chosen["rare"] <= 12
    assert chosen["rare"] / strata.count("rare") > chosen["common"] / strata.count("common")


def test_the_order_of_the_faces_does_not_change_the_split(crowd):
    clusters, _ = crowd
    one_stratum = ["all"] * len(clusters)
    order = np.random.default_rng(2).permutation(len(clusters))
    test = split_clusters(clusters, one_stratum, 300, 10)
    shuffled = split_clusters([clusters[i] for i in order], one_stratum, 300, 10)
    assert np.array_equal(test[order], shuffled)


def test_a_cluster_larger_than_the_test_side_stays_in_training():
    test = split_clusters(["one"] * 50 + [f"other {i}" for i in range(50)], ["all"] * 100, 10, 0)
    assert not test[:50].any()
    assert test.sum() == 10


def test_strata_too_small_for_a_share_are_taken_as_one():
    test = split_clusters([f"person {i}" for i in range(10)], range(10), 2, 5)
    assert test.sum() == 2


def several(source, count, first=0, **more):
    return [candidate(source, cluster=first + number, **more) for number in range(count)]


def test_each_source_holds_its_own_number_out_and_never_over_a_fifth():
    faces = several("large", 100) + several("small", 10, 100)
    split(faces, {"large": 12, "small": 12}, least=0)
    assert Counter(face.source for face in faces if face.test) == {"large": 12, "small": 2}


def test_who_was_held_out_before_still_is_with_everybody_who_looks_like_one_person():
    faces = several("old", 20)
    faces[3].held_out = faces[4].held_out = True
    faces += [candidate("new", cluster=3), *several("new", 20, 50)]
    split(faces, {"old": 3, "new": 0}, least=0)
    assert faces[3].test
    assert faces[4].test
    assert faces[20].test  # another source's picture of the first
    assert sum(face.test for face in faces[:20]) == 3


def test_people_of_several_sources_are_drawn_for_none():
    faces = [candidate(source, cluster=number) for number in range(30) for source in ("one", "other")]
    split(faces, {"one": 5, "other": 5}, least=0)
    assert not any(face.test for face in faces)


def test_dropped_faces_are_not_held_out():
    faces = several("one", 10, reason="blurred")
    split(faces, {"one": 2}, least=0)
    assert not any(face.test for face in faces)


def test_who_looks_like_a_test_face_is_not_trained_on():
    faces = several("one", 6)
    faces[0].test = faces[5].test = True
    rows = np.array([[0, 1], [0, 2], [3, 4], [0, 5]])
    pairs = Pairs(rows, np.array([0.71, 0.69, 0.9, 0.9], np.float32), np.zeros(4, np.bool_))
    drop_leaks(faces, pairs, Likeness(look_alike=0.7))
    assert [face.reason for face in faces] == ["", "looks like a test face", "", "", "", ""]
