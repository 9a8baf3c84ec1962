"""The micro-batcher: rows of many requests go through a network together.

It counts images, not requests. A batch is made of whatever waits at the moment the network is free: nobody waits for a
batch to fill. On a CPU several batches run at a time, a core each. Requests take turns of a few images: a small one is
finished in its turn, in the order of arrival, and a large one cannot starve others. A batch that fails is run again
request by request, so one bad row harms nobody else. Whoever went away is dropped before anything is computed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import ComputationFailed, DeadlineExceeded, Overloaded

Array = NDArray[Any]
Rows = tuple[Array, ...]

TURN = 9
"""Rows that a request gets before the next has its turn: eight images, as most ask for, and the face redrawn.

Were turns shorter, requests that arrive together would all be done at the very end of the last of them; were they
longer, a small one would wait long behind large ones."""

log = logging.getLogger(__name__)


class Gate:
    """Bounds how many images are waited for at once, over all requests.

    A request passes with all its images or not at all, before anything is decoded for it: what is let in can be
    finished in time, and what cannot is told so at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        # By a clock that stands still while nothing is held: a night without requests says nothing of the rate.
        self._done: deque[tuple[float, int]] = deque(maxlen=256)
        self._busy = self._since = 0.0

    @property
    def full(self) -> bool:
        """Whether not one more image is taken on."""
        return self.held >= self.limit

    @contextmanager
    def hold(self, images: int) -> Iterator[None]:
        """Take on some images until the block is left.

        Raises:
            Overloaded: they are more than there is room for.
        """
        if self.held + images > self.limit:
            raise Overloaded(self.retry_after())
        if not self.held:
            self._since = time.monotonic()
        self.held += images
        try:
            yield
        finally:
            now = self._busy_seconds()
            self.held -= images
            self._done.append((now, images))
            if not self.held:
                self._busy = now

    def retry_after(self) -> int:
        """Seconds after which half of what is held will be done, at the rate of the last busy while; 1..60."""
        if len(self._done) < 2:
            return 1
        seconds = max(self._busy_seconds() - self._done[0][0], 1e-3)
        rate = sum(images for _, images in self._done) / seconds
        return min(60, max(1, math.ceil(self.held / 2 / max(rate, 1e-3))))

    def _busy_seconds(self) -> float:
        """Seconds in which something was held, up to now."""
        return self._busy + (time.monotonic() - self._since if self.held else 0)


@dataclass(eq=False)
class Job:
    """The rows of one request on their way; take its `parts` once, and `drop` it where they are not wanted any more."""

    rows: Rows
    dropped: Callable[[int], None]
    results: dict[int, Rows | Exception] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    taken: int = 0
    turn: int = 0
    gone: bool = False

    @property
    def left(self) -> int:
        """Rows that no batch has taken yet."""
        return 0 if self.gone else len(self.rows[0]) - self.taken

    def drop(self) -> None:
        """Compute nothing more of it."""
        self.dropped(self.left)
        self.gone = True

    async def all(self, deadline: float = math.inf) -> Rows:
        """What comes of all rows; see `parts`."""
        return _joined([part async for part in self.parts(deadline)])

    async def parts(self, deadline: float = math.inf) -> AsyncIterator[Rows]:
        """What comes of the rows, in order, some at a time, as batches come back.

        Args:
            deadline: the time of the event loop's clock at which to give up.

        Raises:
            DeadlineExceeded: not done by the deadline.
            ComputationFailed: the network failed on these very rows.
        """
        done = 0
        try:
            while done < len(self.rows[0]):
                try:
                    async with asyncio.timeout_at(deadline if deadline < math.inf else None):
                        result = await self._result(done)
                except TimeoutError:
                    raise DeadlineExceeded from None
                if isinstance(result, Exception):
                    raise result
                done += len(result[0])
                # What else has come back by now goes along: a step of the event loop each would cost more.
                ready = [result]
                while isinstance(more := self.results.get(done), tuple):
                    del self.results[done]
                    ready.append(more)
                    done += len(more[0])
                yield result if len(ready) == 1 else _joined(ready)
        finally:
            self.drop()

    async def _result(self, start: int) -> Rows | Exception:
        """What came of the piece that starts at this row, once it is there: pieces can overtake each other."""
        while start not in self.results:
            self.news.clear()
            await self.news.wait()
        return self.results.pop(start)


@dataclass(frozen=True)
class _Piece:
    """Some rows of one job, on their way through the network."""

    job: Job
    start: int
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows[0])

    def finish(self, result: Rows | Exception) -> None:
        self.job.results[self.start] = result
        self.job.news.set()


