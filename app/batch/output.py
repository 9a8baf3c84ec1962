"""The folder that `python -m app augment` fills, and what earlier runs left in it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from app.batch.job import Made
from app.batch.layout import IMAGES, MANIFEST, RUN, SHARDS, Layout, printable
from app.batch.shards import Shards
from app.errors import CannotRun

LOCK = ".lock"


@dataclass
class Tally:
    """What became of the photographs of this run."""

    used: int = 0
    images: int = 0
    short: int = 0
    skipped: int = 0


def lock_of(folder: Path, what: str) -> FileLock:
    """The lock of a folder, taken; a process that is killed leaves it open.

    Args:
        folder: it is there.
        what: is at work in it, for the message.

    Raises:
        CannotRun: another one is.
    """
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        told = f"{folder}: another {what} is at work in it; wait for its end, or name a new folder"
        raise CannotRun(told) from None
    return lock


@dataclass
class Output:
    """The folder of a run; everything below is for whoever holds its `lock`.

    Attributes:
        folder: OUT.
        layout: where images lie in it.
        done: photographs whose images and lines are complete, by name, with the digest of each.
        images: how many images there are of them.
        passed: names of photographs that were skipped, and stay so.
        lasting: whether a photograph is gone once it was used, so that what was skipped stays skipped.
        mode: of new files.
    """

    folder: Path
    layout: Layout = field(default_factory=Layout)
    lasting: bool = False
    mode: int = 0o666
    done: dict[str, str] = field(default_factory=dict)
    images: int = 0
    passed: set[str] = field(default_factory=set)

    @property
    def manifest(self) -> Path:
        """Its `manifest.jsonl`."""
        return self.folder / MANIFEST

    @property
    def skipped(self) -> Path:
        """Its `skipped.jsonl`."""
        return self.folder / "skipped.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other run out of the folder; a process that is killed leaves it open.

        Raises:
            CannotRun: another run is at work in it, or it holds something else.
        """
        new = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_ours()
        lock = lock_of(self.folder, "run")
        try:
            yield
        finally:
            lock.release()
            if new and not self._run.exists():
                with contextlib.suppress(OSError):  # nothing came of it
                    (self.folder / LOCK).unlink()
                    self.folder.rmdir()

    @property
    def _run(self) -> Path:
        return self.folder / RUN

    def _check_ours(self) -> None:
        ours = (f"{self._run.name}.part", LOCK, *([self.skipped.name] if self.lasting else []))
        if not self._run.exists() and any(other not in ours for other in os.listdir(self.folder)):
            raise CannotRun(f"{self.folder} is not empty and holds no run; name a new folder")

    def claim(self, asked: dict[str, Any]) -> None:
        """Make the folder this run's, or find out how far it came before.

        Raises:
            CannotRun: it holds something else.
        """
        path, text = self._run, json.dumps(asked, indent=1) + "\n"
        self._check_ours()
        if not path.exists():
            self._replace(path, [text])
        before = _loads(path, path.read_bytes())
        if before != json.loads(text):
            changed = sorted(name for name in before | asked if before.get(name) != json.loads(text).get(name))
            raise CannotRun(f"{self.folder} holds a run with another {', '.join(changed)}; name a new folder")
        self._take_stock()

    def _take_stock(self) -> None:
        """Read the manifest, and cut off the photograph it ends with where its lines are not complete."""
        if self.lasting and self.skipped.exists():
            told, end, _ = self.skipped.read_bytes().rpartition(b"\n")
            os.truncate(self.skipped, len(told + end))
            self.passed = {_loads(self.skipped, line)["source"] for line in told.splitlines()}
        if not self.manifest.exists():
            return
        there: dict[str, int] = {}
        lost: set[str] = set()
        start = whole = 0  # where the lines of the last photograph begin, and where the last line that is whole ends
        source, of = "", 0
        with self.manifest.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                row = _loads(self.manifest, line)
                if row["source"] != source:
                    source, of, start = row["source"], row["of"], whole
                whole += len(line)
                there[source] = there.get(source, 0) + 1
                self.done[source] = row["source_sha256"]
                if "member" not in row and not _holds(self.folder / row["file"]):
                    lost.add(source)
        if source and there[source] < of:
            whole = start
            del self.done[source], there[source]
        os.truncate(self.manifest, whole)
        self.images = sum(there.values())
        self.forget(lost & set(self.done))

    def forget(self, names: Iterable[str]) -> None:
        """Take photographs out of the folder, images and lines, so that they are used anew."""
        names = set(names)
        if not names:
            return
        self._replace(self.manifest, self._without(names))
        for name in names:
            del self.done[name]

    def _without(self, names: set[str]) -> Iterator[str]:
        """The lines of all other photographs, while the images of these are removed."""
        self.images = 0
        for row in self._rows():
            if row["source"] in names:
                # Before their lines are, so that what is killed here is found to be missing by the next run.
                (self.folder / row["file"]).unlink(missing_ok=True)
            else:
                self.images += 1
                yield json.dumps(row) + "\n"

    @contextmanager
    def opened(self, images: int, suffix: str) -> Iterator[Writer]:
        """Go on writing where the folder ends.

        Args:
            images: wanted of each photograph.
            suffix: of their files.
        """
        again = self.manifest.exists()
        shards = self._shards() if self.layout.kind == "webdataset" else None
        if shards is None:
            (self.folder / IMAGES).mkdir(exist_ok=True)
        mode = "a" if self.lasting else "w"
        with (
            self._open(self.manifest, "a") as manifest,
            self._open(self.skipped, mode) as skipped,
        ):
            tally = Tally(used=len(self.done), images=self.images, skipped=len(self.passed))
            there = set(self.done)
            yield Writer(
                self.folder, self.layout, manifest, skipped, images, suffix, again, there, tally, shards, self.mode
            )

    @contextmanager
    def skipping(self) -> Iterator[Callable[[str, str, str], None]]:
        """Tell of photographs that cannot be used, by source, problem and detail, before the run begins."""
        self.folder.mkdir(exist_ok=True)
        with self._open(self.skipped, "a") as skipped:
            yield lambda *told: _skip(skipped, *told)

    def _shards(self) -> Shards:
        members: dict[str, list[str]] = {}
        classes: dict[str, int] | None = None if self.layout.unique else {}
        for row in self._rows():
            members.setdefault(Path(row["file"]).name, []).append(row["member"])
            if classes is not None:
                classes.setdefault(row["label"], len(classes))
        return Shards(self.folder / SHARDS, members, classes, self.images, self.mode)

    def describe(self) -> None:
        """Write `images/metadata.jsonl`, by which Hugging Face's `datasets` knows what the images are."""
        if self.layout.kind == "webdataset" or not self.manifest.exists():
            return
        self._replace(self.folder / IMAGES / "metadata.jsonl", (_described(row) for row in self._rows()))

    def _replace(self, path: Path, lines: Iterable[str]) -> None:
        part = path.with_name(path.name + ".part")
        with self._open(part, "w") as file:
            file.writelines(lines)
        part.replace(path)

    def _open(self, path: Path, mode: str) -> IO[str]:
        return open(path, mode, encoding="utf-8", opener=partial(os.open, mode=self.mode))

    def _rows(self) -> Iterator[dict[str, Any]]:
        if self.manifest.exists():
            with self.manifest.open(encoding="utf-8") as lines:
                for line in lines:
                    yield _loads(self.manifest, line)


