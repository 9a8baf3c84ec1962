"""The folder of all jobs: what may be sent at once, and what is removed of it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from app.batch.jobs import Folder, Jobs
from app.errors import JobsFull, TooManyJobs
from app.settings import Settings
from tests.app.batch.records import record


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path, Settings(jobs_open=2, jobs_disk_bytes=2**20))


def test_of_jobs_that_are_sent_together_no_more_are_taken_on_than_may_be_open(jobs: Jobs) -> None:
    with jobs.begun("one") as first, jobs.begun("one") as second, jobs.begun("one") as third:
        jobs.take_on(first, record(first))
        jobs.take_on(second, record(second))
        with pytest.raises(TooManyJobs):
            jobs.take_on(third, record(third))
    assert {folder.id for folder in jobs.folders()} == {first.id, second.id}


def test_of_jobs_that_are_sent_together_no_more_are_taken_on_than_there_is_room_for(jobs: Jobs) -> None:
    with jobs.begun("one") as first, jobs.begun("two") as second:
        jobs.take_on(first, record(first, "one", 2**19 + 1))
        with pytest.raises(JobsFull):
            jobs.take_on(second, record(second, "two", 2**19))
    assert [folder.id for folder in jobs.folders()] == [first.id]


def test_what_is_being_sent_takes_up_room(jobs: Jobs) -> None:
    with jobs.begun("one") as first, jobs.begun("one"):
        with pytest.raises(TooManyJobs):
            jobs.room("one")
        (first.path / "part").write_bytes(bytes(1000))
        assert jobs.room("two") == 2**20 - 1000
        (first.path / "part").write_bytes(bytes(2**20))
        with pytest.raises(JobsFull):
            jobs.room("two")
    assert jobs.room("one") == 2**20


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_is_told_of(jobs: Jobs, number: int) -> None:
    with pytest.raises(JobsFull, match="try again later"), jobs.begun():
        raise OSError(number, "full")
    assert not list(jobs.folders())
    with pytest.raises(PermissionError), jobs.begun():
        raise PermissionError(errno.EACCES, "not ours")


def test_a_job_that_cannot_be_read_is_left_and_told_of_once(jobs: Jobs, caplog: pytest.LogCaptureFixture) -> None:
    with jobs.begun() as folder:
        folder.write(record(folder))
    text = (folder.path / "job.json").read_text().replace("{", '{"newer": 1, ', 1)
    (folder.path / "job.json").write_text(text)
    (jobs.root / ("a" * 32)).mkdir()
    with caplog.at_level(logging.ERROR):
        jobs.tidy()
        jobs.tidy()
    assert (folder.path / "job.json").read_text() == text
    assert [folder.id] == [left.id for left in jobs.folders()]
    assert [said.message for said in caplog.records] == ["job cannot be read, and is left as it is"]


def test_a_folder_that_is_not_locked_yet_is_not_taken_for_one_that_was_cut_off(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, seen = Folder.locked, []

    def locked(folder: Folder) -> AbstractContextManager[bool]:
        root = os.open(jobs.root, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(root, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(root)
        seen.append(folder.id)
        return genuine(folder)

    monkeypatch.setattr(Folder, "locked", locked)
    with jobs.begun() as folder:
        jobs.tidy()
        assert seen == [folder.id] * 2, "by who begins it, and by who tidies"
        assert folder.path.exists()
