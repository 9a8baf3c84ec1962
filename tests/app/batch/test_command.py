"""`python -m app augment`: a folder, tar or zip to look-alikes, as the same request over HTTP gives them."""

from __future__ import annotations

import base64
import io
import json
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.__main__ import main
from app.batch.job import seed_of
from app.runtime.manifest import read_manifest
from app.settings import Settings
from tests.app.batch.folders import OPTIONS, ROOT, fill, lines, run, tree
from tests.detail import with_detail


def test_a_folder(folder: Path, tmp_path: Path, photographs: dict[str, bytes], capsys: pytest.CaptureFixture[str]):
    (folder / "notes.txt").write_text("left alone")
    (folder / ".hidden.jpg").write_bytes(b"left alone")
    assert run(folder, tmp_path / "out") == 0
    assert "5 photographs used, 10 images" in capsys.readouterr().out
    rows = lines(tmp_path / "out/manifest.jsonl")
    assert [row["source"] for row in rows[::2]] == sorted(photographs)
    for row in rows:
        assert row["seed"] == seed_of(5, row["source"])
        assert len(row["control"]) == 10
        assert -1 <= row["similarity"] <= 1
        assert isinstance(row["in_band"], bool)
        data = (tmp_path / "out" / row["file"]).read_bytes()
        assert Image.open(io.BytesIO(data)).size == (128, 128)
        assert b"trainedAlgorithmicMedia" in data
    assert len({row["seed"] for row in rows}) == 5
    assert (tmp_path / "out/skipped.jsonl").read_bytes() == b""


def test_the_same_as_over_http(folder: Path, tmp_path: Path, client: TestClient):
    assert run(folder, tmp_path / "out", "--format", "png") == 0
    rows = [row for row in lines(tmp_path / "out/manifest.jsonl") if row["source"] == "c.jpg"]
    answer = client.post(
        "/v1/variants",
        content=(folder / "c.jpg").read_bytes(),
        headers={"Content-Type": "image/jpeg"},
        params={"count": 2, "seed": rows[0]["seed"], "format": "png"},
    ).json()
    for row, variant in zip(rows, answer["variants"], strict=True):
        assert row["id"] == answer["id"]
        assert row["control"] == variant["control"]
        theirs = np.asarray(Image.open(io.BytesIO(base64.b64decode(variant["image"]))), int)
        ours = np.asarray(Image.open(tmp_path / "out" / row["file"]), int)
        # Another batch may round differently.
        assert abs(theirs - ours).max() <= 1
        assert row["similarity"] == pytest.approx(variant["similarity"], abs=1e-3)


def test_what_a_photograph_gives_does_not_depend_on_the_others(folder: Path, tmp_path: Path):
    assert run(folder, tmp_path / "all") == 0
    alone = fill(tmp_path / "alone", {"e.jpg": (folder / "e.jpg").read_bytes()})
    assert run(alone, tmp_path / "one") == 0
    every = tree(tmp_path / "all")
    assert all(every[name] == data for name, data in tree(tmp_path / "one").items() if name.endswith(".jpg"))


