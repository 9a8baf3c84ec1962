"""A set in small parts."""

import csv
import json

import numpy as np
import pytest
from skimage import data, transform

from model_export.preparing.dataset import FaceSet
from model_export.preparing.packing import decode, encode, pack, unpack

COUNT = 40


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A prepared set of 40 crops of a photograph, no two alike."""
    folder = tmp_path_factory.mktemp("packing") / "prepared"
    folder.mkdir()
    chance = np.random.default_rng(0)
    photograph = (transform.resize(data.astronaut(), (256, 256)) * 255).astype(np.uint8)
    corners = chance.integers(0, 128, (COUNT, 2))
    np.save(folder / "faces.npy", np.stack([photograph[y : y + 128, x : x + 128] for y, x in corners]))
    for name in ("embeddings", "embeddings_mirrored"):
        vectors = chance.normal(size=(COUNT, 192))
        np.save(folder / f"{name}.npy", (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    with (folder / "faces.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("row", "file", "split", "age", "gender", "group", "grey", "cluster", "source", "weight"))
        for row in range(COUNT):
            side = "train" if row < 30 else "test"
            writer.writerow((row, f"one/{row}, of Zürich.jpg", side, 20 + row, "male", "", 0, row, "one", 1.5))
    (folder / "report.json").write_text(json.dumps({}))
    return folder


@pytest.fixture(scope="module")
def parts(prepared, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed")
    pack(prepared, out, part_bytes=150_000)
    return out


def test_no_part_is_larger_than_asked_and_none_nearly_empty(parts):
    sizes = [path.stat().st_size for path in sorted(parts.iterdir())]
    assert len(sizes) > 2
    assert max(sizes) <= 150_000
    assert min(sizes[:-1]) > 100_000


def test_a_packed_set_opens_as_the_set_it_was(prepared, parts):
    for side in ("train", "test"):
        was, now = FaceSet.open(prepared, side), FaceSet.open(parts, side)
        assert now.names == was.names
        assert np.array_equal(now.ages, was.ages)
        assert np.array_equal(now.weights, was.weights)
        error = now.faces.astype(float) - was.faces
        assert 10 * np.log10(255**2 / np.square(error).mean()) > 35
        assert np.abs(now.embeddings - was.embeddings).max() < 1e-3
        assert np.abs(now.embeddings_mirrored - was.embeddings_mirrored).max() < 1e-3
        assert np.linalg.norm(now.embeddings, axis=1) == pytest.approx(1, abs=1e-5)


def test_file_names_may_have_several_lines(prepared, tmp_path):
    for path in prepared.glob("*.npy"):
        (tmp_path / path.name).symlink_to(path)
    table = (prepared / "faces.csv").read_text(encoding="utf-8").replace('"one/3, of', '"one/3\n, "" \r of')
    (tmp_path / "faces.csv").write_bytes(table.encode())
    (tmp_path / "report.json").write_text("{}")
    pack(tmp_path, tmp_path / "parts")
    assert FaceSet.open(tmp_path / "parts").names == FaceSet.open(tmp_path).names
    assert FaceSet.open(tmp_path).names[3] == 'one/3\n, " \r Zürich.jpg'.replace("\r ", "\r of ")


def test_the_faces_of_a_packed_set_cannot_be_changed(parts):
    with pytest.raises(ValueError, match="read-only"):
        FaceSet.open(parts, "train").faces[0] = 0


def test_packing_again_replaces_the_parts(prepared, tmp_path):
    pack(prepared, tmp_path, part_bytes=120_000)
    many = len(list(tmp_path.iterdir()))
    (one,) = pack(prepared, tmp_path)
    assert list(tmp_path.iterdir()) == [one]
    assert many > 1


def test_a_missing_part_is_told(parts, tmp_path):
    names = sorted(path.name for path in parts.iterdir())
    for name in names[:-1]:
        (tmp_path / name).symlink_to(parts / name)
    with pytest.raises(FileNotFoundError, match=f"{len(names) - 1} of {len(names)} parts"):
        FaceSet.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="0 of 0 parts"):
        unpack(tmp_path / "nowhere")


def test_the_squares_of_jpeg_stand_elsewhere_in_every_face():
    """On a slope of grey, whose steps between columns are all alike before it is packed."""
    slope = np.repeat(np.linspace(30, 220, 128)[None, :, None], 128, 0).repeat(3, 2)
    noisy = np.clip(slope + np.random.default_rng(0).normal(0, 12, slope.shape), 0, 255).astype(np.uint8)
    steps = np.mean(
        [np.abs(np.diff(decode(encode(noisy, row), row).astype(float).mean(-1), axis=1)).mean(0) for row in range(64)],
        0,
    )
    by_place = np.array([steps[place::8].mean() for place in range(8)])
    assert by_place.max() / by_place.min() < 1.05
    fixed = np.abs(np.diff(decode(encode(noisy, 0), 0).astype(float).mean(-1), axis=1)).mean(0)
    fixed = np.array([fixed[place::8].mean() for place in range(8)])
    assert fixed.max() / fixed.min() > 1.05


def test_a_face_of_another_size_is_refused():
    with pytest.raises(ValueError, match="face 3"):
        decode(encode(np.zeros((64, 64, 3), np.uint8), 3), 3)
