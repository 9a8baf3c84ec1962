"""`python -m app augment`: a folder, tar or zip to look-alikes; whatever happens between, the same bytes at the end."""

from __future__ import annotations

import base64
import io
import json
import os
import pty
import signal
import subprocess
import sys
import tarfile
import termios
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.__main__ import main
from app.batch.archives import open_source
from app.batch.job import seed_of
from app.batch.output import Output
from app.core import formats
from app.runtime.manifest import read_manifest
from app.settings import Settings
from tests.patience import until

ROOT = Path(__file__).parents[3]
OPTIONS = ["--count", "2", "--seed", "5"]
UNENDING = """
import asyncio, sys
from app.__main__ import main
from app.batch import command

genuine = command.make

async def make(service, name, *rest):
    if name == "e.jpg":
        await asyncio.Event().wait()
    return await genuine(service, name, *rest)

command.make = make
sys.exit(main(sys.argv[1:]))
"""
"""The command, with a photograph that is never done: it runs until it is stopped."""


@pytest.fixture(autouse=True)
def _on_one_cpu_thread(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"DEVICE": "cpu", "THREADS": "1", "BATCH_SIZES": "1,2"}.items():
        monkeypatch.setenv(f"LOOKALIKE_{name}", value)


@pytest.fixture(scope="module")
def photographs(portrait: Image.Image) -> dict[str, bytes]:
    """Five photographs of a face by name, one in a folder below."""
    found = {}
    for number, name in enumerate(["c.jpg", "a.png", "below/b.webp", "below/ü d.JPEG", "e.jpg"]):
        pixels = np.clip(np.asarray(portrait) * (1 - 0.08 * number), 0, 255).astype(np.uint8)
        output = io.BytesIO()
        form = {"jpg": "JPEG", "JPEG": "JPEG"}.get(name.partition(".")[2], name.partition(".")[2].upper())
        Image.fromarray(pixels[: 300 + number, 100:400]).save(output, form)
        found[name] = output.getvalue()
    return found


