"""What works on jobs, where another process does so too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.batch.jobs import Folder, Jobs
from app.batch.worker import Worker
from app.settings import Settings
from app.telemetry.metrics import Metrics
from tests.app.batch.records import record


@pytest.mark.parametrize(
    ("elsewhere", "error", "looks"), [(True, None, False), (False, None, True), (False, ValueError("damaged"), False)]
)
def test_it_looks_for_more_at_once_only_after_work_of_its_own(
    tmp_path: Path, elsewhere: bool, error: Exception | None, looks: bool
) -> None:
    jobs = Jobs(tmp_path, Settings())
    with jobs.begun() as folder:
        folder.write(record(folder))

    async def make(*_: Any) -> None:
        if error:
            raise error

    async def begin() -> bool:
        worker = Worker(jobs, None, Metrics(), None)
        worker._maker = SimpleNamespace(make=make)
        worker._begin(jobs.records())
        await asyncio.gather(*worker._tasks.values(), return_exceptions=True)
        assert not worker._tasks
        return worker._news.is_set()

    if elsewhere:
        with Folder(folder.path).locked() as locked:
            assert locked
            assert asyncio.run(begin()) is looks
    else:
        assert asyncio.run(begin()) is looks
