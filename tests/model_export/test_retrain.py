"""`retrain`: the commands in their order, and none after one that failed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from model_export import __main__ as command_line
from model_export import retrain

MADE = {"prepare", "export"}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was called; nothing is done but that `prepare` and `export` make their folders."""
    return record(monkeypatch, failing="")


def record(monkeypatch: pytest.MonkeyPatch, failing: str, train: int = 280, test: int = 10) -> list[list[str]]:
    found = {"train": train, "test": test}
    called: list[list[str]] = []

    def main(words: list[str]) -> int:
        called.append(words)
        if words[0] in MADE:
            Path(words[2]).mkdir(parents=True, exist_ok=True)
        if words[0] == "prepare":
            (Path(words[2]) / "report.json").write_text(json.dumps(found))
        return 3 if words[0] == failing else 0

    monkeypatch.setattr(command_line, "main", main)
    return called


def arguments(out: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    retrain.add_arguments(parser)
    return parser.parse_args(["photographs", str(out), *more])


def test_every_step_gets_what_the_one_before_it_made(calls: list[list[str]], tmp_path: Path) -> None:
    data, trained, models, report = (str(tmp_path / name) for name in ("data", "run", "models", "report"))
    assert retrain.run(arguments(tmp_path, "--images", "500", "--start-from", "app/models", "--version", "2.0.0")) == 0
    export = ["export", trained, models, "--data", data, "--version", "2.0.0"]
    card = f"{models}/MODEL_CARD.md"
    assert calls == [
        ["prepare", "photographs", data],
        ["train", data, trained, "--start-from", "app/models", "--set", "total_images=500"],
        export,
        ["evaluate", data, models, report, "--card", card],
        [*export, "--facts", f"{report}/evaluation.json"],
    ]
    assert Path(card).read_text(encoding="utf-8") == retrain.CARD.read_text(encoding="utf-8")


def test_a_version_that_cannot_be_served_is_refused_before_anything_is_made(
    calls: list[list[str]], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="letters of Latin-1"):
        retrain.run(arguments(tmp_path, "--version", "2.0 \N{SNOWMAN}"))
    assert not calls


@pytest.mark.parametrize(("failing", "begun"), [("prepare", 1), ("train", 2), ("export", 3), ("evaluate", 4)])
def test_nothing_follows_a_step_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, begun: int
) -> None:
    calls = record(monkeypatch, failing)
    assert retrain.run(arguments(tmp_path)) == 3
    assert len(calls) == begun


def test_recipe_and_recognisers_are_for_the_training(calls: list[list[str]], tmp_path: Path) -> None:
    words = ["--recipe", "from_nothing", "--recognizer", "dlib=a.json", "--recognizer", "faceplugin=b.onnx"]
    assert retrain.run(arguments(tmp_path, *words)) == 0
    assert calls[1] == ["train", str(tmp_path / "data"), str(tmp_path / "run"), *words, "--set", "total_images=200000"]
    assert not any("--recipe" in call for call in (calls[0], *calls[2:]))


def test_a_card_that_was_written_is_kept(calls: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    card = tmp_path / "models" / "MODEL_CARD.md"
    card.write_text("ours")
    assert retrain.run(arguments(tmp_path, "--judge", "judge.onnx", "--profiles", "side")) == 0
    assert card.read_text() == "ours"
    assert calls[3][-4:] == ["--judge", "judge.onnx", "--profiles", "side"]


@pytest.mark.parametrize(
    ("found", "why"),
    [({"train": 279}, "279 faces to train on are too few; 280"), ({"test": 9}, "9 faces to test on are too few; 10")],
)
def test_too_few_faces_are_told_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: dict[str, int], why: str
) -> None:
    calls = record(monkeypatch, "", **found)
    with pytest.raises(ValueError, match=why):
        retrain.run(arguments(tmp_path))
    assert [words[0] for words in calls] == ["prepare"]


def test_sheets_of_the_run_are_not_to_be_found_among_the_photographs(calls: list[list[str]], tmp_path: Path) -> None:
    told = arguments(tmp_path / "photographs" / "run")
    told.photographs = tmp_path / "photographs"
    with pytest.raises(ValueError, match="lies among the photographs"):
        retrain.run(told)
    assert calls == []
