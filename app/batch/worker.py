"""What works on jobs, beside the requests: a photograph of each owner's oldest job at a time.

Jobs take the same networks as requests, through the same queue, and give way to them: what finds no room waits. A job
that was begun by a process that is no more is gone on with by whoever finds its lock free.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
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
from app.errors import CannotRun, JobsFull, NotReady, Overloaded, WebhookRefused
from app.keys import RateLimiter
from app.telemetry.metrics import Metrics

LOOK_SECONDS = 2.0
"""Between one look for jobs that other processes took on and the next."""
TIDY_SECONDS = 60.0
AT_ONCE = 4
"""Jobs that a process works on at once, each of another owner."""
TRIES = 3
"""Attempts for a photograph that fails for no fault of its own."""
TRANSIENT = ("deadline-exceeded", "computation-failed")
LINE_BYTES = 700
"""About what a line of the manifest takes up, and another of the metadata."""

log = logging.getLogger(__name__)


class Worker:
    """Works on the jobs of a folder until it is stopped.

    Args:
        jobs: the folder.
        service: started; what is asked for is made by it.
        metrics: where jobs are counted.
        limiter: rate limits, which jobs wait for; None where there are none.
    """

    def __init__(self, jobs: Jobs, service: Service, metrics: Metrics, limiter: RateLimiter | None) -> None:
        self._jobs, self._service, self._metrics, self._limiter = jobs, service, metrics, limiter
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._owners: dict[str, str] = {}
        self._news = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work until the block is left; what is then unfinished goes on with the next process."""
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            for task in (watch, *self._tasks.values()):
                task.cancel()
            await asyncio.gather(watch, *self._tasks.values(), return_exceptions=True)

    def look(self) -> None:
        """There is a new job."""
        self._news.set()

    async def stop(self, id_: str) -> None:
        """Stop working on a job, if this process does."""
        if task := self._tasks.get(id_):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self) -> None:
        tidied = 0.0
        while True:
            try:
                if time.monotonic() - tidied > TIDY_SECONDS or not tidied:
                    await asyncio.to_thread(self._jobs.tidy)
                    tidied = time.monotonic()
                self._begin(await asyncio.to_thread(self._jobs.records))
            except OSError as error:
                log.error("jobs cannot be looked at", extra={"detail": error.strerror})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_SECONDS)
            self._news.clear()

    def _begin(self, records: list[Record]) -> None:
        self._metrics.jobs(sum(record.open for record in records), sum(record.bytes for record in records))
        for record in reversed(records):
            busy = record.owner in self._owners.values() or len(self._owners) == AT_ONCE
            told = record.webhook is None or record.webhook.state != "pending"
            if record.id in self._tasks or (busy if record.open else told):
                continue
            if record.open:
                self._owners[record.id] = record.owner
            task = self._tasks[record.id] = asyncio.create_task(self._work(Folder(self._jobs.root / record.id)))
            task.add_done_callback(partial(self._done, record.id))

    def _done(self, id_: str, task: asyncio.Task[None]) -> None:
        del self._tasks[id_]
        self._owners.pop(id_, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("job failed", exc_info=error)
        self._news.set()

    async def _work(self, folder: Folder) -> None:
        with folder.locked() as mine:
            record = folder.read()
            if not mine or record is None:
                return
            try:
                if record.open:
                    await self._make(folder, record)
                await self._tell(folder, record)
            except OSError as error:
                if folder.path.exists():
                    # A full disk, for one. The job is as far as it was, and will be tried again.
                    log.error("job cannot go on for now", extra={"job": folder.id, "detail": error.strerror})
                    await asyncio.sleep(TIDY_SECONDS)

    async def _make(self, folder: Folder, record: Record) -> None:
        job = record.job(self._jobs.settings)
        record.state, record.started = "running", record.started or time.time()
        record.bytes = await asyncio.to_thread(folder.size)
        folder.write(record)
        places = folder.places()
        photographs = [
            Photograph(name, path.stat().st_size, partial(io.FileIO, path))
            for name, path in places.items()
            if path.exists()
        ]

        def told(made: Made) -> None:
            self._told(folder, record, made, places[made.name])

        try:
            engine = (self._service.engine.manifest, partial(self._made, record, job, places))
            tally = await fill(job, engine, photographs, folder.output(record, self._jobs.settings), told)
            record.used, record.skipped, record.images = tally.used, tally.skipped, tally.images
            record.state = "done"
        except (CannotRun, JobsFull) as error:
            record.state, record.problem = "failed", str(error)
        except OSError:
            raise
        except Exception:
            log.exception("job failed", extra={"job": folder.id})
            record.state, record.problem = "failed", "The service failed; its log has more."
        self._owners.pop(record.id, None)
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
        for name in done & set(places):
            places[name].unlink(missing_ok=True)  # used by a process that was killed before it could remove them
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
            await asyncio.sleep(min(allowance.reset, TIDY_SECONDS))

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

    async def _tell(self, folder: Folder, record: Record) -> None:
        """Tell the webhook, where there is one, until it listens or is given up."""
        hook = record.webhook
        while hook is not None and hook.state == "pending":
            hook.attempts += 1
            try:
                send = partial(webhooks.deliver, hook.url, record.id, ended(record), self._jobs.settings)
                status = await asyncio.wait_for(asyncio.to_thread(send), 3 * webhooks.SECONDS)
                reason = f"it answered {status}"
            except (OSError, WebhookRefused, TimeoutError) as error:
                status, reason = 0, str(error) or type(error).__name__
            if 200 <= status < 300:
                hook.state = "delivered"
            elif hook.attempts > len(webhooks.WAITS):
                hook.state = "failed"
            if hook.state != "delivered":
                log.warning(
                    "webhook not delivered", extra={"job": record.id, "detail": reason, "attempt": hook.attempts}
                )
            if hook.state != "pending":
                self._metrics.webhook(hook.state)
            folder.write(record)
            if hook.state == "pending":
                await asyncio.sleep(webhooks.WAITS[hook.attempts - 1])


def ended(record: Record) -> dict[str, Any]:
    """What a webhook is told."""
    return {
        "type": f"job.{record.state}",
        "timestamp": datetime.fromtimestamp(record.ended or time.time(), UTC).isoformat(),
        "data": record.model_dump(include={"id", "state", "photographs", "used", "skipped", "images", "problem"}),
    }
