"""Near-duplicates and the split."""

from collections import Counter

import numpy as np
import pytest

from model_export.preparing.clusters import connected, similar_pairs, split_clusters


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_similar_pairs_are_those_of_the_whole_matrix(block):
    chance = np.random.default_rng(0)
    plain, mirrored = unit(chance.normal(size=(40, 5))), unit(chance.normal(size=(40, 5)))
    pairs, cosines, flipped = similar_pairs(plain, mirrored, 0.6, block)
    matrix, other = plain @ plain.T, plain @ mirrored.T
    expected = {(i, j) for i in range(40) for j in range(i + 1, 40) if max(matrix[i, j], other[i, j]) > 0.6}
    assert {tuple(pair) for pair in pairs.tolist()} == expected
    assert len(pairs) == len(expected) > 20
    for (i, j), cosine, flip in zip(pairs, cosines, flipped, strict=True):
        assert cosine == pytest.approx(max(matrix[i, j], other[i, j]), abs=1e-6)
        assert flip == (other[i, j] > matrix[i, j])


def test_no_faces_have_no_pairs():
    pairs, cosines, flipped = similar_pairs(np.empty((0, 4), np.float32), np.empty((0, 4), np.float32), 0.5)
    assert pairs.shape == (0, 2)
    assert len(cosines) == len(flipped) == 0


def test_a_chain_of_pairs_is_one_cluster_named_by_its_smallest():
    assert connected(7, np.array([[5, 6], [1, 3], [3, 5]])).tolist() == [0, 1, 2, 1, 4, 1, 1]


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