class Batcher:
    """Runs one network function on rows that come from many requests.

    Args:
        name: what the metrics call it.
        compute: takes and gives arrays that share their first dimension; called in `executor` with one of `sizes` rows.
        sizes: batch sizes, ascending; `compute` never sees another.
        pad: fill a batch up to the next size, as is right where a batch costs the same however full it is (a GPU);
            otherwise what waits is cut into sizes that need no filling, as is right where every row costs (a CPU).
        executor: where `compute` runs, so that the event loop stays free.
        lanes: batches that run at the same time; what waits is shared out among those that are free.
        observe: called with (name, rows of a batch), for metrics.
        queued: called with (name, rows that wait) whenever that changes, for metrics.

    Attributes:
        waiting: rows that no batch has taken yet.
    """

    def __init__(
        self,
        name: str,
        compute: Callable[..., Rows],
        sizes: Sequence[int],
        pad: bool,
        executor: Executor,
        lanes: int,
        observe: Callable[[str, int], None],
        queued: Callable[[str, int], None],
    ) -> None:
        self.name = name
        self._compute = compute
        self._sizes = tuple(sizes)
        self._pad = pad
        self._turn = max(TURN, sizes[-1] // 2)
        self._executor = executor
        self._lanes = lanes
        self._busy = 0
        self._observe = observe
        self._queued = queued
        self._jobs: deque[Job] = deque()
        self.waiting = 0  # counted as they come and go: summed up over a long queue it would cost as much as a request
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work, on the running event loop."""
        self._tasks = [asyncio.create_task(self._work(), name=f"batcher {self.name}") for _ in range(self._lanes)]

    async def close(self) -> None:
        """Stop at once: what is being computed ends in its thread, and nobody is told what came of it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, *rows: Array) -> Job:
        """Queue rows [k, ...], the inputs of `compute`, which all have the same first dimension."""
        job = Job(rows, self._dropped)
        self._jobs.append(job)
        self.waiting += job.left
        self._queued(self.name, self.waiting)
        self._arrived.set()
        return job

    async def run(self, *rows: Array, deadline: float = math.inf) -> Rows:
        """Compute all rows; see `Job.parts`."""
        return await self.begin(*rows).all(deadline)

    def _dropped(self, rows: int) -> None:
        self.waiting -= rows

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            pieces = self._take()
            self._queued(self.name, self.waiting)
            if not pieces:
                self._arrived.clear()
                continue
            self._busy += 1
            try:
                await self._process(pieces)
            finally:
                self._busy -= 1

    def _take(self) -> list[_Piece]:
        """The next batch: the waiting jobs in turn, until it is full or other lanes have enough to do."""
        pieces: list[_Piece] = []
        room = self._next_size(math.ceil(self.waiting / (self._lanes - self._busy)))
        while room and self._jobs:
            job = self._jobs[0]
            count = min(room, self._turn - job.turn, job.left)
            if count:
                pieces.append(_Piece(job, job.taken, tuple(array[job.taken : job.taken + count] for array in job.rows)))
                job.taken += count
                job.turn += count
                room -= count
                self.waiting -= count
            if not job.left:
                self._jobs.popleft()
            elif job.turn == self._turn:
                job.turn = 0
                self._jobs.rotate(-1)
        return pieces

    def _next_size(self, rows: int) -> int:
        fitting = [size for size in self._sizes if size <= rows]
        if self._pad or not fitting:
            return next((size for size in self._sizes if size >= rows), self._sizes[-1])
        # What is left over must not be so few rows that they would have to be filled up, where a size about as large
        # avoids it.
        left = [(size, self.waiting - size) for size in self._sizes if 2 * size >= fitting[-1]]
        whole = [size for size, rest in left if rest == 0 or rest >= self._sizes[0]]
        return next((size for size in reversed(whole) if size <= rows), next(iter(whole), fitting[-1]))

    async def _process(self, pieces: list[_Piece]) -> None:
        try:
            results = await self._batch(pieces)
        except Exception as error:
            if len(pieces) > 1:
                for piece in pieces:
                    if not piece.job.gone:
                        await self._process([piece])
                return
            log.exception("network failed", extra={"network": self.name})
            failure = ComputationFailed(f"{self.name} failed")
            failure.__cause__ = error
            pieces[0].finish(failure)
            return
        for piece, rows in zip(pieces, results, strict=True):
            finite = all(np.isfinite(array).all() for array in rows if array.dtype.kind == "f")
            piece.finish(rows if finite else ComputationFailed(f"{self.name} gave values not finite"))

    async def _batch(self, pieces: list[_Piece]) -> list[Rows]:
        count = sum(map(len, pieces))
        self._observe(self.name, count)
        size = next(size for size in self._sizes if size >= count)  # a retried piece may need filling
        columns = _joined([piece.rows for piece in pieces])
        # Padding repeats a real row, so that it cannot bring values the network has never seen.
        padded = [np.concatenate([column, column[:1].repeat(size - count, 0)]) for column in columns]
        outputs = await asyncio.get_running_loop().run_in_executor(self._executor, self._compute, *padded)
        ends = np.cumsum([len(piece) for piece in pieces]).tolist()
        starts = [0, *ends[:-1]]
        return [tuple(output[start:end] for output in outputs) for start, end in zip(starts, ends, strict=True)]


def _joined(parts: Sequence[Rows]) -> Rows:
    """Rows behind each other."""
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
