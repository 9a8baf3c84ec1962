"""A job from its photographs to its end, where the models are not those that it was sent for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.batch.jobs import Jobs
from app.batch.making import Maker
from app.errors import LookalikeError, UnknownControl, UnknownSize
from app.settings import Settings
from app.telemetry.metrics import Metrics
from tests.app.batch.records import record


@pytest.mark.parametrize("error", [UnknownControl("There is no control 'age'."), UnknownSize("There is no 1024.")])
def test_what_a_new_model_does_not_know_is_the_jobs_problem(
    tmp_path: Path, photo: bytes, error: LookalikeError
) -> None:
    jobs = Jobs(tmp_path, Settings())
    with jobs.begun() as folder:
        folder.put(0, "a.jpg", photo)
        job = record(folder)
        folder.write(job)
        with folder.output(job, jobs.settings).skipping():
            pass  # none was refused when it was sent

    def variants(*_: Any) -> None:
        raise error

    service: Any = SimpleNamespace(engine=SimpleNamespace(manifest=None), variants=variants)
    asyncio.run(Maker(jobs, service, Metrics(), None).make(folder, job, lambda: None))
    assert (job.state, job.problem) == ("failed", str(error))
