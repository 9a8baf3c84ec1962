"""What is sent for a job, where it is more than is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.batch.archives import Bounds
from app.batch.jobs import Folder
from app.batch.output import Output
from app.batch.sent import ARCHIVES, ENTRIES, Names, Sent, unpack
from app.errors import JobTooLarge
from app.settings import Settings
from tests.app.batch.folders import tar_of, zip_of


def test_an_archive_of_many_things_that_are_no_photographs(tmp_path: Path) -> None:
    source = zip_of(tmp_path / "in.zip", {f"{number}.txt": b"" for number in range(ENTRIES + 11)})
    output = Output(tmp_path / "out")
    with pytest.raises(JobTooLarge, match="has more entries"):
        unpack(Folder(tmp_path), Sent([], [source]), output, 100, Settings(jobs_photographs=1))


def test_an_archive_that_is_larger_unpacked_than_there_is_room(tmp_path: Path) -> None:
    source = tar_of(tmp_path / "in.tar.gz", {"video": bytes(2**20)})
    output = Output(tmp_path / "out")
    with pytest.raises(JobTooLarge, match="larger unpacked"):
        unpack(Folder(tmp_path), Sent([], [source]), output, 2**20, Settings())


def test_many_archives(tmp_path: Path) -> None:
    sent = Sent([], [tmp_path / f"{number}.zip" for number in range(ARCHIVES + 1)])
    with pytest.raises(JobTooLarge, match=f"at most {ARCHIVES} archives"):
        sent.photographs(Bounds()).__enter__()


def test_of_two_with_one_name_the_first_is_used_and_each_refusal_counts(tmp_path: Path) -> None:
    sources = [zip_of(tmp_path / f"{number}.zip", {"p/a.jpg": bytes([number])}) for number in range(3)]
    output, folder = Output(tmp_path / "out"), Folder(tmp_path)
    (tmp_path / "photographs").mkdir()
    assert unpack(folder, Sent([], sources), output, 100, Settings()) == (1, 2)
    told = [json.loads(line)["source"] for line in output.skipped.read_text().splitlines()]
    assert told == ["p/a-2.jpg", "p/a-3.jpg"]


def test_no_two_names_are_the_same() -> None:
    names = Names(["a-3.jpg"])
    asked = ["a.jpg", "a.jpg", "b", "a-2.jpg", "a.jpg", "b", "a-3.jpg", "a.jpg", "st.john/a", "st.john/a", "x.y/a.jpg"]
    asked += ["x.y/a.jpg"]
    assert [names.free(name) for name in asked] == [
        "a.jpg",
        "a-2.jpg",
        "b",
        "a-2-2.jpg",
        "a-4.jpg",
        "b-2",
        "a-3-2.jpg",
        "a-5.jpg",
        "st.john/a",
        "st.john/a-2",
        "x.y/a.jpg",
        "x.y/a-2.jpg",
    ]
