"""Pictures and their table out of folders and archives."""

import io
import tarfile
import zipfile

import pytest
from PIL import Image

from model_export.preparing.cutting import UnusablePicture
from model_export.preparing.pictures import Pictures, SourceError


def picture(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "JPEG")
    return buffer.getvalue()


FILES = {
    "b.jpg": picture("blue"),
    "deep/er/a.jpg": picture("red"),
    ".hidden/c.jpg": picture("green"),
    "deep/.DS_Store": b"no",
    "deep/labels.csv": b"other",
    "labels.csv": b"file",
    "notes.txt": b"no picture",
}


def as_folder(path):
    for name, data in FILES.items():
        (path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "set" / name).write_bytes(data)
    return path / "set"


def as_tar(path, mode="w", suffix="tar"):
    with tarfile.open(path / f"set.{suffix}", mode) as archive:
        for name, data in FILES.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        archive.addfile(tarfile.TarInfo("../outside.jpg"))
    return path / f"set.{suffix}"


def as_zip(path):
    with zipfile.ZipFile(path / "set.zip", "w") as archive:
        archive.mkdir("deep")
        for name, data in FILES.items():
            archive.writestr(name, data)
    return path / "set.zip"


@pytest.mark.parametrize(
    "make", [as_folder, as_tar, lambda path: as_tar(path, "w:gz", "tar.gz"), as_zip], ids=["folder", "tar", "gz", "zip"]
)
def test_every_kind_lists_its_pictures_and_finds_its_table(tmp_path, make):
    with Pictures(make(tmp_path)) as pictures:
        names = [name for name in pictures.names if "outside" not in name]
        assert names == ["b.jpg", "deep/er/a.jpg"]
        assert [pictures.read(name) for name in reversed(names)] == [FILES[name] for name in reversed(names)]
        name, table = pictures.table()
        assert (name.removeprefix("./"), table) == ("labels.csv", b"file")


def test_a_name_that_points_outside_is_no_picture_and_is_never_written(tmp_path):
    with Pictures(as_tar(tmp_path)) as pictures, pytest.raises(UnusablePicture, match="unreadable"):
        pictures.read("../outside.jpg")
    assert not (tmp_path.parent / "outside.jpg").exists()


def test_the_outermost_table_is_that_in_the_fewest_folders(tmp_path):
    for name in ("x/y/labels.csv", "a-folder-of-a-long-name/labels.csv", "a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    with Pictures(tmp_path) as pictures:
        assert pictures.table() == ("a-folder-of-a-long-name/labels.csv", b"a-folder-of-a-long-name/labels.csv")


def test_a_table_that_cannot_be_read_is_told(tmp_path):
    damaged = bytearray(as_zip(tmp_path).read_bytes())
    damaged[damaged.index(b"labels.csv" + FILES["labels.csv"]) + len("labels.csv")] ^= 1
    (tmp_path / "set.zip").write_bytes(damaged)
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        entry = tarfile.TarInfo("labels.csv")
        entry.type, entry.linkname = tarfile.SYMTYPE, "nowhere.csv"
        archive.addfile(entry)
    for name in ("set.zip", "set.tar"):
        with (
            Pictures(tmp_path / name) as pictures,
            pytest.raises(SourceError, match=r"labels.csv in it cannot"),
        ):
            pictures.table()


def test_a_picture_that_is_gone_is_unusable(tmp_path):
    with Pictures(as_folder(tmp_path)) as pictures, pytest.raises(UnusablePicture, match="unreadable"):
        pictures.read("gone.jpg")


def test_no_table_is_none(tmp_path):
    (tmp_path / "a.jpg").write_bytes(FILES["b.jpg"])
    with Pictures(tmp_path) as pictures:
        assert pictures.table() is None


@pytest.mark.parametrize("data", [b"", b"not an archive at all" * 100])
def test_anything_else_is_refused(tmp_path, data):
    (tmp_path / "thing").write_bytes(data)
    with pytest.raises(SourceError, match="neither a folder nor a tar or zip"):
        Pictures(tmp_path / "thing")


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(SourceError, match="missing"):
        Pictures(tmp_path / "missing")


def test_an_archive_that_was_cut_short_says_so(tmp_path):
    whole = as_tar(tmp_path, "w:gz", "tar.gz").read_bytes()
    (tmp_path / "short.tar.gz").write_bytes(whole[:-40])
    with pytest.raises(SourceError, match="damaged after"):
        Pictures(tmp_path / "short.tar.gz")
