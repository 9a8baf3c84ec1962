"""The command line of `model_export`."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_export.__main__ import main


@pytest.mark.parametrize(
    ("words", "why"),
    [
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
