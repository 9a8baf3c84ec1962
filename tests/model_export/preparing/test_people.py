"""Who is whom, and which photographs are one."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from model_export.preparing.choosing import Wishes, choose
from model_export.preparing.cuts import Cuts
from model_export.preparing.filters import Limits
from model_export.preparing.people import Likeness, Pairs, drop_copies, nearest, people, similar_pairs
from tests.model_export.preparing.made_up import GOOD, candidate


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_similar_pairs_are_those_of_the_whole_matrix(block):
    chance = np.random.default_rng(0)
    plain, mirrored = unit(chance.normal(size=(40, 5))), unit(chance.normal(size=(40, 5)))
    pairs = similar_pairs(plain, mirrored, 0.6, block)
    matrix, other = plain @ plain.T, plain @ mirrored.T
    expected = {(i, j) for i in range(40) for j in range(i + 1, 40) if max(matrix[i, j], other[i, j]) > 0.6}
    assert {tuple(pair) for pair in pairs.rows.tolist()} == expected
    assert len(pairs.rows) == len(expected) > 20
    for (i, j), cosine, flip in zip(pairs.rows, pairs.cosines, pairs.flipped, strict=True):
        assert cosine == pytest.approx(max(matrix[i, j], other[i, j]), abs=1e-6)
        assert flip == (other[i, j] > matrix[i, j])


def test_no_faces_have_no_pairs():
    pairs = similar_pairs(np.empty((0, 4), np.float32), np.empty((0, 4), np.float32), 0.5)
    assert pairs.rows.shape == (0, 2)
    assert len(pairs.cosines) == len(pairs.flipped) == 0


def test_a_chain_of_pairs_is_one_person_and_people_are_numbered_as_they_come():
    assert people(7, np.array([[5, 6], [1, 3], [3, 5]])).tolist() == [0, 1, 2, 1, 3, 1, 1]
    assert people(3, np.empty((0, 2), np.int64)).tolist() == [0, 1, 2]


@pytest.fixture
def chunk(tmp_path):
    """Cuts of three faces, of which the second is nearly the first and the third its mirror image."""
    cuts = Cuts(tmp_path, 3)
    chance = np.random.default_rng(0)
    first = np.asarray(Image.fromarray(chance.integers(0, 256, (8, 8, 3), np.uint8)).resize((128, 128)))
    np.save(cuts.array_path("faces", 0), np.stack([first, first // 2 * 2, first[:, ::-1]]))
    vectors = unit(chance.normal(size=(3, 192)))
    np.save(cuts.array_path("embeddings", 0), vectors)
    np.save(cuts.array_path("embeddings_mirrored", 0), vectors[::-1])
    return cuts


def test_of_two_copies_the_one_with_more_to_see_stays_or_the_one_that_is_held_out(chunk):
    def three():
        return [candidate(row=row, cuts=chunk, quality=replace(GOOD, sharpness=row)) for row in range(3)]

    pairs = Pairs(np.array([[0, 1], [0, 2]]), np.full(2, 0.99, np.float32), np.array([False, True]))
    faces = three()
    assert drop_copies(faces, pairs, Likeness()) == [(faces[0], faces[1])]
    assert [face.reason for face in faces] == ["copy of another", "", ""]
    faces = three()
    faces[0].held_out = True
    drop_copies(faces, pairs, Likeness())
    assert [face.reason for face in faces] == ["", "copy of another", "copy of another"]


def test_copies_are_sought_as_far_down_as_is_asked(chunk):
    one, other = np.eye(2, 192, dtype=np.float32)
    vectors = np.stack([one, 0.6 * one + 0.8 * other])
    for kind in ("embeddings", "embeddings_mirrored"):
        np.save(chunk.array_path(kind, 0), vectors)
    faces = [candidate(row=row, cuts=chunk) for row in range(2)]
    wishes = Wishes(Limits(), Likeness(copy=0.5), {"one": 0}, 0, estimate=False, refine={})
    assert len(choose(faces, np.empty((0, 192), np.float32), wishes).copies) == 1


def test_faces_that_differ_in_their_pixels_are_no_copies(chunk):
    faces = [candidate(row=row, cuts=chunk) for row in range(3)]
    unflipped = Pairs(np.array([[0, 2]]), np.full(1, 0.99, np.float32), np.array([False]))
    assert drop_copies(faces, unflipped, Likeness()) == []
    less_alike = Pairs(np.array([[0, 1]]), np.full(1, 0.8, np.float32), np.array([False]))
    assert drop_copies(faces, less_alike, Likeness()) == []


def test_how_near_a_face_comes_to_others_counts_its_mirror_image(chunk):
    vectors = np.load(chunk.array_path("embeddings", 0))
    faces = [candidate(row=row, cuts=chunk) for row in range(3)]
    near = nearest(faces, vectors[:1], block=2)
    assert near[[0, 2]] == pytest.approx([1, 1], abs=1e-5)
    assert near[1] == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)
    assert nearest(faces, vectors[:0]).tolist() == [-1, -1, -1]
