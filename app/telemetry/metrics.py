"""Prometheus metrics: every name in one place.

Labels are route templates, names of networks and slugs of problems: never anything a client wrote.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from app.telemetry import tracing

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the directory through which several processes add up their metrics."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


_FILES = {
    "counter": 2**19,
    "histogram": 2**19,
    "gauge_livesum": 2**16,
    "gauge_livemax": 2**16,
    "gauge_livemostrecent": 2**16,
}
"""What one process writes in the shared directory, in bytes: more than all label values that there are."""


class Metrics:
    """The metrics of one application."""

    def __init__(self) -> None:
        if SHARED in os.environ:
            _reserve(Path(os.environ[SHARED]))
        registry = self._registry = CollectorRegistry()
        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        gauge = partial(Gauge, registry=registry)
        self._requests = counter("lookalike_http_requests", "Requests answered.", ["route", "method", "status"])
        self._request_seconds = histogram(
            "lookalike_http_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
        )
        self._stage_seconds = histogram(
            "lookalike_stage_seconds", "Time in one stage of a request.", ["stage"], buckets=_SECONDS
        )
        self._batch_images = histogram(
            "lookalike_batch_images",
            "Images in one batch, padding left out.",
            ["model"],
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
        )
        self._queue_images = gauge(
            "lookalike_queue_images", "Images that wait for a network.", ["model"], multiprocess_mode="livesum"
        )
        self._ready = gauge(
            "lookalike_ready",
            "Whether more requests are wanted: 1, or 0 while the models load, the queue is full, or an end is near.",
            multiprocess_mode="livemostrecent",
        )
        self._variants = counter("lookalike_variants", "Variants delivered.")
        self._similarity = histogram(
            "lookalike_similarity",
            "Similarity of delivered variants to their source.",
            buckets=[tenth / 10 for tenth in range(-2, 11)],
        )
        self._rejected = counter("lookalike_rejected", "Requests refused, by problem.", ["reason"])
        self._model_info = gauge(
            "lookalike_model_info",
            "1 for the model that is served; its labels say which that is, and on what.",
            ["name", "version", "device"],
            multiprocess_mode="livemax",
        )
        self._model: tuple[str, str, str] | None = None

        self._jobs = counter("lookalike_jobs_ended", "Jobs that ended, by how.", ["state"])
        self._jobs_open = gauge(
            "lookalike_jobs_open", "Jobs that wait or are worked on.", multiprocess_mode="livemostrecent"
        )
        self._jobs_bytes = gauge(
            "lookalike_jobs_bytes", "What all jobs take up on the disk.", multiprocess_mode="livemostrecent"
        )
        self._job_photographs = counter(
            "lookalike_job_photographs",
            "Photographs of jobs, by what came of them: `used`, or the problem.",
            ["outcome"],
        )
        self._webhooks = counter("lookalike_webhooks", "Jobs whose end was told of, or could not be.", ["state"])
        self._begin_jobs()

    def _begin_jobs(self) -> None:
        """Series that are there from the start: an increase wants a value to begin with, and a panel a series."""
        for metric, usual in (
            (self._jobs, ("done", "failed")),
            (self._job_photographs, ("used",)),
            (self._webhooks, ("delivered", "failed")),
        ):
            for value in usual:
                metric.labels(value)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage of a request, and trace it."""
        start = time.perf_counter()
        try:
            with tracing.span(name):
                yield
        finally:
            self._stage_seconds.labels(name).observe(time.perf_counter() - start)

    def batch(self, model: str, images: int) -> None:
        """A batch went through a network."""
        self._batch_images.labels(model).observe(images)

    def queue(self, model: str, images: int) -> None:
        """So many images wait for a network now."""
        self._queue_images.labels(model).set(images)

    def ready(self, ready: bool) -> None:
        """Whether more requests are wanted now."""
        self._ready.set(ready)

    def variant(self, similarity: float) -> None:
        """A variant was delivered."""
        self._variants.inc()
        self._similarity.observe(similarity)

    def jobs(self, waiting: int, size: int) -> None:
        """So many jobs are open, and all of them take up so many bytes."""
        self._jobs_open.set(waiting)
        self._jobs_bytes.set(size)

    def job(self, state: str) -> None:
        """A job ended."""
        self._jobs.labels(state).inc()

    def job_photograph(self, problem: str) -> None:
        """A photograph of a job was used, or skipped for a problem."""
        self._job_photographs.labels(problem or "used").inc()

    def webhook(self, state: str) -> None:
        """Somebody was told of a job's end, or was given up."""
        self._webhooks.labels(state).inc()

    def rejected(self, reason: str) -> None:
        """A request was refused."""
        self._rejected.labels(reason).inc()

    def model(self, name: str, version: str, device: str) -> None:
        """This model is served, on this device."""
        if SHARED not in os.environ:
            self._model_info.clear()
        elif self._model:
            # Of processes that share their numbers, a series that was there once cannot be taken away.
            self._model_info.labels(*self._model).set(0)
        self._model = (name, version, device)
        self._model_info.labels(*self._model).set(1)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format, over all processes that share the port."""
        if SHARED in os.environ:
            _forget_the_dead(Path(os.environ[SHARED]))
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        return generate_latest(self._registry)


def _reserve(directory: Path) -> None:
    """Take the room that this process' files need: written to later through memory, a full disk would kill it.

    Raises:
        OSError: there is no room.
    """
    for name, size in _FILES.items():
        with (directory / f"{name}_{os.getpid()}.db").open("ab") as file:
            file.write(bytes(size))


def _forget_the_dead(directory: Path) -> None:
    """Leave out the gauges of processes that are no more: a queue that nobody waits in any longer."""
    for file in directory.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not _alive(int(pid)):
            with suppress(FileNotFoundError):  # another process, asked at the same time, was quicker
                mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True
