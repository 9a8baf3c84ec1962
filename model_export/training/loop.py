"""The loop around the steps: checkpoints, figures, sheets, and when to stop."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from model_export.preparing.dataset import FaceSet
from model_export.training.preview import preview
from model_export.training.trainer import Trainer

LINE_SECONDS = 20
"""Between two lines of losses in `stats.jsonl`."""


@dataclass(frozen=True)
class RunFolder:
    """Where a run lies.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """Its settings."""
        return self.path / "config.json"

    @property
    def checkpoint(self) -> Path:
        """Its state."""
        return self.path / "checkpoint.pt"

    @property
    def stats(self) -> Path:
        """Its losses and figures, a line for each moment."""
        return self.path / "stats.jsonl"

    def sheet(self, images: int) -> Path:
        """How held-out faces looked after `images` faces."""
        return self.path / f"sheet-{images:08d}.png"

    def add(self, images: int, figures: dict[str, float]) -> None:
        """Add a line to `stats.jsonl`."""
        line = {"images": images} | {name: round(value, 6) for name, value in figures.items()}
        with self.stats.open("a") as file:
            file.write(json.dumps(line) + "\n")


class Losses:
    """Means of the losses between two lines."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)

    def count(self, report: dict[str, float]) -> None:
        """Count in a step's.

        Raises:
            FloatingPointError: one is not finite; what follows from it would replace a checkpoint that is sound.
        """
        if bad := [name for name, value in report.items() if not math.isfinite(value)]:
            raise FloatingPointError(f"not finite: {', '.join(bad)}")
        for name, value in report.items():
            self._values[name].append(value)

    def means(self) -> dict[str, float]:
        """Of what was counted since the last call."""
        means = {name: float(np.mean(values)) for name, values in self._values.items()}
        self._values.clear()
        return means


class Every:
    """Whether so many seconds have passed since it last said so."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._last = seconds, time.monotonic()

    def due(self) -> bool:
        """Ask."""
        return time.monotonic() - self._last > self._seconds

    def done(self) -> None:
        """Count from now on."""
        self._last = time.monotonic()


@dataclass(frozen=True)
class Pace:
    """How long a run goes on and how often it leaves something behind.

    Attributes:
        limit: faces after which it stops.
        stop: whether it is to stop now.
        save_every, look_every: seconds between checkpoints and between sheets.
    """

    limit: int
    stop: Callable[[], bool]
    save_every: float
    look_every: float


def train(trainer: Trainer, held_out: FaceSet, folder: RunFolder, pace: Pace) -> None:
    """Step until the faces or the time run out, then write a checkpoint and a sheet.

    Raises:
        FloatingPointError: a loss is not finite; the last checkpoint stays.
    """
    keep_stepping(
        trainer,
        lambda: trainer.images,
        folder,
        replace(pace, stop=lambda: trainer.processes.any_of(pace.stop(), trainer.device)),
        lambda: write_sheet(trainer, held_out, folder),
        writes=trainer.processes.rank == 0,
    )


class Stepping(Protocol):
    """A run as the loop sees it."""

    def step(self) -> dict[str, float]:
        """Make a step; returns its losses by name."""

    def save(self, path: Path) -> None:
        """Write a checkpoint."""


def keep_stepping(
    run: Stepping, seen: Callable[[], int], folder: RunFolder, pace: Pace, sheet: Callable[[], None], *, writes: bool
) -> None:
    """Step until the limit or the time is reached, then write a checkpoint and a sheet.

    Args:
        run: whose steps they are.
        seen: how far it is, in the unit of the pace's limit.
        folder: of the run.
        pace: how long, and how often something is left behind.
        sheet: writes a sheet.
        writes: whether this process is the one that writes; the others only step.

    Raises:
        FloatingPointError: a loss is not finite; the last checkpoint stays.
    """
    losses, started, first = Losses(), time.monotonic(), seen()
    line, save, look = Every(LINE_SECONDS), Every(pace.save_every), Every(pace.look_every)
    while seen() < pace.limit and not pace.stop():
        losses.count(run.step())
        if not writes:
            continue
        if line.due():
            seconds = time.monotonic() - started
            folder.add(seen(), {"seconds": seconds, "rate": (seen() - first) / seconds} | losses.means())
            line.done()
        if save.due():
            run.save(folder.checkpoint)
            save.done()
        if look.due():
            sheet()
            look.done()
    if writes:
        run.save(folder.checkpoint)
        sheet()


def write_sheet(trainer: Trainer, held_out: FaceSet, folder: RunFolder) -> None:
    """Draw held-out faces, and say how like they are; nothing of a set that holds none out."""
    if not len(held_out):
        return
    with torch.compiler.set_stance("force_eager"):  # compiling for batches of other sizes takes longer than a sheet
        sheet, figures = preview(trainer.networks, trainer.frozen.service, held_out)
    sheet.save(folder.sheet(trainer.images))
    folder.add(trainer.images, figures)
    print(f"{trainer.images} faces:", {name: round(value, 3) for name, value in figures.items()}, flush=True)
