"""What works on jobs, beside the requests: a photograph of each owner's oldest job at a time.

Jobs take the same networks as requests, through the same queue, and give way to them: what finds no room waits. A job
that was begun by a process that is no more is gone on with by whoever finds its lock free.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from app.batch.jobs import Folder, Jobs, Record
from app.batch.making import LOOK_SECONDS, Maker, tell
from app.core.service import Service
from app.keys import RateLimiter
from app.telemetry.metrics import Metrics

TIDY_SECONDS = 60.0
"""Between one removal of what is out of date and the next, and before a job is tried again that could not go on."""
AT_ONCE = 4
"""Jobs that a process works on at once, each of another owner."""

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
        self._jobs, self._metrics = jobs, metrics
        self._maker = Maker(jobs, service, metrics, limiter)
        self._tasks: dict[str, asyncio.Task[bool]] = {}
        self._owners: dict[str, str] = {}
        self._elsewhere: set[str] = set()
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
            try:
                await asyncio.wait_for(self._news.wait(), LOOK_SECONDS)
            except TimeoutError:
                self._elsewhere.clear()  # by now the others may have done with them
            self._news.clear()

    def _begin(self, records: list[Record]) -> None:
        self._metrics.jobs(sum(record.open for record in records), sum(record.bytes for record in records))
        for record in reversed(records):
            busy = record.owner in self._owners.values() or len(self._owners) == AT_ONCE
            told = record.webhook is None or record.webhook.state != "pending"
            if record.id in self._tasks or record.id in self._elsewhere or (busy if record.open else told):
                continue
            if record.open:
                self._owners[record.id] = record.owner
            task = self._tasks[record.id] = asyncio.create_task(self._work(Folder(self._jobs.root / record.id)))
            task.add_done_callback(partial(self._done, record.id))

    def _done(self, id_: str, task: asyncio.Task[bool]) -> None:
        del self._tasks[id_]
        self._owners.pop(id_, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("job failed", exc_info=error)
            return
        if not task.cancelled() and not task.result():
            # Or it would be tried again and again, as fast as can be, and those behind it never.
            self._elsewhere.add(id_)
        self._news.set()

    async def _work(self, folder: Folder) -> bool:
        """Work on a job; returns whether it could, since no other process does."""
        with folder.locked() as mine:
            record = folder.read()
            if not mine or record is None:  # or deleted since it was listed
                return False
            try:
                if record.open:
                    await self._maker.make(folder, record, partial(self._owners.pop, record.id, None))
                await tell(folder, record, self._jobs.settings, self._metrics)
            except OSError as error:
                if folder.path.exists():
                    # A full disk, for one. The job is as far as it was, and will be tried again.
                    log.error("job cannot go on for now", extra={"job": folder.id, "detail": error.strerror})
                    await asyncio.sleep(TIDY_SECONDS)
            return True
