"""Reading photographs out of folders and archives."""

import io
import tarfile
import zipfile

import pytest

from model_export.preparing.sources import Source, SourceError

FILES = {
    "b.jpg": b"bee",
    "deep/er/a.jpg": b"ay",
    ".hidden/c.jpg": b"no",
    "deep/.DS_Store": b"no",
    "labels.csv": b"file",
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
def test_every_kind_lists_its_files_sorted_without_hidden_ones(tmp_path, make):
    with Source(make(tmp_path)) as source:
        names = [name for name in source.names if "outside" not in name]
        assert [name.removeprefix("./") for name in names] == ["b.jpg", "deep/er/a.jpg", "labels.csv"]
        assert [source.read(name) for name in reversed(names)] == [b"file", b"ay", b"bee"]


def test_a_name_that_points_outside_is_read_from_the_archive_and_never_written(tmp_path):
    with Source(as_tar(tmp_path)) as source:
        assert source.read("../outside.jpg") == b""
    assert not (tmp_path.parent / "outside.jpg").exists()


@pytest.mark.parametrize("data", [b"", b"not an archive at all" * 100])
def test_anything_else_is_refused(tmp_path, data):
    (tmp_path / "thing").write_bytes(data)
    with pytest.raises(SourceError, match="not a folder, a tar or a zip"):
        Source(tmp_path / "thing")


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(SourceError, match="missing"):
        Source(tmp_path / "missing")


def test_an_archive_that_was_cut_short_says_so(tmp_path):
    whole = as_tar(tmp_path, "w:gz", "tar.gz").read_bytes()
    (tmp_path / "short.tar.gz").write_bytes(whole[:-40])
    with pytest.raises(SourceError, match="cut short"):
        Source(tmp_path / "short.tar.gz")
