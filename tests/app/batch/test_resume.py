"""`python -m app augment` in a folder that it was in before: whatever happened between, the same bytes at the end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.batch.output import Output
from tests.app.batch.folders import OPTIONS, ROOT, fill, lines, run, tree
from tests.patience import until

UNENDING = """
import asyncio, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job would ignore
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


@pytest.mark.parametrize("layout", ["person", "webdataset"])
def test_a_photograph_that_is_gone_is_listed(folder: Path, tmp_path: Path, layout: str):
    out = tmp_path / "out"
    assert run(folder, out, "--layout", layout) == 0
    before = tree(out)
    (folder / "c.jpg").unlink()
    assert run(folder, out, "--layout", layout) == 1
    (row,) = lines(out / "skipped.jsonl")
    assert (row["source"], row["problem"]) == ("c.jpg", "gone")
    assert {name: data for name, data in tree(out).items() if name != "skipped.jsonl"} == {
        name: data for name, data in before.items() if name != "skipped.jsonl"
    }


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


def test_a_link_in_the_place_of_a_photograph_leaves_its_images(folder: Path, tmp_path: Path):
    assert run(folder, tmp_path / "out") == 0
    before = tree(tmp_path / "out")
    (folder / "c.jpg").unlink()
    (folder / "c.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert run(folder, tmp_path / "out") == 1
    (row,) = lines(tmp_path / "out/skipped.jsonl")
    assert (row["source"], row["problem"]) == ("c.jpg", "refused")
    assert tree(tmp_path / "out") == before | {"skipped.jsonl": (tmp_path / "out/skipped.jsonl").read_bytes()}


@pytest.mark.parametrize("name", ["run.json", "manifest.jsonl"])
def test_a_file_that_is_no_text_any_more_is_told(
    folder: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    assert run(folder, tmp_path / "out", "--count", "1") == 0
    data = (tmp_path / "out" / name).read_bytes()
    (tmp_path / "out" / name).write_bytes(b"\xff\xff" + data[2:])
    assert run(folder, tmp_path / "out", "--count", "1") == 2
    assert f"{name}: damaged; name a new folder" in capsys.readouterr().err
