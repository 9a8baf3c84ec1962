"""Opening a prepared set."""

import csv
import json

import numpy as np
import pytest

from model_export.preparing.dataset import FaceSet

ROWS = [
    {"file": "a.jpg", "split": "train", "age": "31", "gender": "male", "group": "white", "grey": "0", "cluster": "0"},
    {"file": "b.jpg", "split": "train", "age": "", "gender": "", "group": "", "grey": "1", "cluster": "1"},
    {"file": "c.jpg", "split": "train", "age": "64.5", "gender": "female", "group": "", "grey": "0", "cluster": "0"},
    {"file": "d.jpg", "split": "test", "age": "20", "gender": "female", "group": "asian", "grey": "0", "cluster": "2"},
]


def write_set(folder, rows=ROWS, count=None):
    chance = np.random.default_rng(0)
    count = len(rows) if count is None else count
    np.save(folder / "faces.npy", chance.integers(0, 256, (count, 128, 128, 3), np.uint8))
    for name in ("embeddings", "embeddings_mirrored"):
        np.save(folder / f"{name}.npy", chance.normal(size=(count, 192)).astype(np.float32))
    with (folder / "faces.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["row", *rows[0]])
        writer.writeheader()
        writer.writerows({"row": number, **row} for number, row in enumerate(rows))
    (folder / "report.json").write_text(json.dumps({"kept": count}))
    return folder


def test_each_side_holds_its_own_faces_and_everything_that_goes_with_them(tmp_path):
    write_set(tmp_path)
    train, test = FaceSet.open(tmp_path, "train"), FaceSet.open(str(tmp_path), "test")
    assert (len(train), len(test)) == (3, 1)
    assert train.names == ["a.jpg", "b.jpg", "c.jpg"]
    assert test.names == ["d.jpg"]
    for name in ("faces", "embeddings", "embeddings_mirrored"):
        whole = np.load(tmp_path / f"{name}.npy")
        assert np.array_equal(getattr(train, name), whole[:3])
        assert np.array_equal(getattr(test, name), whole[3:])


def test_labels_are_numbers_with_nan_and_minus_one_for_unknown(tmp_path):
    train = FaceSet.open(write_set(tmp_path), "train")
    assert train.gender_names == ("female", "male")
    assert train.group_names == ("asian", "white")  # of both sides, so that the numbers agree
    assert np.array_equal(train.ages, np.array([31, np.nan, 64.5], np.float32), equal_nan=True)
    assert train.genders.tolist() == [1, -1, 0]
    assert train.groups.tolist() == [1, -1, -1]
    assert train.grey.tolist() == [False, True, False]
    assert train.clusters.tolist() == [0, 1, 0]


def test_what_only_newer_sets_tell_is_unknown_of_an_older_one(tmp_path):
    train = FaceSet.open(write_set(tmp_path), "train")
    assert np.isnan(train.turns).all()
    assert np.isnan(train.channel_differences).all()
    assert train.weights.tolist() == [1, 1, 1]
    assert not train.estimated.any()
    assert (train.source_names, train.sources.tolist()) == ((), [-1, -1, -1])


def test_sources_turns_and_weights_are_read_where_they_stand(tmp_path):
    more = [
        {"source": "utk", "turn": "0.12", "weight": "0.5", "channel_difference": "1.5", "estimated": ""},
        {"source": "celeba", "turn": "0.55", "weight": "1.5", "channel_difference": "31", "estimated": "age group"},
        {"source": "utk", "turn": "0", "weight": "1", "channel_difference": "40", "estimated": "gender"},
        {"source": "scut", "turn": "0.3", "weight": "1", "channel_difference": "40", "estimated": ""},
    ]
    train = FaceSet.open(
        write_set(tmp_path, [{**row, **extra} for row, extra in zip(ROWS, more, strict=True)]), "train"
    )
    assert train.source_names == ("celeba", "scut", "utk")
    assert train.sources.tolist() == [2, 0, 2]
    assert train.turns.tolist() == pytest.approx([0.12, 0.55, 0])
    assert train.weights.tolist() == [0.5, 1.5, 1]
    assert train.channel_differences.tolist() == [1.5, 31, 40]
    assert train.estimated.tolist() == [[False, False, False], [True, False, True], [False, True, False]]


def test_without_a_side_both_are_opened_train_first(tmp_path):
    assert FaceSet.open(write_set(tmp_path)).names == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


def test_the_faces_stay_on_disk_and_cannot_be_changed(tmp_path):
    train = FaceSet.open(write_set(tmp_path), "train")
    assert isinstance(train.faces, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        train.faces[0] = 0


def test_a_folder_that_is_not_finished_is_refused(tmp_path):
    (write_set(tmp_path) / "report.json").unlink()
    with pytest.raises(FileNotFoundError, match="model_export prepare"):
        FaceSet.open(tmp_path, "train")


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match="differ in length"):
        FaceSet.open(write_set(tmp_path, count=3), "train")


def test_a_table_with_the_sides_mixed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="train first"):
        FaceSet.open(write_set(tmp_path, rows=ROWS[::-1]), "train")