def test_controls_by_number_and_by_name(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    name = read_manifest(Settings().models).controls[3].name
    given = json.dumps([[0] * 10, {name: 0.5}])
    assert main(["augment", str(folder), str(tmp_path / "out"), "--controls", given, "--face", "0"]) == 0
    made = lines(tmp_path / "out/manifest.jsonl")
    assert [row["control"] for row in made[:2]] == [[0.0] * 10, [0.0, 0.0, 0.0, 0.5, *[0.0] * 6]]
    assert {row["seed"] for row in made} == {None}
    assert main(["augment", str(folder), str(tmp_path / "out"), "--controls", "[[0,0,0,0,0,0,0,0,0,1]]"]) == 2
    for wrong, sentence in {
        '[{"no_such": 1}]': "--controls: There is no control 'no_such'",
        json.dumps([{name: "x"}]): "--controls",
        "[[2]]": "--controls",
        "age": "--controls: must be JSON: a list",
    }.items():
        assert main(["augment", str(folder), str(tmp_path / "new"), "--controls", wrong]) == 2
        assert sentence in capsys.readouterr().err
    options = ["--controls", json.dumps({name: 0.5}), "--count", "2"]
    assert main(["augment", str(folder), str(tmp_path / "random"), *options]) == 0
    made = lines(tmp_path / "random/manifest.jsonl")
    assert {row["control"][3] for row in made} == {0.5}
    assert len({row["control"][0] for row in made}) == len(made)
    assert None not in {row["seed"] for row in made}
    assert main(["augment", str(folder), str(tmp_path / "new"), "--face", "x"]) == 2
    assert "--face" in capsys.readouterr().err
    assert run(folder, tmp_path / "second", "--face", "1") == 1
    assert {row["problem"] for row in lines(tmp_path / "second/skipped.jsonl")} == {"face-not-found"}


def test_larger_images(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("LOOKALIKE_MODELS", str(with_detail(tmp_path / "models")))
    one = fill(tmp_path / "one", {"c.jpg": (folder / "c.jpg").read_bytes()})
    assert run(one, tmp_path / "out", "--size", "256") == 0
    assert run(one, tmp_path / "small", "--size", "128") == 0
    made, small = (lines(tmp_path / name / "manifest.jsonl") for name in ("out", "small"))
    assert [row["similarity"] for row in made] == [row["similarity"] for row in small]
    assert {Image.open(tmp_path / "out" / row["file"]).size for row in made} == {(256, 256)}
    assert {Image.open(tmp_path / "small" / row["file"]).size for row in small} == {(128, 128)}
    assert run(one, tmp_path / "small") == 0, "128 is what a run without the option has"
    assert run(one, tmp_path / "out") == 2, "another run lies there"
    capsys.readouterr()
    assert run(one, tmp_path / "new", "--size", "200") == 2
    assert "--size: There are no pictures of 200 pixels, only of 128 or 256." in capsys.readouterr().err


def test_a_program_can_read_what_came_of_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    fill(folder, {"bad.jpg": b"no picture"})
    assert run(folder, tmp_path / "out", "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"used": 5, "images": 10, "short": 0, "skipped": 1}


def test_a_search_stays_in_the_band(folder: Path, tmp_path: Path):
    assert run(folder, tmp_path / "out", "--similarity-min", "0.3", "--similarity-max", "0.95") == 0
    rows = lines(tmp_path / "out/manifest.jsonl")
    assert all(row["in_band"] and 0.3 <= row["similarity"] <= 0.95 for row in rows)
    assert run(folder, tmp_path / "none", "--similarity-min", "0.999") == 1
    assert {row["problem"] for row in lines(tmp_path / "none/skipped.jsonl")} == {"band-empty"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--count", "65"], "--count: Input should be less than or equal to 64"),
        (["--strength", "2"], "--strength"),
        (["--quality", "0"], "--quality"),
        (["--band", "lookalike", "--similarity-min", "0.1"], "give either band"),
    ],
)
def test_options_that_cannot_be(folder: Path, tmp_path: Path, options: list[str], sentence: str, capsys):
    assert run(folder, tmp_path / "out", *options) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_sources_and_targets_that_cannot_be(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(tmp_path / "nothing", tmp_path / "out") == 2
    assert run(folder / "c.jpg", tmp_path / "out") == 2
    assert "neither a folder nor a tar or zip" in capsys.readouterr().err
    fill(tmp_path / "full", {"mine.txt": b"mine"})
    assert run(folder, tmp_path / "full") == 2
    assert "is not empty" in capsys.readouterr().err
    assert tree(tmp_path / "full") == {"mine.txt": b"mine"}
    one = fill(tmp_path / "one", {"c.jpg": (folder / "c.jpg").read_bytes()})
    assert run(one, tmp_path / "out") == 0
    before = tree(tmp_path / "out")
    assert run(one, tmp_path / "out", "--strength", "0.5") == 2
    assert "another strength" in capsys.readouterr().err
    assert tree(tmp_path / "out") == before


def test_a_terminal_shows_progress(tmp_path: Path, photographs: dict[str, bytes]):
    source = fill(tmp_path / "in", {"c.jpg": photographs["c.jpg"]})
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    command = [sys.executable, "-m", "app", "augment", source, tmp_path / "out", *OPTIONS]
    process = subprocess.Popen(command, cwd=ROOT, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other side was closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait() == 0
    assert b"1/1" in shown
