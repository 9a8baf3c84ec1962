"""Counters of several workers: their folder goes with the server, or with the next one where it was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.telemetry import metrics
from app.telemetry.metrics import SHARED
from app.telemetry.shared import PREFIX, metrics_folder

HOLD = """
import sys
from app.telemetry.shared import metrics_folder
with metrics_folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def other(place: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another server on this machine, and its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        env=os.environ | {"TMPDIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.communicate()


def test_after_a_reload_the_model_of_before_is_not_served_any_more(tmp_path: Path) -> None:
    code = """
from app.telemetry.metrics import Metrics
metrics = Metrics()
for version in ("1.0.0", "1.1.0"):
    metrics.model("lookalike", version, "cpu")
print(metrics.text().decode())
"""
    for more in ({}, {SHARED: str(tmp_path)}):
        text = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env=os.environ | more,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        series = [line for line in text.splitlines() if line.startswith("lookalike_model_info")]
        assert [line.split()[-1] for line in series if '"1.1.0"' in line] == ["1.0"]
        assert {line.split()[-1] for line in series if '"1.0.0"' in line} <= {"0.0"}


def test_two_processes_that_are_asked_at_once_forget_the_dead_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [tmp_path / f"gauge_{mode}_{ended.pid}.db" for mode in ("livesum", "livemax")]
    for file in left:
        file.write_bytes(b"")
    remove = os.remove

    def remove_after_the_other(path: str) -> None:
        remove(path)
        remove(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "remove", remove_after_the_other)
        metrics._forget_the_dead(tmp_path)
    assert not any(file.exists() for file in left)


def test_the_folder_goes_with_the_server(place: Path) -> None:
    with metrics_folder() as folder:
        assert folder.parent == place
        (folder / "counter_1.db").write_bytes(b"x")
    assert list(place.iterdir()) == []


def test_the_next_start_removes_what_a_killed_server_left(
    place: Path, other: tuple[subprocess.Popen[str], Path]
) -> None:
    process, left = other
    (left / "counter_1.db").write_bytes(b"x")
    process.kill()
    process.wait()
    assert left.exists(), "nobody was there to remove it"
    with metrics_folder() as folder:
        assert list(place.iterdir()) == [folder]


def test_a_server_that_lives_keeps_its_folder(place: Path, other: tuple[subprocess.Popen[str], Path]) -> None:
    _, living = other
    with metrics_folder() as folder:
        assert set(place.iterdir()) == {folder, living}
    assert list(place.iterdir()) == [living]


def test_what_is_not_ours_is_left_alone(place: Path) -> None:
    only_just = place / f"{PREFIX}made"
    only_just.mkdir()
    (place / f"{PREFIX}file").write_text("")
    with metrics_folder() as folder:
        assert set(place.iterdir()) == {folder, only_just, place / f"{PREFIX}file"}
