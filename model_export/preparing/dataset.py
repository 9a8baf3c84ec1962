"""The prepared faces, as `python -m model_export prepare` leaves them: memory-mapped, free of PyTorch."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.core.faces import Bytes, Floats
from model_export.preparing.packing import unpack

Split = Literal["train", "test"]


@dataclass(frozen=True)
class FaceSet:
    """One side of a prepared set; every array has one entry a face, in the same order.

    Attributes:
        faces: [n, 128, 128, 3] uint8 RGB in the face frame, memory-mapped and read-only.
        embeddings: [n, 192] float32, unit vectors of the recogniser, memory-mapped.
        embeddings_mirrored: the same for the horizontally mirrored faces.
        names: file names inside the source, its name and a slash before them where it has one.
        clusters: [n] int64, cluster number: faces that look like one person share it.
        ages: [n] float32, years; nan where unknown.
        genders: [n] int64, index into `gender_names`; -1 where unknown.
        groups: [n] int64, index into `group_names`; -1 where unknown.
        grey: [n] bool, whether the picture has no colour.
        channel_differences: [n] float32, mean over the face of largest minus least channel, 0..255; 0 is grey.
        turns: [n] float32, nose tip off the eyes' middle in eye distances, unsigned; 0 is frontal, 0.6 three-quarter.
        weights: [n] float32, how often to draw a face for training, of mean 1; see `sampling`.
        estimated: [n, 3] bool, whether age, gender, group were estimated rather than labelled.
        sources: [n] int64, index into `source_names`; -1 where unknown.
        gender_names, group_names, source_names: the labels of the whole set (both sides), sorted.
    """

    faces: Bytes
    embeddings: Floats
    embeddings_mirrored: Floats
    names: list[str]
    clusters: NDArray[np.int64]
    ages: Floats
    genders: NDArray[np.int64]
    groups: NDArray[np.int64]
    grey: NDArray[np.bool_]
    channel_differences: Floats
    turns: Floats
    weights: Floats
    estimated: NDArray[np.bool_]
    sources: NDArray[np.int64]
    gender_names: tuple[str, ...]
    group_names: tuple[str, ...]
    source_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def open(cls, path: Path | str, split: Split | None = None) -> FaceSet:
        """Open a prepared folder, or one of its parts packed; `split` None opens both sides, train first.

        Raises:
            FileNotFoundError: the folder holds no finished prepared set.
            ValueError: its files do not belong together.
        """
        rows, faces, embeddings, mirrored = _read(Path(path))
        gender_names, group_names, source_names = (_names(rows, label) for label in ("gender", "group", "source"))
        # Train rows come first in the files, so that each side is one slice and stays memory-mapped.
        train = sum(row["split"] == "train" for row in rows)
        part = {None: slice(None), "train": slice(0, train), "test": slice(train, None)}[split]
        if any(row["split"] != "train" for row in rows[:train]):
            raise ValueError(f"{path}: faces.csv is not ordered train first; run prepare again")
        rows = rows[part]
        return cls(
            faces=faces[part],
            embeddings=embeddings[part],
            embeddings_mirrored=mirrored[part],
            names=[row["file"] for row in rows],
            clusters=np.array([int(row["cluster"]) for row in rows], np.int64),
            ages=_numbers(rows, "age", math.nan),
            genders=_indices([row["gender"] for row in rows], gender_names),
            groups=_indices([row["group"] for row in rows], group_names),
            grey=np.array([row["grey"] == "1" for row in rows], np.bool_),
            channel_differences=_numbers(rows, "channel_difference", math.nan),
            turns=_numbers(rows, "turn", math.nan),
            weights=_numbers(rows, "weight", 1.0),
            estimated=np.array(
                [[name in row.get("estimated", "").split() for name in LABELS] for row in rows], np.bool_
            ),
            sources=_indices([row.get("source", "") for row in rows], source_names),
            gender_names=gender_names,
            group_names=group_names,
            source_names=source_names,
        )


ARRAYS = ("faces", "embeddings", "embeddings_mirrored")
"""The array files of a prepared set, each NAME.npy."""


def _read(folder: Path) -> tuple[list[dict[str, str]], Bytes, Floats, Floats]:
    """The table and the arrays: memory-mapped, or out of the parts of a packed set."""
    if any(folder.glob("part-*.tar")):
        return unpack(folder)
    if not (folder / "report.json").exists():
        raise FileNotFoundError(f"{folder}: no finished prepared set; run `python -m model_export prepare` first")
    with (folder / "faces.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    faces, plain, mirrored = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS)
    if any(len(array) != len(rows) for array in (faces, plain, mirrored)):
        raise ValueError(f"{folder}: faces.csv and the arrays differ in length; run prepare again")
    return rows, faces, plain, mirrored


LABELS = ("age", "gender", "group")
"""What is known or estimated of a face, in the order of `FaceSet.estimated`."""


def _names(rows: list[dict[str, str]], label: str) -> tuple[str, ...]:
    return tuple(sorted({row.get(label, "") for row in rows} - {""}))


def _numbers(rows: list[dict[str, str]], column: str, missing: float) -> Floats:
    """A column of numbers [n]; `missing` where it is empty, or where an older set has no such column."""
    return np.array([float(row.get(column) or missing) for row in rows], np.float32)


def _indices(labels: list[str], names: tuple[str, ...]) -> NDArray[np.int64]:
    positions = {name: index for index, name in enumerate(names)}
    return np.array([positions.get(label, -1) for label in labels], np.int64)
