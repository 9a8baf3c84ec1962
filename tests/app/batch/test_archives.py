"""What `python -m app augment` takes for photographs, in folders and archives, and what it refuses."""

from __future__ import annotations

import io
import sys
import tarfile
import unicodedata
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from app.__main__ import main
from app.batch.archives import DIRECTORY_BYTES, Bounds, Photograph, checked, open_source
from app.core import formats
from app.errors import Refused, SourceTooLarge
from tests.app.batch.folders import fill, lines, run, tar_of, tree, zip_of


def test_archives_give_what_the_folder_gives(folder: Path, tmp_path: Path, photographs: dict[str, bytes]):
    assert run(folder, tmp_path / "folder") == 0
    ordered = dict(sorted(photographs.items()))
    for source in (
        zip_of(tmp_path / "in.zip", ordered),
        tar_of(tmp_path / "in.tar.gz", {f"./{name}": data for name, data in ordered.items()}),
    ):
        assert run(source, tmp_path / source.suffix) == 0
        assert tree(tmp_path / source.suffix) == tree(tmp_path / "folder")


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


def test_the_output_may_lie_inside_the_input(folder: Path):
    assert run(folder, folder / "out") == 0
    assert run(folder, folder / "out") == 0
    assert len(lines(folder / "out/manifest.jsonl")) == 10


def test_what_an_earlier_run_made_is_listed(folder: Path, tmp_path: Path):
    assert run(folder, folder / "earlier") == 0
    used = {row["source"] for row in lines(folder / "earlier/manifest.jsonl")}
    assert run(folder, tmp_path / "out") == 1
    (row,) = lines(tmp_path / "out/skipped.jsonl")
    assert (row["source"], "earlier run" in row["detail"]) == ("earlier", True)
    assert {row["source"] for row in lines(tmp_path / "out/manifest.jsonl")} == used


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
    before = tree(tmp_path / "out")
    assert run(tmp_path / "in.tar", tmp_path / "out") == 1
    assert lines(tmp_path / "out/skipped.jsonl") == skipped
    assert tree(tmp_path / "out") == before, "the images of the first stay"


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


def test_a_directory_without_end_is_not_read(tmp_path: Path):
    source = zip_of(tmp_path / "in.zip", {f"{number}.txt": b"" for number in range(20)})
    with pytest.raises(SourceTooLarge, match=r"in\.zip: it has more entries than are looked at; divide it"):
        open_source(source, bounds=Bounds(entries=19)).__enter__()
    with open_source(source, bounds=Bounds(entries=20)) as photographs:
        assert not photographs
    name = "n" * (2**18 // 8 + DIRECTORY_BYTES)
    with (
        pytest.raises(SourceTooLarge, match="directory is longer"),
        open_source(zip_of(source, {f"{name}{number}": b"" for number in range(8)}), bounds=Bounds(entries=8)),
    ):
        pass


def test_a_name_may_be_no_folder_of_another():
    names = [
        "a/b.jpg/c.jpg",
        "a/b.jpg",
        "a/b.jpg/c.jpg/d.jpg",
        "a/b.jpg-2",
        "a/b",
        "a/b.jp",
        "./",
        "e/" * 2000 + "f.jpg",
    ]
    found = checked([Photograph(name, 1, lambda: None) for name in names])
    assert [entry.refusal for entry in found] == [
        "A folder of its name is itself a picture.", "", "A folder of its name is itself a picture.", "", "", "",
        "It has no name.", "",
    ]  # fmt: skip


@pytest.mark.parametrize("compression", [zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_zip_that_is_damaged_inside(tmp_path: Path, compression: int):
    with zipfile.ZipFile(tmp_path / "in.zip", "w", compression) as archive:
        archive.writestr("a.jpg", bytes(number * number % 251 for number in range(20_000)))
    whole = (tmp_path / "in.zip").read_bytes()
    for place in range(35, len(whole) - 80, len(whole) // 40):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "in.zip").write_bytes(damaged)
        with suppress(Refused), open_source(tmp_path / "in.zip") as photographs:
            for photograph in photographs:
                photograph.read(2**20)


def test_an_entry_that_lies_where_no_file_goes(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("a.jpg", b"x")
        archive.infolist()[0].header_offset = 2**63
    with open_source(tmp_path / "in.zip") as (photograph,), pytest.raises(Refused, match="cannot be read"):
        photograph.read(100)


def test_a_name_that_was_refused_is_not_taken():
    entries = [Photograph("a.jpg", 0, lambda: None, "It is a link."), *[Photograph("a.jpg", 1, lambda: None)] * 2]
    assert [entry.refusal for entry in checked(entries)] == [
        "It is a link.",
        "",
        "Its name is there twice; the first counts.",
    ]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path, form: int):
    inner = zip_of(tmp_path / "extra.zip", {"inner.jpg": b"inner"})
    with tarfile.open(tmp_path / "in.tar", "w", format=form) as archive:
        for name, data in {"ü/a.jpg": b"outer", "extra.zip": inner.read_bytes()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with open_source(tmp_path / "in.tar") as photographs:
        assert [(photograph.name, photograph.read(100)) for photograph in photographs] == [("ü/a.jpg", b"outer")]
    # What stands before a zip, as a program that unpacks it, makes no tar of it.
    (tmp_path / "in.zip").write_bytes(bytes(600) + inner.read_bytes())
    with open_source(tmp_path / "in.zip") as photographs:
        assert [photograph.name for photograph in photographs] == ["inner.jpg"]
