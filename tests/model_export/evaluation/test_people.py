"""Whose photographs are read, and which of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from model_export.evaluation.people import person_of, read
from tests.model_export.conftest import MODELS


def test_people_are_the_folders_of_cfp_and_the_files_of_others() -> None:
    assert person_of("train/012/frontal/03.jpg") == person_of("012/train/04.jpg") == "012"
    assert person_of("images/9_1_2.jpg") == "9_1_2.jpg"


def test_cuts_are_read_a_person_at_a_time(tmp_path: Path) -> None:
    faces = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 3)).astype(np.uint8)
    np.save(tmp_path / "000000.faces.npy", faces)
    np.save(tmp_path / "000000.embeddings.npy", np.arange(5, dtype=np.float32)[:, None])
    rows = {"b/2.jpg": 0, "a/1.jpg": 1, "b/1.jpg": 2, "a/3.jpg": 3, "a/2.jpg": 4, "c/1.jpg": None}
    entries = [{"file": file} | ({} if row is None else {"row": row}) for file, row in rows.items()]
    (tmp_path / "000000.json").write_text(json.dumps(entries))
    found = read(tmp_path, tmp_path, each=2, people=10)
    assert found.people == ["a", "a", "b", "b"]
    np.testing.assert_array_equal(found.faces, faces[[1, 4, 2, 0]])
    assert found.embeddings is not None
    assert found.embeddings.ravel().tolist() == [1, 4, 2, 0]


def test_photographs_are_read_as_the_service_reads_them(tmp_path: Path) -> None:
    """Upright as their Exif says, and what is damaged is left out."""
    portrait = Image.fromarray(data.astronaut())
    lying = Image.Exif()
    lying[0x0112] = 6  # to be turned by 90 degrees clockwise
    (tmp_path / "a").mkdir()
    portrait.save(tmp_path / "a" / "2.png")
    portrait.rotate(90).save(tmp_path / "a" / "3.png", exif=lying)
    (tmp_path / "a" / "1.jpg").write_bytes(b"no picture")
    found = read(tmp_path, MODELS, each=2, people=1)
    assert (found.people, found.without) == (["a", "a"], 1)
    np.testing.assert_array_equal(*found.faces)


def test_profiles_are_left_out_and_not_whatever_lies_below_a_folder_of_that_name(tmp_path: Path) -> None:
    portrait, folder = Image.fromarray(data.astronaut()), tmp_path / "profile" / "cfp"
    for name in ("001/frontal/01.jpg", "001/profile/01.jpg"):
        (folder / name).parent.mkdir(parents=True)
        portrait.save(folder / name)
    assert read(folder, MODELS, each=1, people=1).people == ["001"]
    with pytest.raises(ValueError, match="nobody has 2 photographs"):
        read(folder, MODELS, each=2, people=1)
