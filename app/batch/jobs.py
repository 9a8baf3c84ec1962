"""Jobs on disk: what was sent, how far it is, and what came of it, so that a service that was killed goes on.

    JOBS/ID/job.json       what is asked for, by whom, and how far it is
    JOBS/ID/photographs/   those that are still to be used, under numbers; each is removed as soon as it was used
    JOBS/ID/names.jsonl    their names
    JOBS/ID/out/           the result, as `python -m app augment` leaves it

Whoever works on a job holds its lock, in whatever process. A folder without `job.json` that nobody holds is what an
upload left that was cut off. A job that is deleted is renamed first, so that it is gone at once. JOBS itself is locked
for moments only, by whoever begins a folder, takes a job on, or looks for what was cut off.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from app.batch.job import Job
from app.batch.layout import Kind, Labels, Layout
from app.batch.output import Output
from app.core.parameters import VariantsParameters
from app.errors import JobsFull, TooManyJobs
from app.settings import Settings

ID = re.compile("[0-9a-f]{32}")
GONE = ".gone-"
LOCK = ".lock"
FULL = "The disk for jobs is full. Delete jobs whose results you have, or try again later."

log = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed"]


class JobParameters(VariantsParameters):
    """Parameters of `/v1/jobs`: those of `/v1/variants`, for each photograph, and of the data set that is made."""

    layout: Kind = "person"
    """A folder a person, one folder for all, or tar files for webdataset."""

    labels: Labels = "same-person"
    """Whom a look-alike is labelled as: the person of its photograph, or a new one."""

    webhook: str | None = None
    """Address that is told when the job has ended; its origin must be one that the operator allows."""


class Webhook(BaseModel):
    """Whom to tell that a job has ended, and whether that was done."""

    url: str
    state: Literal["pending", "delivered", "failed"] = "pending"
    attempts: int = 0


class Record(BaseModel):
    """A job, as `job.json` has it.

    Attributes:
        owner: name of the key that it belongs to; empty where the service has no keys.
        payer: whose rate limit its images count against.
        bytes: what its folder takes up.
        problem: why it failed.
    """

    model_config = ConfigDict(extra="forbid")

    id: str
    owner: str
    payer: str
    created: float
    parameters: VariantsParameters
    seed: int
    layout: Kind
    labels: Labels
    photographs: int
    state: State = "queued"
    started: float | None = None
    ended: float | None = None
    used: int = 0
    skipped: int = 0
    images: int = 0
    bytes: int = 0
    problem: str = ""
    webhook: Webhook | None = None

    @property
    def open(self) -> bool:
        """Whether there is something left to make."""
        return self.state in ("queued", "running")

    def job(self, settings: Settings) -> Job:
        """What it asks of every photograph."""
        layout = Layout(self.layout, self.labels, self.parameters.listed)
        return Job(settings, self.parameters, self.seed, layout)


class Folder:
    """One job's folder.

    Args:
        path: JOBS/ID.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.photographs = path / "photographs"
        self._names = path / "names.jsonl"

    @property
    def id(self) -> str:
        """The job's id."""
        return self.path.name

    def output(self, record: Record, settings: Settings) -> Output:
        """Where its result goes."""
        return Output(self.path / "out", record.job(settings).layout, lasting=True, mode=0o600)

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Keep others from working on it; false where somebody does, or where it was deleted."""
        with ExitStack() as stack:
            try:
                # Not filelock's, which would make a folder anew that is gone.
                lock = stack.enter_context(_private(self.path / LOCK))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = True
            except OSError:
                mine = False
            yield mine

    @property
    def taken_on(self) -> bool:
        """Whether there is a job, be it one that cannot be read."""
        return (self.path / "job.json").exists()

    def read(self) -> Record | None:
        """The job; None where there is none, not yet, or one that cannot be read."""
        try:
            return Record.model_validate_json((self.path / "job.json").read_bytes())
        except (OSError, ValueError):
            return None

    def write(self, record: Record) -> None:
        """Keep how far it is.

        Raises:
            FileNotFoundError: it was deleted.
        """
        part = self.path / "job.json.part"
        with _private(part) as file:
            file.write(record.model_dump_json().encode())
        part.replace(self.path / "job.json")

    def put(self, number: int, name: str, data: bytes) -> None:
        """Add a photograph."""
        with _private(self.photographs / f"{number:06d}") as file:
            file.write(data)
        with _private(self._names, append=True) as names:
            names.write(json.dumps(name).encode() + b"\n")

    def places(self) -> dict[str, Path]:
        """Where each photograph is, or was, by name."""
        lines = self._names.read_text().splitlines() if self._names.exists() else []
        return {json.loads(line): self.photographs / f"{number:06d}" for number, line in enumerate(lines)}

    def forget_names(self) -> None:
        """Remove the names of the photographs."""
        self._names.unlink(missing_ok=True)

    def size(self) -> int:
        """What it takes up, in bytes."""
        total = 0
        for folder, _, files in os.walk(self.path):
            for name in files:
                with contextlib.suppress(FileNotFoundError):
                    total += Path(folder, name).stat().st_size
        return total


class Jobs:
    """All jobs of a service.

    Args:
        root: the folder.
        settings: its bounds, and how long results stay.
    """

    def __init__(self, root: Path, settings: Settings) -> None:
        self.settings, self.root = settings, root
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sending: dict[str, str] = {}  # owners, by id
        self._unreadable: set[str] = set()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other process, and no other thread, is within such a block."""
        root = os.open(self.root, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # there are file systems on which a folder cannot be locked
                fcntl.flock(root, fcntl.LOCK_EX)
            yield
        finally:
            os.close(root)

    def folders(self) -> Iterator[Folder]:
        """The folders of all jobs, and of those that are being sent."""
        for entry in sorted(self.root.iterdir()):
            if ID.fullmatch(entry.name):
                yield Folder(entry)

    def records(self) -> list[Record]:
        """All jobs, the latest first."""
        found = [record for folder in self.folders() if (record := folder.read())]
        return sorted(found, key=lambda record: -record.created)

    def find(self, id_: str, owner: str) -> tuple[Folder, Record] | None:
        """A job of an owner; None for another's, as if there were none."""
        if not ID.fullmatch(id_):
            return None
        folder = Folder(self.root / id_)
        record = folder.read()
        return (folder, record) if record and record.owner == owner else None

    def delete(self, folder: Folder) -> None:
        """Remove a job, whoever works on it."""
        gone = self.root / (GONE + folder.id)
        with contextlib.suppress(FileNotFoundError):
            folder.path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def room(self, owner: str) -> int:
        """Bytes that a further job of an owner may take up; what is being sent just now counts as well.

        Raises:
            TooManyJobs, JobsFull: none; the message says what to do.
        """
        sent = sum(folder.size() for folder in self.folders() if not folder.taken_on)
        return self._room(owner, list(self._sending.values()).count(owner), sent)

    def _room(self, owner: str, sending: int, taken_up: int) -> int:
        """Bytes that are left, beside all jobs that were taken on and what is given."""
        records = self.records()
        mine = sending + sum(record.open and record.owner == owner for record in records)
        if mine >= self.settings.jobs_open:
            raise TooManyJobs(f"{mine} jobs wait or are worked on, as many as may. Wait for one to end, or delete one.")
        left = self.settings.jobs_disk_bytes - sum(record.bytes for record in records) - taken_up
        if left <= 0:
            raise JobsFull(FULL)
        return left

    def take_on(self, folder: Folder, record: Record) -> None:
        """Write the record of a job that was sent, if there still is room: others may have been sent meanwhile.

        Raises:
            TooManyJobs, JobsFull: there is none any more.
        """
        with self._alone():
            self._room(record.owner, 0, record.bytes)
            folder.write(record)

    @contextmanager
    def begun(self, owner: str = "") -> Iterator[Folder]:
        """A folder for a job that is being sent; it is removed unless the block wrote a record.

        Args:
            owner: whose job it is.

        Raises:
            JobsFull: the disk is full, whatever may be taken up of it.
        """
        folder = Folder(self.root / secrets.token_hex(16))
        with _disk_may_be_full(), ExitStack() as stack:
            with self._alone():  # who tidies would take a folder for one that was cut off, before it is locked
                folder.path.mkdir(mode=0o700)
                stack.enter_context(folder.locked())
            self._sending[folder.id] = owner
            try:
                folder.photographs.mkdir(mode=0o700)
                yield folder
            finally:
                del self._sending[folder.id]
                if not folder.taken_on:
                    self.delete(folder)

    def tidy(self) -> None:
        """Remove results whose time is over, and what uploads and deletions left that were cut off."""
        for entry in self.root.glob(f"{GONE}*"):
            shutil.rmtree(entry, ignore_errors=True)
        for folder in self.folders():
            taken_on, record = folder.taken_on, folder.read()
            if taken_on and record is None:
                # Another version wrote it, perhaps, and will know what to do with it.
                if folder.id not in self._unreadable:
                    log.error("job cannot be read, and is left as it is", extra={"job": folder.id})
                self._unreadable.add(folder.id)
                continue
            if record and (record.ended is None or record.ended + self.settings.jobs_keep_seconds >= time.time()):
                continue
            with self._alone(), folder.locked() as free:
                stale = free and (record is not None or not folder.taken_on)
            if stale:
                self.delete(folder)


@contextmanager
def _disk_may_be_full() -> Iterator[None]:
    """Have it said that the disk is full, where that is what was wrong.

    Raises:
        JobsFull: see there.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise JobsFull(FULL) from error
        raise


def _private(path: Path, append: bool = False) -> Any:
    """A file for its owner alone, to write to."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
    return os.fdopen(os.open(path, flags, 0o600), "ab" if append else "wb")
