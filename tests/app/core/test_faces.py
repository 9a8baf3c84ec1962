import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from app.core.faces import (
    FRAME_POINTS,
    FRAME_SIZE,
    Detector,
    Face,
    Recognizer,
    align,
    recognizer_maps,
    similarity,
    similarity_transform,
)
from app.runtime.sessions import Network
from app.settings import Settings

EYES = np.array([[203, 101], [248, 103]])
"""Where the eyes of the portrait are, as read off it by a person."""


@pytest.fixture(scope="module")
def models() -> Path:
    return Settings().models


@pytest.fixture(scope="module")
def detector(models: Path) -> Detector:
    return Detector(models, "cpu", 1)


@pytest.fixture(scope="module")
def recognizer(models: Path) -> Recognizer:
    return Recognizer(models, "cpu", 1)


def test_a_face_is_found_where_it_is(detector: Detector, portrait: Image.Image) -> None:
    (face,) = detector(portrait)
    assert np.abs(face.points[:2] - EYES).max() < 6
    left, top, right, bottom = face.box
    assert left < 203 < 248 < right
    assert top < 101 < 150 < bottom


@pytest.mark.parametrize("side", [200, 1024, 3000])
def test_a_face_is_found_at_any_size(detector: Detector, portrait: Image.Image, side: int) -> None:
    (face,) = detector(portrait.resize((side, side)))
    assert np.abs(face.points[:2] / side * 512 - EYES).max() < 8


def test_a_face_that_fills_the_picture_is_found(detector: Detector, portrait: Image.Image) -> None:
    assert len(detector(portrait.crop((175, 60, 275, 180)).resize((600, 720)))) == 1


def test_a_small_face_in_a_wide_picture_is_found(detector: Detector, portrait: Image.Image) -> None:
    canvas = Image.new("RGB", (2000, 1200), "gray")
    canvas.paste(portrait, (1300, 500))
    (face,) = detector(canvas)
    assert np.abs(face.points[:2] - EYES - (1300, 500)).max() < 15


def test_faces_come_largest_first(detector: Detector, group: bytes) -> None:
    faces = detector(Image.open(io.BytesIO(group)))
    assert len(faces) == 2
    assert faces[0].area > faces[1].area
    assert faces[0].box[0] < 512 < faces[1].box[0]


def test_a_thorough_search_finds_small_faces_beside_a_large_one(detector: Detector, portrait: Image.Image) -> None:
    face, canvas = portrait.crop((130, 0, 320, 230)), Image.new("RGB", (1600, 700), "gray")
    places, sizes = (20, 460, 620, 760), (2.0, 0.5, 0.35, 0.35)
    for left, size in zip(places, sizes, strict=True):
        canvas.paste(face.resize((int(190 * size), int(230 * size))), (left, 60))
    assert len(detector(canvas)) == 1, "else this test shows nothing"
    found = detector(canvas, thorough=True)
    assert [face.area for face in found] == sorted((face.area for face in found), reverse=True)
    # The nose of the portrait is at (95, 124) of the crop.
    noses = sorted(tuple(face.points[2]) for face in found)
    expected = [(left + 95 * size, 60 + 124 * size) for left, size in zip(places, sizes, strict=True)]
    np.testing.assert_allclose(noses, expected, atol=15)


@pytest.mark.parametrize("name", ["rocket", "coffee", "chelsea", "brick"])
def test_a_thorough_search_invents_no_faces(detector: Detector, name: str) -> None:
    picture = Image.fromarray(getattr(data, name)()).convert("RGB")
    picture = picture.resize((picture.width * 3, picture.height * 3))
    assert detector(picture, thorough=True) == detector(picture) == []


def test_where_there_is_no_face_none_is_found(detector: Detector, landscape: bytes) -> None:
    assert detector(Image.open(io.BytesIO(landscape))) == []


def test_a_similarity_transform_is_recovered_exactly() -> None:
    points = np.random.default_rng(0).normal(size=(4, 2))
    matrix = np.array([[0.6, -0.8, 3], [0.8, 0.6, -5]]) * [[2, 2, 1]]
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(similarity_transform(points, moved), matrix)


def test_alignment_brings_the_points_into_the_face_frame() -> None:
    """A picture that is black but for white squares on the four points."""
    places = FRAME_POINTS * 300 + (150, 80)
    picture = Image.new("RGB", (600, 500))
    for x, y in places.round().astype(int):
        picture.paste("white", (x - 4, y - 4, x + 4, y + 4))
    face = Face((0, 0, 1, 1), np.vstack([places, places[:2]]), 1.0)
    frame = align(picture, face)
    assert frame.shape == (FRAME_SIZE, FRAME_SIZE, 3)
    for x, y in (FRAME_POINTS * FRAME_SIZE).astype(int):
        assert frame[y - 1 : y + 1, x - 1 : x + 1].min() > 150
    assert (frame > 128).mean() < 0.02


@pytest.mark.parametrize("angle", [-30, -10, 10, 30])
def test_alignment_undoes_rotation_and_scale(
    detector: Detector, recognizer: Recognizer, portrait: Image.Image, angle: int
) -> None:
    turned = portrait.resize((700, 700)).rotate(angle, Image.Resampling.BICUBIC, fillcolor="gray")
    frames = np.stack([align(picture, detector(picture)[0]) for picture in (portrait, turned)])
    embeddings = recognizer(frames)
    assert similarity(embeddings[1:], embeddings[0])[0] > 0.8


def test_the_recognizer_sees_grey_outside_the_face_frame() -> None:
    rows, columns = recognizer_maps()
    crop = rows @ np.ones((FRAME_SIZE, FRAME_SIZE), np.float32) @ columns.T
    assert crop.shape == (112, 112)
    assert set(np.unique(crop.round(5)).tolist()) == {0, 1}
    assert crop[56, 56] == 1
    assert crop[0, 0] == 0


def test_the_recognizer_gives_what_the_shipped_network_gives(recognizer: Recognizer, models: Path) -> None:
    """Its crop, its PReLU and its normalisation were put into the graph; here they are done by hand."""
    faces = np.random.default_rng(0).integers(0, 256, (3, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    rows, columns = recognizer_maps()
    crop = np.einsum("ih,nhwc,jw->nijc", rows, faces / np.float32(127.5) - 1, columns, optimize=True)
    (vectors,) = Network(models / "face_recognizer.onnx", "cpu", 1)(crop.astype(np.float32))
    expected = np.asarray(vectors) / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(recognizer(faces), expected, atol=2e-6)


def test_embeddings_have_unit_length(recognizer: Recognizer) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    assert np.allclose(np.linalg.norm(recognizer(noise), axis=1), 1, atol=1e-5)


def test_a_score_does_not_depend_on_its_company() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(33, 192)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    together = similarity(vectors, vectors[0])
    assert together == [similarity(vector[None], vectors[0])[0] for vector in vectors]
    assert together[0] == 1
