"""Tar files that were made to harm: what would be without end, or gigabytes, and what is out of all order."""

from __future__ import annotations

import bz2
import lzma
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from app.batch.archives import NAME_BYTES, Bounds, open_source
from app.batch.tars import HEADER_BYTES, Tar
from app.errors import Refused, SourceTooLarge, SourceUnreadable


def header(name: str = "a.jpg", size: int = 0, type_: bytes = tarfile.REGTYPE, **pax: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.pax_headers = size, type_, pax
    return info.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % tarfile.BLOCKSIZE)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_headers_without_end_are_not_looked_at(tmp_path: Path) -> None:
    source = written(tmp_path / "in.tar.bz2", bz2.compress(header() * 5000))
    assert source.stat().st_size < 2000
    with pytest.raises(SourceTooLarge, match=r"in\.tar\.bz2: it has more entries than are looked at; divide it"):
        open_source(source, bounds=Bounds(entries=100)).__enter__()
    with open_source(source, bounds=Bounds(entries=5000)) as photographs:
        assert len(photographs) == 5000


def test_several_archives_share_the_bounds(tmp_path: Path) -> None:
    bounds = Bounds(entries=5)
    source = written(tmp_path / "in.tar", header() * 3)
    with open_source(source, bounds=bounds), pytest.raises(SourceTooLarge):
        open_source(source, bounds=bounds).__enter__()


def test_what_lies_between_is_not_unpacked_for_hours(tmp_path: Path) -> None:
    source = written(tmp_path / "in.tar", header() + header("video", 2**40))
    with pytest.raises(SourceTooLarge, match="unpacked it is larger"):
        open_source(source, bounds=Bounds(unpacked=2**30)).__enter__()


def test_nothing_of_an_entry_is_kept_but_its_place(tmp_path: Path) -> None:
    files = {"a.jpg": b"first", "b.jpg": b"second"}
    data = b"".join(header(name, len(held), comment="x" * 2000) + padded(held) for name, held in files.items())
    with Tar.open(written(tmp_path / "in.tar", data)) as archive:
        assert len(list(iter(archive.next, None))) == 2
        assert not archive.members
    with open_source(tmp_path / "in.tar") as photographs:
        for photograph in (*photographs, *reversed(photographs)):
            assert photograph.read(100) == files[photograph.name]


def test_headers_of_gigabytes_are_not_read(tmp_path: Path) -> None:
    for type_ in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        long = header("x", HEADER_BYTES + 1, type_) + bytes(HEADER_BYTES + tarfile.BLOCKSIZE)
        with pytest.raises(SourceUnreadable):
            open_source(written(tmp_path / "in.tar", long + header())).__enter__()
        with open_source(written(tmp_path / "in.tar", header("good.jpg") + long + header())) as photographs:
            assert [(photograph.name, photograph.refusal) for photograph in photographs] == [
                ("good.jpg", ""),
                ("", "The archive is damaged after good.jpg: a header is too long."),
            ]


def test_headers_for_all_entries_are_passed_over(tmp_path: Path) -> None:
    info = tarfile.TarInfo.create_pax_global_header({"comment": "of git", "size": "7"})
    with open_source(written(tmp_path / "in.tar", info + header())) as photographs:
        assert [(photograph.name, photograph.size) for photograph in photographs] == [("a.jpg", 0)]


def test_a_name_longer_than_any_file_system_takes_is_refused(tmp_path: Path) -> None:
    names = ["d/" * (NAME_BYTES // 2) + "a.jpg", "d/" * 100_000 + "a.jpg", "d/" * 1000 + "a.jpg"]
    data = b"".join(header(name) for name in names)
    with open_source(written(tmp_path / "in.tar", data)) as photographs:
        assert [bool(photograph.refusal) for photograph in photographs] == [True, True, False]
        assert max(len(photograph.name) for photograph in photographs) <= NAME_BYTES + 1


def test_a_size_below_0_is_no_circle(tmp_path: Path) -> None:
    info = tarfile.TarInfo("b.jpg")
    info.size = -tarfile.BLOCKSIZE
    data = header("good.jpg") + info.tobuf(tarfile.GNU_FORMAT)
    with open_source(written(tmp_path / "in.tar", data)) as photographs:
        assert [photograph.name for photograph in photographs] == ["good.jpg", ""]


@pytest.mark.parametrize(
    "pax",
    [{"GNU.sparse.size": "x"}, {"GNU.sparse.map": "1,y"}, {"GNU.sparse.realsize": "9" * 30}],
    ids=["no size", "no map", "a size that no file has"],
)
def test_numbers_that_are_none(tmp_path: Path, pax: dict[str, str]) -> None:
    with open_source(written(tmp_path / "in.tar", header("good.jpg") + header("b.jpg", **pax))) as photographs:
        good, *others = photographs
        assert (good.name, good.refusal) == ("good.jpg", "")
        for photograph in others:
            with pytest.raises(Refused):
                photograph.read(100)
    with suppress(SourceUnreadable), open_source(written(tmp_path / "in.tar", header("b.jpg", **pax))) as photographs:
        for photograph in photographs:
            with pytest.raises(Refused):
                photograph.read(100)


def test_an_xz_that_is_damaged_inside(tmp_path: Path) -> None:
    held = bytes(number * number % 251 for number in range(50_000))
    whole = lzma.compress(header(size=len(held)) + padded(held))
    for place in range(20, len(whole), len(whole) // 40):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        source = written(tmp_path / "in.tar.xz", bytes(damaged))
        with suppress(SourceUnreadable, Refused), open_source(source) as photographs:
            for photograph in photographs:
                assert len(photograph.read(2**20)) == len(held)


@pytest.mark.parametrize("packed", [bytes, bz2.compress], ids=["plain", "packed"])
@pytest.mark.parametrize("kind", ["damaged", "cut off"])
def test_a_header_that_is_none_is_not_taken_for_the_end(
    tmp_path: Path, kind: str, packed: Callable[[bytes], bytes]
) -> None:
    good, bad = header("good.jpg", 4) + padded(b"good"), bytearray(header("bad.jpg"))
    bad[5] ^= 0xFF
    end = bytes(bad) + header("lost.jpg") if kind == "damaged" else header("bad.jpg")[:300]
    with open_source(written(tmp_path / "in.tar", packed(good + end))) as photographs:
        assert [(photograph.name, photograph.refusal) for photograph in photographs] == [
            ("good.jpg", ""),
            ("", "The archive is damaged after good.jpg: a header is damaged."),
        ]
    for end in (b"", bytes(100), bytes(512), bytes(1024), bytes(1024) + b"what follows is nobody's"):
        with open_source(written(tmp_path / "in.tar", packed(good + end))) as photographs:
            assert [photograph.read(9) for photograph in photographs] == [b"good"]
