"""Jobs on disk: what was sent, how far it is, and what came of it, so that a service that was killed goes on.

    JOBS/ID/job.json       what is asked for, by whom, and how far it is
    JOBS/ID/photographs/   those that are still to be used, under numbers; each is removed as soon as it was used
    JOBS/ID/names.jsonl    their names
    JOBS/ID/out/           the result, as `python -m app augment` leaves it

Whoever works on a job holds its lock, in whatever process. A folder without `job.json` that nobody holds is what an
upload left that was cut off. A job that is deleted is renamed first, so that it is gone at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from app.batch.archives import Photograph, checked, open_source
from app.batch.job import Job
from app.batch.layout import Kind, Labels, Layout
from app.batch.output import Output
from app.core.parameters import VariantsParameters
from app.errors import JobsFull, JobTooLarge, Refused, TooManyJobs
from app.settings import Settings

ID = re.compile("[0-9a-f]{32}")
GONE = ".gone-"
LOCK = ".lock"

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

    def read(self) -> Record | None:
        """The job; None where there is none, or not yet."""
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
        """Bytes that a further job of an owner may take up.

        Raises:
            TooManyJobs, JobsFull: none; the message says what to do.
        """
        records = self.records()
        mine = sum(record.open and record.owner == owner for record in records)
        if mine >= self.settings.jobs_open:
            raise TooManyJobs(f"{mine} jobs wait or are worked on, as many as may. Wait for one to end, or delete one.")
        left = self.settings.jobs_disk_bytes - sum(record.bytes for record in records)
        if left <= 0:
            raise JobsFull("The disk for jobs is full. Delete jobs whose results you have, or try again later.")
        return left

    @contextmanager
    def begun(self) -> Iterator[Folder]:
        """A folder for a job that is being sent; it is removed unless the block wrote a record."""
        folder = Folder(self.root / secrets.token_hex(16))
        folder.path.mkdir(mode=0o700)
        folder.photographs.mkdir(mode=0o700)
        with folder.locked():
            try:
                yield folder
            finally:
                if folder.read() is None:
                    self.delete(folder)

    def tidy(self) -> None:
        """Remove results whose time is over, and what uploads and deletions left that were cut off."""
        for entry in self.root.glob(f"{GONE}*"):
            shutil.rmtree(entry, ignore_errors=True)
        for folder in self.folders():
            record = folder.read()
            over = record and record.ended is not None and record.ended + self.settings.jobs_keep_seconds < time.time()
            if record and not over:
                continue
            with folder.locked() as free:
                stale = free and (over or folder.read() is None)
            if stale:
                self.delete(folder)


@dataclass(frozen=True)
class Sent:
    """What was sent for a job.

    Attributes:
        images: files by the names that they were sent under.
        archives: tar and zip files.
    """

    images: list[tuple[str, Path]]
    archives: list[Path]

    @contextmanager
    def photographs(self) -> Iterator[list[Photograph]]:
        """All of them, under names that no two have in common.

        Raises:
            SourceUnreadable: an archive is none.
        """
        with ExitStack() as stack:
            found: list[Photograph] = []
            taken: set[str] = set()
            for sent, path in self.images:
                name = _free(sent.replace("\\", "/").rpartition("/../")[2].lstrip("./") or "photograph", taken)
                found.append(Photograph(name, path.stat().st_size, partial(io.FileIO, path)))
            for path in self.archives:
                found += stack.enter_context(open_source(path))
            yield checked(found)


def unpack(folder: Folder, sent: Sent, output: Output, room: int, settings: Settings) -> tuple[int, int]:
    """Take the photographs out of what was sent; returns how many there are, and how many cannot be used.

    Args:
        folder: of the job.
        sent: the files; the caller removes them.
        output: where those are told of that cannot be used.
        room: most bytes that they may take up together.
        settings: most bytes of one, and most photographs.

    Raises:
        SourceUnreadable: an archive is none.
        JobTooLarge: they are too many, or too large together.
    """
    usable = refused = 0
    with sent.photographs() as photographs, output.skipping() as skip:
        if len(photographs) > settings.jobs_photographs:
            raise JobTooLarge(f"A job has at most {settings.jobs_photographs} photographs. Send fewer at a time.")
        for photograph in photographs:
            try:
                data = photograph.read(settings.max_bytes)
            except Refused as error:
                skip(photograph.name, "refused", str(error))
                refused += 1
                continue
            room -= len(data)
            if room < 0:
                raise JobTooLarge("The photographs take up more than is left for jobs. Send fewer at a time.")
            folder.put(usable, photograph.name, data)
            usable += 1
    return usable, refused


def _free(name: str, taken: set[str]) -> str:
    """The name, or one like it that is not taken; it is taken from then on."""
    stem, dot, suffix = name.rpartition(".") if "." in name else (name, "", "")
    number = 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}{dot}{suffix}"
    taken.add(name)
    return name


def _private(path: Path, append: bool = False) -> Any:
    """A file for its owner alone, to write to."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
    return os.fdopen(os.open(path, flags, 0o600), "ab" if append else "wb")
