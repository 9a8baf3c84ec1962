"""A run in small files, for a machine from which only such come back: half-precision weights, cut in parts.

    python -m model_export train DATA RUN --deliver PARTS      # there
    python -m model_export.training.parts PARTS RUN            # here: RUN can be trained on, and exported

The name of each part has the SHA-256 of the whole, so parts of two runs, or of two moments of one, are never mixed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from model_export.training.loop import RunFolder
from model_export.training.trainer import Trainer

PART_BYTES = 15 * 2**20
"""Under 16 MiB, and under 16 MB too."""
NAME = re.compile(r"weights-(?P<digest>[0-9a-f]{64})-(?P<number>\d+)-of-(?P<count>\d+)")


def deliver(trainer: Trainer, run: RunFolder, folder: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Write weights, settings, figures and the last sheet of a run into a folder, no file larger than a part.

    What an earlier delivery left there is removed. Returns the parts of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("weights-*"), *folder.glob("sheet-*.png")):
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "whole"
        trainer.networks.save_for_travel(whole, trainer.images)
        data = whole.read_bytes()
    digest, pieces = hashlib.sha256(data).hexdigest(), range(0, len(data), part_bytes)
    parts = [folder / f"weights-{digest}-{number}-of-{len(pieces)}" for number in range(1, len(pieces) + 1)]
    for part, start in zip(parts, pieces, strict=True):
        part.write_bytes(data[start : start + part_bytes])
    for file in (run.config, run.stats, run.sheet(trainer.images)):
        if file.exists() and file.stat().st_size <= part_bytes:
            shutil.copy(file, folder)
    return parts


def join(folder: Path, run: RunFolder) -> None:
    """Make a run of what `deliver` left in a folder.

    Raises:
        ValueError: parts are missing, damaged, or of several deliveries.
        FileExistsError: there is a run already, whose optimisers know more.
    """
    found = {int(match["number"]): path for path, match in _named(folder)}
    kinds = {(match["digest"], int(match["count"])) for _, match in _named(folder)}
    if len(kinds) != 1:
        raise ValueError(f"{folder}: parts of {len(kinds)} deliveries are here, not of one")
    ((digest, count),) = kinds
    if len(found) != count:
        raise ValueError(f"{folder}: {len(found)} of {count} parts are here")
    data = b"".join(found[number].read_bytes() for number in sorted(found))
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"{folder}: a part is damaged")
    if run.checkpoint.exists():
        raise FileExistsError(f"{run.checkpoint} is there already: name another folder for the run")
    run.path.mkdir(parents=True, exist_ok=True)
    for file in (run.config, run.stats):
        if (folder / file.name).exists():
            shutil.copy(folder / file.name, file)
    partial = run.checkpoint.with_suffix(".partial")
    partial.write_bytes(data)
    os.replace(partial, run.checkpoint)


def _named(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    return [(path, match) for path in folder.iterdir() if (match := NAME.fullmatch(path.name))]


def main(words: Sequence[str] | None = None) -> int:
    """Join what was delivered; returns 0, or 2 with a message where that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m model_export.training.parts", description="Join what came back.")
    parser.add_argument("parts", type=Path, help="folder that `train --deliver` filled")
    parser.add_argument("run", type=Path, help="folder of the run to be made of it")
    arguments = parser.parse_args(words)
    try:
        join(arguments.parts, RunFolder(arguments.run))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
