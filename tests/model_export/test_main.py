"""The command line of `model_export`."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import NotAnImage
from model_export.__main__ import main
from model_export.preparing import command


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["prepare", ".", "set", "--test-faces", "-1"], "test_faces: Input should be greater than or equal to 0"),
        (["train", "nowhere", "run"], "train: nowhere"),
        (["train", "nowhere", "run", "--set", "nothing=1"], "nothing"),
        (["export", "nowhere", "out"], "nowhere"),
        (["evaluate", "nowhere", "no models", "out"], "nowhere"),
        (["showcase", "nowhere", "--page", "page"], "nowhere"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_line(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") <= 4, "no traceback"
    if words[0] == "prepare":
        assert said.count("\n") == 1


@pytest.mark.parametrize("error", [NotAnImage("It is no picture."), FloatingPointError("not finite: pixel")])
def test_what_a_command_stumbles_over_is_said_in_a_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stumble(_: object) -> int:
        raise error

    monkeypatch.setattr(command, "run", stumble)
    assert main(["prepare", "faces", "set"]) == 2
    assert capsys.readouterr().err == f"prepare: {error}\n"
