"""The files of a prepared set, which `dataset.FaceSet` reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from app.core.faces import EMBEDDING_SIZE, FRAME_SIZE
from model_export.preparing.candidates import Candidate, fill
from model_export.preparing.dataset import ARRAYS
from model_export.preparing.files import replacing, write_csv

MEASURES = (
    "score",
    "eye_distance",
    "turn",
    "misfit",
    "outside",
    "padding",
    "sharpness",
    "brightness",
    "contrast",
    "channel_difference",
)


def write_set(out: Path, kept: Sequence[Candidate], dropped: Iterable[tuple[str, str, str]]) -> None:
    """Write the arrays and tables.

    Args:
        out: the folder.
        kept: the faces, in their order.
        dropped: source, file and reason of the others.
    """
    out.mkdir(parents=True, exist_ok=True)
    for kind in ARRAYS:
        _write_array(out / f"{kind}.npy", kind, kept)
    _write_table(out / "faces.csv", kept)
    write_csv(out / "dropped.csv", ("source", "file", "reason"), sorted(dropped))


def _write_array(path: Path, kind: str, kept: Sequence[Candidate]) -> None:
    shape = (FRAME_SIZE, FRAME_SIZE, 3) if kind == "faces" else (EMBEDDING_SIZE,)
    dtype = np.uint8 if kind == "faces" else np.float32
    with replacing(path) as unfinished:
        array = np.lib.format.open_memmap(unfinished, mode="w+", dtype=dtype, shape=(len(kept), *shape))
        fill(array, kind, kept)
        array.flush()


def _write_table(path: Path, kept: Sequence[Candidate]) -> None:
    header = ("row", "file", "split", "age", "gender", "group", *MEASURES, "grey", "cluster")
    rows = [
        (
            row,
            candidate.name,
            "test" if candidate.test else "train",
            "" if np.isnan(candidate.labels.age) else f"{candidate.labels.age:g}",
            candidate.labels.gender,
            candidate.labels.group,
            *(f"{getattr(candidate.quality, measure):.4f}" for measure in MEASURES),
            int(candidate.quality.grey),
            candidate.cluster,
            candidate.source,
            f"{candidate.weight:.4f}",
            " ".join(candidate.estimated),
        )
        for row, candidate in enumerate(kept)
    ]
    write_csv(path, (*header, "source", "weight", "estimated"), rows)
