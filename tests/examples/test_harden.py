"""examples/harden.py: what it compares, and that a cohort of the kind helps where photographs resemble everybody's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from app.core.cohort import Cohort
from app.runtime.manifest import parse_manifest
from examples import harden


def photographs(people: int, seed: int) -> tuple[list[int], np.ndarray]:
    """Four a person; two in five of them are drawn towards one place, as bad photographs are."""
    chance = np.random.default_rng(seed)
    vectors = chance.standard_normal((people, 1, 24)) + 0.4 * chance.standard_normal((people, 4, 24))
    vectors += 4 * np.ones(24) / 24**0.5 * (chance.uniform(size=(people, 4, 1)) < 0.4)
    vectors = np.pad(vectors.reshape(-1, 24), ((0, 0), (0, 168)))
    unit = np.float32(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return np.repeat(np.arange(people), 4).tolist(), unit


def test_everybody_is_enrolled_once_and_shown_the_rest() -> None:
    people, vectors = photographs(6, 0)
    similarity, normalised = harden.compared(people, vectors, photographs(30, 1)[1])
    assert len(similarity) == len(normalised) == 6 * 18
    assert (similarity.first == similarity.second).sum() == 18
    assert similarity.scores[0] == pytest.approx(float(vectors[0] @ vectors[1]))


def test_a_folder_without_a_face_changes_no_figure() -> None:
    people, vectors = photographs(12, 0)
    cohort = photographs(30, 1)[1]
    apart = [3 * person for person in people]
    dense, gaps = (harden.rates(harden.compared(who, vectors, cohort)[0], 0.05) for who in (people, apart))
    assert gaps == dense


def test_a_cohort_of_the_kind_parts_bad_photographs() -> None:
    people, vectors = photographs(40, 0)
    before, after = (
        harden.rates(pairs, 0.01).fnmr.value for pairs in harden.compared(people, vectors, photographs(60, 1)[1])
    )
    assert after < before


def test_too_few_photographs_are_said() -> None:
    people, vectors = photographs(2, 0)
    with pytest.raises(ValueError, match="6 pairs of a person, 6 of two people"):
        harden.rates(harden.compared(people, vectors, photographs(30, 1)[1])[0], 0.01)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """What the command is given: a folder, which is not there yet, and a cohort of the service's recogniser."""
    network = parse_manifest(harden.MODELS).files["recognizer"].sha256
    Cohort(photographs(20, 1)[1], network).write(tmp_path / "cohort.npz")
    return [str(tmp_path / "people"), str(tmp_path / "cohort.npz")]


def test_the_command_prints_both(
    portrait: Image.Image, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for person, brightness in (("ada", 0.8), ("bob", 1.2)):
        (tmp_path / "people" / person).mkdir(parents=True)
        for take in range(2):
            lit = ImageEnhance.Brightness(portrait).enhance(brightness + 0.05 * take)
            lit.save(tmp_path / "people" / person / f"{take}.png")
    assert harden.main(words) == 1
    assert "too few photographs" in capsys.readouterr().err
    assert harden.main([*words, "--fmr", "2"]) == 0
    said = capsys.readouterr().out
    assert "similarity: threshold" in said
    assert "normalised: threshold" in said


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("", None, "people: No such file or directory"),
        ("ada/notes.txt", b"", "people: no face was found; it is to hold a folder for each person"),
        ("ada/0.jpg", b"no picture", "0.jpg: cannot be read (cannot identify"),
    ],
    ids=["missing", "no face", "no picture"],
)
def test_photographs_that_are_none_are_told(
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    says: str,
) -> None:
    if content is not None:
        (tmp_path / "people" / name).parent.mkdir(parents=True)
        (tmp_path / "people" / name).write_bytes(content)
    assert harden.main(words) == 2
    assert says in capsys.readouterr().err


def test_a_cohort_of_another_network_is_told(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Cohort(photographs(20, 1)[1], "another").write(tmp_path / "cohort.npz")
    assert harden.main(words) == 2
    assert "was made with another recogniser" in capsys.readouterr().err
    assert harden.main([words[0], str(tmp_path / "gone.npz")]) == 2
    assert "gone.npz: is no cohort" in capsys.readouterr().err