@dataclass(frozen=True)
class Writer:
    """Adds photographs to a folder in the order in which they are given.

    Attributes:
        folder, layout: see `Output`.
        manifest, skipped: the files, open.
        wanted: images of each photograph.
        suffix: of their files.
        again: whether the folder may hold images that no manifest names, of a run that was killed.
        there: names of the photographs whose images the manifest names.
        tally: what became of all photographs so far.
        shards: what images are added to where they are no files of their own.
        mode: of new files.
    """

    folder: Path
    layout: Layout
    manifest: IO[str]
    skipped: IO[str]
    wanted: int
    suffix: str
    again: bool
    there: set[str]
    tally: Tally
    shards: Shards | None
    mode: int

    def write(self, made: Made) -> None:
        """Write images first and their lines after, so that what the manifest names is there."""
        # One that is refused may have the name of one that was used: a second entry of an archive, a link in its place.
        if self.again and not self.shards and made.name not in self.there:
            for index in range(self.wanted):
                (self.folder / self.layout.file(made.name, index, self.suffix)).unlink(missing_ok=True)
        if made.problem:
            self.skip(made)
            return
        lines = [self._placed(line) for line in made.lines]
        if self.shards:
            shard = self.shards.add(lines, made.images)
            lines = [{"file": f"{SHARDS}/{shard}"} | line for line in lines]
        else:
            for line, image in zip(lines, made.images, strict=True):
                file = self.folder / line["file"]
                file.parent.mkdir(exist_ok=True)
                with open(file, "wb", opener=partial(os.open, mode=self.mode)) as image_file:
                    image_file.write(image)
        self.manifest.write("".join(json.dumps(line) + "\n" for line in lines))
        self.manifest.flush()
        self.there.add(made.name)
        self.tally.used += 1
        self.tally.images += len(lines)
        self.tally.short += len(lines) < self.wanted

    def skip(self, made: Made) -> None:
        """Tell of a photograph that is not used; images that it has already stay."""
        _skip(self.skipped, made.name, made.problem, made.detail)
        self.tally.skipped += 1

    def _placed(self, line: dict[str, Any]) -> dict[str, Any]:
        """A line with where its image lies, and what it is labelled as."""
        source, index = line["source"], line["index"]
        place = self.layout.file(source, index, self.suffix)
        return {"member" if self.shards else "file": place, "label": self.layout.label(source, index)} | line


def _skip(skipped: IO[str], source: str, problem: str, detail: str) -> None:
    skipped.write(json.dumps({"source": source, "problem": problem, "detail": detail}) + "\n")
    skipped.flush()


def _described(row: dict[str, Any]) -> str:
    """A line of the manifest as `datasets` takes it: a path from where it stands, and text that is text."""
    about = {key: row[key] for key in ("label", "index", "control", "similarity", "in_band", "id")}
    name = {"file_name": row["file"].removeprefix(f"{IMAGES}/"), "source": printable(row["source"])}
    return json.dumps(name | about) + "\n"


def _holds(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_size > 0
    return False


def _loads(path: Path, text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CannotRun(f"{path}: damaged; name a new folder")
    return value
