"""The folder that `python -m app augment` fills, and what earlier runs left in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from app.batch.job import Made
from app.errors import CannotRun


@dataclass
class Tally:
    """What became of the photographs of this run."""

    used: int = 0
    images: int = 0
    short: int = 0
    skipped: int = 0


@dataclass
class Output:
    """The folder of a run.

    Attributes:
        folder: OUT.
        done: names of photographs whose images and lines are complete.
        images: how many images there are of them.
    """

    folder: Path
    done: set[str] = field(default_factory=set)
    images: int = 0

    @property
    def manifest(self) -> Path:
        """Its `manifest.jsonl`."""
        return self.folder / "manifest.jsonl"

    @property
    def skipped(self) -> Path:
        """Its `skipped.jsonl`."""
        return self.folder / "skipped.jsonl"

    def claim(self, asked: dict[str, Any]) -> None:
        """Make the folder this run's, or find out how far it came before.

        Raises:
            CannotRun: it holds something else.
        """
        path = self.folder / "run.json"
        text = json.dumps(asked, indent=1) + "\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            if any(other != f"{path.name}.part" for other in os.listdir(self.folder)):
                raise CannotRun(f"{self.folder} is not empty and holds no run; name a new folder")
            part = path.with_name(path.name + ".part")
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        before = _loads(path, path.read_text(encoding="utf-8"))
        if before != json.loads(text):
            changed = sorted(name for name in before | asked if before.get(name) != json.loads(text).get(name))
            raise CannotRun(f"{self.folder} holds a run with another {', '.join(changed)}; name a new folder")
        self._take_stock()

    def _take_stock(self) -> None:
        """Read the manifest, and cut off the photograph it ends with: nothing says that its lines are complete."""
        if not self.manifest.exists():
            return
        counts: dict[str, int] = {}
        last, start, place = "", 0, 0
        with self.manifest.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    source = str(_loads(self.manifest, line.decode())["source"])
                    if source != last:
                        last, start = source, place
                    counts[source] = counts.get(source, 0) + 1
                place += len(line)
        os.truncate(self.manifest, start)
        counts.pop(last, None)
        self.done, self.images = set(counts), sum(counts.values())

    @contextmanager
    def opened(self, images: int) -> Iterator[Writer]:
        """Go on writing where the folder ends; so many images are wanted of each photograph."""
        with self.manifest.open("a", encoding="utf-8") as manifest, self.skipped.open("w", encoding="utf-8") as skipped:
            yield Writer(self.folder, manifest, skipped, images, Tally(used=len(self.done), images=self.images))


@dataclass(frozen=True)
class Writer:
    """Adds photographs to the folder in the order in which they are given."""

    folder: Path
    manifest: IO[str]
    skipped: IO[str]
    wanted: int
    tally: Tally

    def write(self, made: Made) -> None:
        """Write images first and their lines after, so that what the manifest names is there."""
        if made.problem:
            line = {"source": made.name, "problem": made.problem, "detail": made.detail}
            self.skipped.write(json.dumps(line) + "\n")
            self.skipped.flush()
            self.tally.skipped += 1
            return
        for line, image in zip(made.lines, made.images, strict=True):
            file = self.folder / line["file"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image)
        self.manifest.write("".join(json.dumps(line) + "\n" for line in made.lines))
        self.manifest.flush()
        self.tally.used += 1
        self.tally.images += len(made.lines)
        self.tally.short += len(made.lines) < self.wanted


def _loads(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CannotRun(f"{path}: damaged; name a new folder")
    return value
