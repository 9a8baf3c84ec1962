"""What one request computes with: the models that it began with, the image threads, and its deadline."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from app.core.colour import Bytes, desaturated
from app.core.models import Engine
from app.core.origin import Origin
from app.errors import DeadlineExceeded
from app.runtime.sessions import cores
from app.settings import Settings
from app.telemetry.metrics import Metrics

T = TypeVar("T")


class ImageThreads:
    """The threads in which pictures are read, searched and written, so that the event loop stays free."""

    def __init__(self, settings: Settings) -> None:
        count = settings.image_threads or max(2, cores() // settings.workers)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="image")

    async def run(self, work: Callable[[], T], deadline: float = math.inf) -> T:
        """Do something in one of them; its result.

        Raises:
            DeadlineExceeded: it had not been done by the deadline, a time of the event loop's clock.
        """
        try:
            async with asyncio.timeout_at(deadline if deadline < math.inf else None):
                return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, work)
        except TimeoutError:
            raise DeadlineExceeded from None

    def close(self) -> None:
        """Do nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Computation:
    """What one request computes with.

    Attributes:
        engine: the models; the request ends with those that it began with.
        settings: limits, and whether images are marked.
        metrics: where it counts.
        threads: for pictures.
        origin: marks what leaves.
        deadline: when it is given up, by the event loop's clock.
    """

    engine: Engine
    settings: Settings
    metrics: Metrics
    threads: ImageThreads
    origin: Origin
    deadline: float

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do something with pictures in the image threads.

        Raises:
            DeadlineExceeded: it had not been done by the deadline.
        """
        return await self.threads.run(work, self.deadline)

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Time a stage of the request."""
        return self.metrics.stage(name)

    async def as_photographed(
        self, images: Bytes, embeddings: NDArray[np.float32], grey: NDArray[np.bool_]
    ) -> tuple[Bytes, NDArray[np.float32]]:
        """Images as they will leave, grey where the photograph is, and the embeddings of just these.

        Args:
            images: [n, s, s, 3], as they were drawn.
            embeddings: [n, d] of those.
            grey: [n], whether the photograph that each is of has no colour.

        Raises:
            DeadlineExceeded, ComputationFailed: the grey ones could not be recognised.
        """
        if not grey.any():
            return images, embeddings
        images, embeddings = images.copy(), embeddings.copy()
        images[grey] = desaturated(images[grey])
        with self.stage("recognize"):
            (embeddings[grey],) = await self.engine.judge.run(images[grey], deadline=self.deadline)
        return images, embeddings

    async def with_detail(self, images: Bytes) -> Bytes:
        """Images [n, s, s, 3] with the detail of twice the side [n, 2s, 2s, 3].

        Raises:
            DeadlineExceeded, ComputationFailed: they could not be drawn.
        """
        assert self.engine.detail  # noqa: S101 - else `sized` refuses to be asked
        with self.stage("detail"):
            (larger,) = await self.engine.detail.run(images, deadline=self.deadline)
        return larger

    def answer_id(self, parameters: BaseModel, *photos: str) -> str:
        """32 hex digits that name an answer: a digest of everything that its bytes follow from."""
        manifest = self.engine.manifest
        everything = {
            "model": [manifest.name, manifest.version],
            "use": type(parameters).__name__,
            "parameters": parameters.model_dump(mode="json"),
            "mark": self.settings.mark,
            "origin": self.origin.asked,
            "photos": photos,
        }
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:32]
