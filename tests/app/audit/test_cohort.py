from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.__main__ import main
from app.audit import cohort
from app.audit.collection import Studio
from app.core.cohort import check_cohort, read_cohort
from app.core.provenance import read_metadata


@pytest.fixture
def make(studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setattr(cohort, "Studio", lambda _: studio)
    return lambda *options: main(["cohort", str(tmp_path / "cohort"), *options])


def test_people_who_do_not_exist_are_a_cohort(
    make: Callable[..., int], report: Callable[..., int], studio: Studio, tmp_path: Path
) -> None:
    assert make("--count", "20") == 0
    check_cohort(tmp_path / "cohort" / "cohort.npz", studio.settings.models)
    vectors = read_cohort(tmp_path / "cohort" / "cohort.npz").embeddings
    assert vectors.shape == (20, 192)
    with Image.open(tmp_path / "cohort" / "00019.jpg") as picture:
        assert picture.size == (128, 128)
        assert read_metadata(picture).source_type.endswith("trainedAlgorithmicMedia")
    alike = vectors @ vectors.T
    assert np.median(alike[np.triu_indices(20, 1)]) < 0.3  # people, not one person
    assert make("--count", "20") == 0
    assert (read_cohort(tmp_path / "cohort" / "cohort.npz").embeddings == vectors).all()
    # The same pictures are a cohort of whatever recogniser is audited.
    assert report("--normalise", str(tmp_path / "cohort")) == 0
    told = json.loads((tmp_path / "OUT" / "report.json").read_text())["cohort"]
    assert told["members"] + told["skipped"] == 20
    assert told["members"] >= 18


def test_photographs_are_a_cohort_and_none_is_kept(
    make: Callable[..., int], people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make("--photographs", str(people)) == 0
    assert capsys.readouterr().out.startswith("28 photographs; ")
    assert [path.name for path in (tmp_path / "cohort").iterdir()] == ["cohort.npz"]
    assert len(read_cohort(tmp_path / "cohort" / "cohort.npz").embeddings) == 28


def test_a_folder_of_something_else_is_left_alone(
    make: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "thesis.txt").write_text("mine")
    assert make("--count", "2") == 2
    assert "name a new folder" in capsys.readouterr().err


def test_a_run_that_was_stopped_or_killed_is_made_again(
    make: Callable[..., int],
    studio: Studio,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(studio, "draw", stopped)
        assert make("--count", "2") == 130
    assert "lookalike: stopped; the same command begins anew." in capsys.readouterr().err
    (tmp_path / "cohort" / "cohort.npz.part").write_bytes(b"PK")
    assert make("--count", "2") == 0
    assert sorted(path.name for path in (tmp_path / "cohort").iterdir()) == ["00000.jpg", "00001.jpg", "cohort.npz"]


def test_too_few_are_told(make: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    assert make("--photographs", str(tmp_path / "in")) == 2
    assert "too few" in capsys.readouterr().err
    assert make("--photographs", str(tmp_path / "gone")) == 2