@pytest.fixture
def folder(tmp_path: Path, photographs: dict[str, bytes]) -> Path:
    return fill(tmp_path / "in", photographs)


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def tar_of(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def run(source: Path, target: Path, *options: str) -> int:
    return main(["augment", str(source), str(target), *OPTIONS, *options])


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


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


def test_archives_give_what_the_folder_gives(folder: Path, tmp_path: Path, photographs: dict[str, bytes]):
    assert run(folder, tmp_path / "folder") == 0
    ordered = dict(sorted(photographs.items()))
    for source in (
        zip_of(tmp_path / "in.zip", ordered),
        tar_of(tmp_path / "in.tar.gz", {f"./{name}": data for name, data in ordered.items()}),
    ):
        assert run(source, tmp_path / source.suffix) == 0
        assert tree(tmp_path / source.suffix) == tree(tmp_path / "folder")


def test_what_a_photograph_gives_does_not_depend_on_the_others(folder: Path, tmp_path: Path):
    assert run(folder, tmp_path / "all") == 0
    alone = fill(tmp_path / "alone", {"e.jpg": (folder / "e.jpg").read_bytes()})
    assert run(alone, tmp_path / "one") == 0
    every = tree(tmp_path / "all")
    assert all(every[name] == data for name, data in tree(tmp_path / "one").items() if name.endswith(".jpg"))


def test_bad_files_are_reported_and_skipped(folder: Path, tmp_path: Path, landscape: bytes, capfd):
    fill(
        folder, {"bad.jpg": b"not a picture", "b/half.jpg": (folder / "c.jpg").read_bytes()[:2000], "no.jpg": landscape}
    )
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert run(folder, tmp_path / "out") == 1
    assert {row["source"]: row["problem"] for row in lines(tmp_path / "out/skipped.jsonl")} == {
        "bad.jpg": "not-an-image",
        "b/half.jpg": "not-an-image",
        "gone.png": "refused",
        "no.jpg": "no-face",
    }
    assert {row["source"] for row in lines(tmp_path / "out/manifest.jsonl")}.isdisjoint({"bad.jpg", "no.jpg"})
    said = capfd.readouterr()
    assert "skipped bad.jpg: The bytes are not a picture." in said.err
    assert "5 photographs used, 10 images" in said.out
    assert "4 skipped" in said.out
    assert run(folder, tmp_path / "out") == 1
    assert len(lines(tmp_path / "out/skipped.jsonl")) == 4


def test_photographs_by_any_name_and_behind_links(folder: Path, tmp_path: Path, portrait: Image.Image):
    pytest.importorskip("pillow_heif").register_heif_opener()
    elsewhere = fill(tmp_path / "elsewhere", {"g.jpg": (folder / "c.jpg").read_bytes()})
    (folder / "linked").symlink_to(elsewhere)
    names = {"b.jfif": "JPEG", "d.heic": "HEIF", "e.tif": "TIFF", "f.avif": "AVIF", "no-suffix": "PNG", "h.gif": "GIF"}
    for name, form in names.items():
        portrait.save(folder / name, form)
    assert run(folder, tmp_path / "out", "--count", "1") == 0
    used = {row["source"]: row for row in lines(tmp_path / "out/manifest.jsonl")}
    assert set(names) | {"linked/g.jpg", "c.jpg"} <= set(used)
    assert used["linked/g.jpg"]["label"] == "linked"


def test_what_cannot_be_followed_or_read_is_listed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "below/around").symlink_to(folder)
    fill(folder, {"d.heic": b"\0\0\0\x18ftypheic" + bytes(16)})
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    formats._heif.cache_clear()
    try:
        assert run(folder, tmp_path / "out") == 1
    finally:
        formats._heif.cache_clear()
    skipped = {row["source"]: row["detail"] for row in lines(tmp_path / "out/skipped.jsonl")}
    assert skipped == {
        "below/around": "It is a link to a folder that it lies in.",
        "d.heic": "It is a HEIC picture; to read those: pip install 'lookalike[heif]'.",
    }


def test_a_folder_that_cannot_be_read_is_listed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    whole = Path.iterdir

    def iterdir(path: Path):
        if path.name == "below":
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with open_source(folder) as photographs:
        assert [(entry.name, entry.refusal) for entry in photographs if entry.refusal] == [
            ("below", "The folder cannot be read (Permission denied).")
        ]


def test_a_changed_photograph_is_used_anew(folder: Path, tmp_path: Path, photographs: dict[str, bytes]):
    out = tmp_path / "out"
    assert run(folder, out) == 0
    fill(folder, {"below/b.webp": photographs["e.jpg"], "c.jpg": b"no picture any more"})
    assert run(folder, out) == 1
    assert {row["source"] for row in lines(out / "skipped.jsonl")} == {"c.jpg"}
    assert not list((out / "images/c.jpg").iterdir())
    (folder / "c.jpg").unlink()
    assert run(folder, tmp_path / "fresh") == 0
    fresh, again = tree(tmp_path / "fresh"), tree(out)
    assert {name: data for name, data in again.items() if name.endswith(".jpg")} == {
        name: data for name, data in fresh.items() if name.endswith(".jpg")
    }
    for name in ("manifest.jsonl", "images/metadata.jsonl"):
        assert sorted(again[name].splitlines()) == sorted(fresh[name].splitlines())


def test_a_changed_photograph_in_a_shard_is_listed(folder: Path, tmp_path: Path, photographs: dict[str, bytes]):
    assert run(folder, tmp_path / "out", "--layout", "webdataset") == 0
    before = (tmp_path / "out/shards/000000.tar").read_bytes()
    fill(folder, {"c.jpg": photographs["e.jpg"]})
    assert run(folder, tmp_path / "out", "--layout", "webdataset") == 1
    (row,) = lines(tmp_path / "out/skipped.jsonl")
    assert (row["source"], row["problem"]) == ("c.jpg", "changed")
    assert (tmp_path / "out/shards/000000.tar").read_bytes() == before


