"""Glasses: faces of which one knows who wears them, drawn by decoders of which one knows what they do."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest

from model_export.evaluation import glasses
from model_export.evaluation.metrics import Intervals

COUNT = 40
WORN = np.arange(COUNT) % 3 == 0


@pytest.fixture
def faces():
    pictures = np.random.default_rng(0).integers(90, 180, (COUNT, 128, 128, 3), np.uint8)
    pictures[WORN, 30:44, 20:108] = 10
    return pictures


@pytest.fixture(autouse=True)
def labels(tmp_path, monkeypatch):
    path = tmp_path / "labels.csv"
    lines = ["file,glasses", *(f"{row}.jpg,{int(worn)}" for row, worn in enumerate(WORN)), "unknown.jpg,1"]
    path.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(glasses, "labelled", lambda names, read=glasses.labelled: read(names, path))


def sample_of(faces, drawn):
    looks = SimpleNamespace(describe=lambda pictures: (pictures[:, ::8, ::8].reshape(len(pictures), -1) / 255, None))
    return SimpleNamespace(
        test=SimpleNamespace(names=[f"{row}.jpg" for row in range(len(faces))], faces=faces),
        studio=SimpleNamespace(encode=lambda _: None, decode=lambda *_: (drawn, None)),
        looks=looks,
        intervals=Intervals(20, 0),
        settings=SimpleNamespace(seed=0),
    )


def test_glasses_that_are_drawn_as_seen_agree(faces):
    found = glasses.measure(sample_of(faces, faces))["glasses"]
    assert (found["faces"], found["with_glasses"]) == (COUNT, WORN.sum())
    assert found["photographs_agree"]["value"] == found["redrawn_agree"]["value"] == 1
    assert found["redrawn_made_up"]["value"] == 0


def test_glasses_that_are_taken_off_or_made_up_do_not(faces):
    bare, everybody = faces.copy(), faces.copy()
    bare[WORN, 30:44, 20:108] = faces[~WORN][: WORN.sum(), 30:44, 20:108]
    everybody[:, 30:44, 20:108] = 10
    lost = glasses.measure(sample_of(faces, bare))["glasses"]
    assert lost["redrawn_kept"]["value"] == 0
    assert lost["redrawn_agree"]["value"] == pytest.approx((~WORN).mean())
    assert not lost["redrawn_agree"]["met"]
    assert glasses.measure(sample_of(faces, everybody))["glasses"]["redrawn_made_up"]["value"] == 1


def test_a_set_without_labelled_faces_has_no_figure(faces):
    sample = sample_of(faces, faces)
    sample.test.names = [f"other-{row}.jpg" for row in range(COUNT)]
    assert glasses.measure(sample) == {}


def test_labels_name_faces_once():
    with glasses.LABELS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["file"] for row in rows}) == len(rows) > 300
    assert {row["glasses"] for row in rows} == {"0", "1"}
