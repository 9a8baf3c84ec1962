"""One job: from its photographs to its result, and what its owner is told of the end."""

from __future__ import annotations

import asyncio
import io
import logging
import shutil
import time
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from app.batch import webhooks
from app.batch.archives import Photograph
from app.batch.job import Job, Made, make, read, still_to_do
from app.batch.jobs import Folder, Jobs, Record
from app.batch.run import fill
from app.core.service import Service
from app.errors import CannotRun, JobsFull, NotReady, Overloaded, UnknownControl, UnknownSize, WebhookRefused
from app.keys import RateLimiter
from app.settings import Settings
from app.telemetry.metrics import Metrics

LOOK_SECONDS = 2.0
"""Between one look for room on the disk, or for jobs of other processes, and the next."""
LONGEST_WAIT = 60.0
"""Seconds that a job waits at most before it looks whether its owner may have more images."""
TRIES = 3
"""Attempts for a photograph that fails for no fault of its own."""
TRANSIENT = ("deadline-exceeded", "computation-failed")
LINE_BYTES = 700
"""About what a line of the manifest takes up, and another of the metadata."""

log = logging.getLogger(__name__)


class Maker:
    """Makes what a job asks for; requests come first.

    Args:
        jobs: the folder of all jobs.
        service: started; what is asked for is made by it.
        metrics: where jobs are counted.
        limiter: rate limits, which jobs wait for; None where there are none.
    """

    def __init__(self, jobs: Jobs, service: Service, metrics: Metrics, limiter: RateLimiter | None) -> None:
        self._jobs, self._service, self._metrics, self._limiter = jobs, service, metrics, limiter

    async def make(self, folder: Folder, record: Record, made_all: Callable[[], object]) -> None:
        """Make a job's images, or go on where it was stopped.

        Args:
            folder: of the job, locked by this process.
            record: what it asks for; says in the end what came of it.
            made_all: called as soon as there is nothing left to make.

        Raises:
            OSError: it cannot go on for now, since the disk is full, for one.
        """
        job = record.job(self._jobs.settings)
        record.state, record.started = "running", record.started or time.time()
        record.bytes = await asyncio.to_thread(folder.size)
        folder.write(record)
        places = await asyncio.to_thread(folder.places)
        photographs = await asyncio.to_thread(_left, places)

        def told(made: Made) -> None:
            self._told(folder, record, made, places[made.name])

        try:
            engine = (self._service.engine.manifest, partial(self._made, record, job, places))
            tally = await fill(job, engine, photographs, folder.output(record, self._jobs.settings), told)
            record.used, record.skipped, record.images = tally.used, tally.skipped, tally.images
            record.state = "done"
        except (CannotRun, JobsFull, UnknownControl, UnknownSize) as error:
            record.state, record.problem = "failed", str(error)
        except OSError:
            raise
        except Exception:
            log.exception("job failed", extra={"job": folder.id})
            record.state, record.problem = "failed", "The service failed; its log has more."
        made_all()
        await asyncio.to_thread(shutil.rmtree, folder.photographs, ignore_errors=True)
        folder.forget_names()
        record.ended, record.bytes = time.time(), await asyncio.to_thread(folder.size)
        folder.write(record)
        self._metrics.job(record.state)
        log.info("job ended", extra={"job": record.id, "state": record.state, "images": record.images})

    def _told(self, folder: Folder, record: Record, made: Made, photograph: Path) -> None:
        """A photograph was used, for whatever came of it: it is removed, and counted."""
        record.bytes -= photograph.stat().st_size
        photograph.unlink()
        record.used += not made.problem
        record.skipped += bool(made.problem)
        record.images += len(made.images)
        record.bytes += sum(map(len, made.images)) + LINE_BYTES * max(1, len(made.images))
        folder.write(record)
        self._metrics.job_photograph(made.problem)

    async def _made(
        self,
        record: Record,
        job: Job,
        places: dict[str, Path],
        photographs: list[Photograph],
        done: set[str],
    ) -> AsyncGenerator[Made]:
        # Used by a process that was killed before it could remove them.
        await asyncio.to_thread(_remove, [places[name] for name in done & set(places)])
        for photograph in still_to_do(photographs, done):
            photo = await asyncio.to_thread(read, photograph, job.settings.max_bytes)
            await self._room()
            await self._afford(record, job.parameters.images)
            yield await self._patiently(photograph.name, photo, job)

    async def _patiently(self, name: str, photo: Any, job: Job) -> Made:
        """What a photograph gives, when there is room for it; requests come first."""
        for attempt in range(1, TRIES + 1):
            while True:
                try:
                    made = await make(self._service, name, photo, job)
                    break
                except Overloaded as error:
                    await asyncio.sleep(error.retry_after)
                except NotReady:
                    await asyncio.sleep(1)
            if made.problem not in TRANSIENT or attempt == TRIES:
                return made
            await asyncio.sleep(attempt)
        raise AssertionError

    async def _afford(self, record: Record, images: int) -> None:
        """Count images against the owner's rate limit, and wait until they are within it."""
        while self._limiter:
            allowance = await self._limiter.charge(record.payer, images)
            if allowance.granted:
                return
            await asyncio.sleep(min(allowance.reset, LONGEST_WAIT))

    async def _room(self) -> None:
        """Wait until there is room on the disk.

        Raises:
            JobsFull: nothing that could be removed takes it up.
        """
        while True:
            records = await asyncio.to_thread(self._jobs.records)
            if sum(record.bytes for record in records) < self._jobs.settings.jobs_disk_bytes:
                return
            if all(record.ended is None for record in records):
                raise JobsFull("The disk for jobs is full; what had been made by then is in the result.")
            await asyncio.sleep(LOOK_SECONDS)


def _left(places: dict[str, Path]) -> list[Photograph]:
    """The photographs that are still there."""
    return [
        Photograph(name, path.stat().st_size, partial(io.FileIO, path))
        for name, path in places.items()
        if path.exists()
    ]


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


async def tell(folder: Folder, record: Record, settings: Settings, metrics: Metrics) -> None:
    """Tell the webhook, where there is one, until it listens or is given up."""
    hook = record.webhook
    while hook is not None and hook.state == "pending":
        hook.attempts += 1
        try:
            send = partial(webhooks.deliver, hook.url, record.id, _ended(record), settings)
            status = await asyncio.wait_for(asyncio.to_thread(send), 3 * webhooks.SECONDS)
            reason = f"it answered {status}"
        except (OSError, WebhookRefused, TimeoutError) as error:
            status, reason = 0, str(error) or type(error).__name__
        if 200 <= status < 300:
            hook.state = "delivered"
        elif hook.attempts > len(webhooks.WAITS):
            hook.state = "failed"
        if hook.state != "delivered":
            log.warning("webhook not delivered", extra={"job": record.id, "detail": reason, "attempt": hook.attempts})
        if hook.state != "pending":
            metrics.webhook(hook.state)
        folder.write(record)
        if hook.state == "pending":
            await asyncio.sleep(webhooks.WAITS[hook.attempts - 1])


def _ended(record: Record) -> dict[str, Any]:
    """What a webhook is told."""
    return {
        "type": f"job.{record.state}",
        "timestamp": datetime.fromtimestamp(record.ended or time.time(), UTC).isoformat(),
        "data": record.model_dump(include={"id", "state", "photographs", "used", "skipped", "images", "problem"}),
    }
