"""What works on jobs, where another process does so too."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.batch.jobs import Folder, Jobs
from app.batch.worker import AT_ONCE, Worker
from app.settings import Settings
from app.telemetry.metrics import Metrics
from tests.app.batch.records import record


def worker_of(jobs: Jobs, made: list[str], error: Exception | None = None) -> Worker:
    """One that makes nothing, but says of what it would have."""

    async def make(folder: Folder, *_: Any) -> None:
        made.append(folder.id)
        if error:
            raise error

    worker = Worker(jobs, None, Metrics(), None)
    worker._maker = SimpleNamespace(make=make)
    return worker


async def looked(worker: Worker, jobs: Jobs) -> None:
    """Have it look once, and wait for what it does then."""
    worker._news.clear()
    worker._begin(jobs.records())
    await asyncio.gather(*worker._tasks.values(), return_exceptions=True)


@pytest.mark.parametrize(("error", "looks"), [(None, True), (ValueError("damaged"), False)])
def test_it_looks_for_more_at_once_unless_something_failed(
    tmp_path: Path, error: Exception | None, looks: bool
) -> None:
    jobs = Jobs(tmp_path, Settings())
    with jobs.begun() as folder:
        folder.write(record(folder))

    async def work() -> bool:
        worker = worker_of(jobs, [], error)
        await looked(worker, jobs)
        return worker._news.is_set()

    assert asyncio.run(work()) is looks


def test_what_another_process_works_on_is_passed_over_and_holds_up_nobody(tmp_path: Path) -> None:
    """More jobs than are begun at once are another's; the one behind them is found at the second look."""
    jobs, folders = Jobs(tmp_path, Settings()), []
    for number in range(AT_ONCE + 1):
        with jobs.begun() as folder:
            folder.write(record(folder, owner=f"owner {number}").model_copy(update={"created": number}))
        folders.append(Folder(folder.path))
    made: list[str] = []

    async def work() -> bool:
        worker = worker_of(jobs, made)
        for _ in range(2):
            await looked(worker, jobs)
        folders[-1].write(record(folders[-1]).model_copy(update={"state": "done", "ended": 5.0}))
        await looked(worker, jobs)
        return worker._news.is_set()

    with ExitStack() as others:
        for folder in folders[:-1]:
            assert others.enter_context(folder.locked())
        assert asyncio.run(work()) is False, "or it would look as fast as it can"
    assert made == [folders[-1].id]
