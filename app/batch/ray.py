"""`augment --engine ray`: a data set through Ray Data, to a pool of actors that each hold the service.

Photographs are read and images written where the command runs: other machines need not see its disks, an archive can
only be read in its order, and one reader keeps hundreds of cores busy. Results come in the order of the photographs;
only a few for each actor are on their way.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of this service reports anywhere
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # or what still runs when the cluster is left would start another one

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasource, read_datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask
from ray.exceptions import RayTaskError

from app.batch.archives import Photograph, open_source
from app.batch.job import IN_FLIGHT, Job, Made, make, read, still_to_do
from app.core.models import decoder_role
from app.errors import CannotRun, ModelsInvalid, ProviderUnavailable, Refused
from app.runtime.manifest import Manifest, read_manifest
from app.telemetry import logs

if TYPE_CHECKING:
    from app.batch.run import Engine

T = TypeVar("T")
Read = Callable[[], Iterator[pa.Table]]

logging.getLogger("ray.data").setLevel(logging.ERROR)  # a plan of execution is no news

HANDFUL = IN_FLIGHT
"""Photographs that are sent to an actor together; it works on two handfuls at once, so that it never waits for one."""

CHUNK = 64
"""Photographs of a folder that one task reads: what has to be read again where the results of one were lost."""

CONNECT_SECONDS = 10.0
"""How long the head of a cluster has to answer."""

PHOTOGRAPHS = pa.schema([("name", pa.binary()), ("photo", pa.binary()), ("refusal", pa.binary())])
MADE = pa.schema([("record", pa.string()), ("images", pa.list_(pa.binary()))])


@asynccontextmanager
async def cluster(
    job: Job, source: Path, target: Path, address: str | None, replicas: int | None
) -> AsyncIterator[Engine]:
    """A Ray cluster as an engine.

    Args:
        job: what is asked of each photograph.
        source: where they are, on this machine: an absolute path.
        target: a folder in it that is passed over.
        address: of the cluster; without it RAY_ADDRESS or one that runs here, else one is started.
        replicas: actors; without it one a GPU where there are any and the settings allow them, else one a core.

    Raises:
        ModelsInvalid: there are no models to compare the cluster's with.
        CannotRun: there is no such cluster, or it cannot do the work.
    """
    manifest = read_manifest(job.settings.models)

    async def made(photographs: list[Photograph], done: set[str]) -> AsyncGenerator[Made]:
        left = list(still_to_do(photographs, done))
        if not left:
            return
        reads = _reads(source, target, left, done, job.settings.max_bytes)
        rows = iter(_dataset(job, manifest, reads, len(left), replicas).iter_rows())
        while (row := await asyncio.to_thread(next, rows, None)) is not None:
            yield Made(**json.loads(row["record"]), images=row["images"])

    _connect(address)
    try:
        yield manifest, made
    except RayTaskError as error:
        if isinstance(error.cause, CannotRun):
            raise error.cause from error
        raise
    finally:
        ray.shutdown()


def _connect(address: str | None) -> None:
    try:
        if address and address[-1:].isdecimal():
            # Ray itself would ask for ever whether somebody is there.
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CannotRun(f"--ray-address: no cluster at {address or 'hand'} ({reason})") from error


def _dataset(job: Job, manifest: Manifest, reads: list[Read], left: int, replicas: int | None) -> Dataset:
    """What is MADE of photographs, so many of which are left."""
    job, resources, most = _shared_out(job, manifest, replicas)
    most = min(most, math.ceil(left / HANDFUL))
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a photograph is a block: nobody waits until there are megabytes of them
    return read_datasource(Source(reads), num_cpus=0, concurrency=1, override_num_blocks=len(reads)).map_batches(
        Replica,
        fn_constructor_args=(job, manifest),
        batch_size=HANDFUL,
        batch_format="pyarrow",
        # A pool that may shrink. In a fixed one an actor whose machine is lost could wait for room for ever: the others
        # keep theirs, and what they make meanwhile waits for its photographs until there is no memory left for more.
        compute=ActorPoolStrategy(
            min_size=1,
            max_size=most,
            initial_size=most,
            max_concurrent_calls_per_actor=2,
            enable_true_multi_threading=True,
        ),
        **resources,
    )


def _shared_out(job: Job, manifest: Manifest, replicas: int | None) -> tuple[Job, dict[str, float], int]:
    """The job as a replica is to do it, what it asks of its machine, and how many replicas there are at most.

    All compute on the same kind of device and as exactly: else the bytes would depend on who made them.
    """
    there, device = ray.cluster_resources(), job.settings.device
    if device == "auto":
        device = "cuda" if there.get("GPU") else "cpu"
    threads = max(job.settings.threads, 1)
    own = {"num_gpus": 1.0, "num_cpus": 1.0} if device == "cuda" else {"num_cpus": float(threads)}
    room = there.get("GPU", 0.0) if device == "cuda" else there.get("CPU", 0.0) / threads
    most = int(room) if replicas is None else replicas
    if most < 1:
        raise CannotRun("--ray-replicas: the cluster has no room for one; say how many to wait for")
    if device == "cuda":
        precision = "float16" if job.settings.precision == "float16" else "float32"
    else:
        precision = "float32" if decoder_role(job.settings, manifest) == "decoder" else "int8"
    settings = job.settings.model_copy(update={"device": device, "threads": threads, "precision": precision})
    return replace(job, settings=settings), own, most


class Replica:
    """The service in an actor: photographs in, what they gave out.

    Args:
        job: what is asked for.
        manifest: the models it has to have.
    """

    def __init__(self, job: Job, manifest: Manifest) -> None:
        logs.configure("error")
        self._job = job
        self._service = job.service(2 * HANDFUL)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._unfit = self._wait(self._start(manifest))

    async def _start(self, manifest: Manifest) -> str:
        """Load the models; returns why that is no use, for an actor that fails to start would only be started again."""
        try:
            await self._service.start()
        except (ModelsInvalid, ProviderUnavailable) as error:
            return str(error)
        if self._service.engine.manifest != manifest:
            return f"{self._job.settings.models}: its models are others than those where the command runs"
        return ""

    def __call__(self, photographs: pa.Table) -> pa.Table:
        """Make the look-alikes of a handful of photographs, all at once."""
        if self._unfit:
            raise CannotRun(f"{ray.util.get_node_ip_address()}: {self._unfit}")
        made = self._wait(self._make(photographs.to_pylist()))
        records = [
            json.dumps({"name": one.name, "lines": one.lines, "problem": one.problem, "detail": one.detail})
            for one in made
        ]
        return pa.table({"record": records, "images": [one.images for one in made]}, schema=MADE)

    async def _make(self, rows: list[dict[str, bytes]]) -> list[Made]:
        return await asyncio.gather(
            *(
                make(
                    self._service,
                    os.fsdecode(row["name"]),
                    Refused(os.fsdecode(row["refusal"])) if row["refusal"] else row["photo"],
                    self._job,
                )
                for row in rows
            )
        )

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class Source(Datasource):  # type: ignore[misc]  # Ray is not typed strictly
    """What reads the photographs, part by part and in order; each photograph is a row and a block.

    Args:
        parts: each gives tables of PHOTOGRAPHS.
    """

    def __init__(self, parts: list[Read]) -> None:
        super().__init__()
        self._parts = parts

    @property
    def supports_distributed_reads(self) -> bool:
        """False: only this machine needs to have the photographs."""
        return False

    def estimate_inmemory_data_size(self) -> None:
        """Not known, and not asked for."""

    def get_read_tasks(
        self,
        parallelism: int,  # noqa: ARG002 - parts are read one after another
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,  # noqa: ARG002 - has no part in it
    ) -> list[ReadTask]:
        """The parts as Ray wants them."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(part, unknown, PHOTOGRAPHS, per_task_row_limit) for part in self._parts]


def _reads(source: Path, target: Path, left: list[Photograph], done: set[str], max_bytes: int) -> list[Read]:
    if source.is_dir():
        return [partial(_rows, left[start : start + CHUNK], max_bytes) for start in range(0, len(left), CHUNK)]
    return [partial(_rows_of_archive, source, target, done, max_bytes)]


def _rows(photographs: Iterable[Photograph], max_bytes: int) -> Iterator[pa.Table]:
    for photograph in photographs:
        photo = read(photograph, max_bytes)
        refused = isinstance(photo, Refused)
        # As the file system spells it: a name need not be text.
        yield pa.table(
            {
                "name": [os.fsencode(photograph.name)],
                "photo": [b"" if refused else photo],
                "refusal": [os.fsencode(str(photo)) if refused else b""],
            },
            schema=PHOTOGRAPHS,
        )


def _rows_of_archive(source: Path, target: Path, done: set[str], max_bytes: int) -> Iterator[pa.Table]:
    with open_source(source, without=target) as photographs:
        yield from _rows(still_to_do(photographs, done), max_bytes)