@pytest.mark.parametrize("emptied", [True, False])
def test_a_lost_image_is_made_again(folder: Path, tmp_path: Path, emptied: bool):
    assert run(folder, tmp_path / "out") == 0
    before = tree(tmp_path / "out")
    lost = tmp_path / "out/images/below/b.webp-0001.jpg"
    lost.unlink()
    if emptied:
        lost.touch()
    assert run(folder, tmp_path / "out") == 0
    after = tree(tmp_path / "out")
    assert after["images/below/b.webp-0001.jpg"] == before["images/below/b.webp-0001.jpg"]
    assert sorted(after["manifest.jsonl"].splitlines()) == sorted(before["manifest.jsonl"].splitlines())


def test_of_two_runs_in_one_folder_the_second_refuses(folder: Path, tmp_path: Path, capsys):
    assert run(folder, tmp_path / "out") == 0
    before = tree(tmp_path / "out")
    with Output(tmp_path / "out").locked():
        assert run(folder, tmp_path / "out") == 2
    assert f"{tmp_path / 'out'}: another run is at work in it" in capsys.readouterr().err
    assert tree(tmp_path / "out") == before
    assert run(folder, tmp_path / "out") == 0


def test_names_never_command_the_terminal(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    names = ["clear\x1b[2J.jpg", "c1\x9b31m.jpg", "line\nlookalike: all is well.jpg", "turned\u202egpj.exe.jpg"]
    fill(folder, dict.fromkeys(names, b"no picture"))
    assert run(folder, tmp_path / "out", "--count", "1") == 1
    assert main(["augment", str(tmp_path / "none\x1b[31m"), str(tmp_path / "other")]) == 2
    with pytest.raises(SystemExit):
        main(["augment", "in", "out", "\x1b[31m"])
    said = capfd.readouterr()
    printed = said.out + said.err
    assert not [
        character for character in printed if unicodedata.category(character) in ("Cc", "Cf") and character != "\n"
    ]
    assert not any(line.startswith("lookalike: all is well") for line in printed.splitlines())
    assert "skipped clear\\x1b[2J.jpg: " in printed
    assert "skipped line\\nlookalike: all is well.jpg: " in printed


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


def test_a_program_can_read_what_came_of_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    fill(folder, {"bad.jpg": b"no picture"})
    assert run(folder, tmp_path / "out", "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"used": 5, "images": 10, "short": 0, "skipped": 1}


@pytest.mark.parametrize(
    ("signal_", "status", "torn"),
    [(signal.SIGKILL, -signal.SIGKILL, False), (signal.SIGKILL, -signal.SIGKILL, True), (signal.SIGINT, 130, False)],
    ids=["killed", "killed in the middle of a line", "stopped by Ctrl-C"],
)
def test_a_stopped_run_goes_on_to_the_same_bytes(
    folder: Path, tmp_path: Path, signal_: signal.Signals, status: int, torn: bool
):
    fill(folder, {"bad.jpg": b"not a picture"})
    assert run(folder, tmp_path / "whole") == 1
    killed = tmp_path / "killed"
    manifest = killed / "manifest.jsonl"
    process = subprocess.Popen([sys.executable, "-c", UNENDING, "augment", folder, killed, *OPTIONS], cwd=ROOT)

    def check_alive() -> None:
        assert process.poll() is None

    until(lambda: manifest.exists() and manifest.read_bytes().count(b"\n") == 8, "four were done", check_alive)
    process.send_signal(signal_)
    assert process.wait() == status
    assert tree(killed) != tree(tmp_path / "whole")
    if torn:
        manifest.write_bytes(manifest.read_bytes()[:-7])
    finished = {path for path in tree(killed) if path.startswith("images/a.png")}
    times = {path: (killed / path).stat().st_mtime_ns for path in finished}
    assert run(folder, killed) == 1
    assert tree(killed) == tree(tmp_path / "whole")
    assert finished
    assert {path: (killed / path).stat().st_mtime_ns for path in finished} == times


def test_a_finished_run_stays_what_it_is(folder: Path, tmp_path: Path):
    assert run(folder, tmp_path / "out") == 0
    before = tree(tmp_path / "out")
    assert run(folder, tmp_path / "out") == 0
    assert tree(tmp_path / "out") == before
    fill(folder, {"added.jpg": (folder / "c.jpg").read_bytes()})
    assert run(folder, tmp_path / "out") == 0
    assert len(lines(tmp_path / "out/manifest.jsonl")) == 12


def test_the_output_may_lie_inside_the_input(folder: Path):
    assert run(folder, folder / "out") == 0
    assert run(folder, folder / "out") == 0
    assert len(lines(folder / "out/manifest.jsonl")) == 10


def test_unsafe_names_are_refused(tmp_path: Path, photographs: dict[str, bytes], capfd):
    photo = photographs["c.jpg"]
    unsafe = ["../up.jpg", "/tmp/absolute.jpg", "a/../../up.jpg", "C:/drive.jpg", "back\\slash.jpg", f"{'n' * 250}.jpg"]
    files = {"good.jpg": photo} | dict.fromkeys(unsafe, photo)
    for kind, source in {
        "zip": zip_of(tmp_path / "in.zip", files),
        "tar": tar_of(tmp_path / "in.tar", files, "w"),
    }.items():
        before = {path for path in tmp_path.rglob("*") if kind not in path.parts}
        assert run(source, tmp_path / kind) == 1
        assert [row["problem"] for row in lines(tmp_path / kind / "skipped.jsonl")] == ["refused"] * len(unsafe)
        assert {row["source"] for row in lines(tmp_path / kind / "manifest.jsonl")} == {"good.jpg"}
        assert {path for path in tmp_path.rglob("*") if kind not in path.parts} == before
        assert not Path("/tmp/absolute.jpg").exists()
    capfd.readouterr()


def test_links_and_names_that_are_taken(tmp_path: Path, photographs: dict[str, bytes]):
    photo = photographs["c.jpg"]
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        for name in ("a.jpg", "a.jpg", "a.jpg/0000.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(photo)
            archive.addfile(info, io.BytesIO(photo))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert run(tmp_path / "in.tar", tmp_path / "out") == 1
    skipped = lines(tmp_path / "out/skipped.jsonl")
    assert [row["source"] for row in skipped] == ["a.jpg", "a.jpg/0000.jpg", "link.jpg"]
    assert [row["source"] for row in lines(tmp_path / "out/manifest.jsonl")] == ["a.jpg"] * 2
    assert run(tmp_path / "in.tar", tmp_path / "out") == 1
    assert lines(tmp_path / "out/skipped.jsonl") == skipped


def test_a_damaged_archive_is_used_as_far_as_it_goes(tmp_path: Path, photographs: dict[str, bytes]):
    whole = tar_of(tmp_path / "in.tar", {"a.jpg": photographs["c.jpg"], "b.jpg": photographs["e.jpg"]}, "w")
    whole.write_bytes(whole.read_bytes()[: -(10240 + 2000)])
    assert run(whole, tmp_path / "out") == 1
    assert {row["source"] for row in lines(tmp_path / "out/manifest.jsonl")} == {"a.jpg"}
    assert [row["source"] for row in lines(tmp_path / "out/skipped.jsonl")] == ["b.jpg", ""]


def test_too_many_bytes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fill(folder, {"large.png": bytes(2**20)})
    zip_of(tmp_path / "in.zip", {"large.png": bytes(2**20), "c.jpg": (folder / "c.jpg").read_bytes()})
    monkeypatch.setenv("LOOKALIKE_MAX_BYTES", str(2**20 - 1))
    assert run(tmp_path / "in.zip", tmp_path / "out") == 1
    (row,) = lines(tmp_path / "out/skipped.jsonl")
    assert row["source"] == "large.png"
    assert "at most 1048575" in row["detail"]


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
