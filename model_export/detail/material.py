"""What the detail stage learns from: photographs cut anew at twice the side, and what the served models draw."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from app.core.faces import FRAME_SIZE, Bytes, Detector, Floats, align
from app.core.generate import NEUTRAL, Generator, uniform_controls
from app.runtime.manifest import NETWORKS
from model_export.exporting.graphs import digest
from model_export.networks.detail import SCALE
from model_export.preparing.cutting import UnusablePicture, read_picture
from model_export.preparing.dataset import FaceSet, Split
from model_export.preparing.files import replacing, write_json
from model_export.preparing.pictures import Pictures
from model_export.preparing.sources import Sources

LARGE = SCALE * FRAME_SIZE
"""Side of large faces, in pixels."""
LEAST_EYES = 72.0
"""Least distance of the eyes in a photograph, in pixels: in a large face they are 103 apart."""
BATCH = 16


@dataclass(frozen=True)
class Material:
    """One side of a prepared set as the detail stage sees it.

    Attributes:
        photographs: [n, 256, 256, 3] uint8, faces in the face frame.
        drawings: [m, 2, 128, 128, 3] uint8, as the decoder draws m faces: a redrawing and a variant.
        embeddings: [m, 192] of the photographs that the drawings are of.
    """

    photographs: Bytes
    drawings: Bytes
    embeddings: Floats


@dataclass(frozen=True)
class Wanted:
    """Which photographs serve.

    Attributes:
        faces: most photographs of a side of the set, and most faces that are drawn.
        least_eyes: least distance of the eyes in a photograph, in pixels.
        sources: names of the sources that have real detail; empty for all. Many a picture was enlarged before.
    """

    faces: int
    least_eyes: float = LEAST_EYES
    sources: tuple[str, ...] = ()


def gather(sources: Sources, prepared: Path, models: Path, split: Split, folder: Path, wanted: Wanted) -> Material:
    """Cut and draw, or read what an earlier call left in `folder`.

    Args:
        sources: the photographs that the set was prepared from.
        prepared: the set.
        models: encoder, decoder and detectors, as they are served.
        split: which side of the set.
        folder: where both kinds are kept.
        wanted: which photographs.

    Raises:
        ValueError: no photograph is large enough, or the folder holds what was made of others.
    """
    paths = {field.name: folder / f"{split}-{field.name}.npy" for field in fields(Material)}
    made_of, told = _made_of(sources, prepared, models, wanted), folder / f"{split}.json"
    if told.exists():
        if changed := [name for name, value in json.loads(told.read_text()).items() if made_of.get(name) != value]:
            raise ValueError(f"{folder} was begun with another {' and '.join(changed)}: use another folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        chosen = _large_enough(prepared, split, wanted)
        photographs = list(_cut(sources, chosen, models))
        if not photographs:
            raise ValueError(
                f"{prepared}: no photograph of the {split} side has eyes {wanted.least_eyes:g} pixels apart"
            )
        made: tuple[Bytes | Floats, ...] = (
            np.stack(photographs),
            *_draw(FaceSet.open(prepared, split), models, wanted.faces),
        )
        for path, array in zip(paths.values(), made, strict=True):
            with replacing(path) as unfinished, unfinished.open("wb") as file:
                np.save(file, array)
        write_json(told, made_of)
    return Material(*(np.load(path, mmap_mode="r") for path in paths.values()))


def _made_of(sources: Sources, prepared: Path, models: Path, wanted: Wanted) -> dict[str, Any]:
    """All that the material depends on, as it comes back out of JSON."""
    return {
        "encoder": digest(models / NETWORKS["encoder"]),
        "decoder": digest(models / NETWORKS["decoder"]),
        "set": digest(prepared / "faces.csv"),
        "photographs": [str(source.photographs.resolve()) for source in sources.source],
        "choice": json.loads(json.dumps(asdict(wanted))),
    }


def _large_enough(prepared: Path, split: Split, wanted: Wanted) -> dict[str, list[str]]:
    """Files of large photographs by source, at random."""
    with (prepared / "faces.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    rows = [row for row in rows if float(row["eye_distance"]) >= wanted.least_eyes]
    rows = [row for row in rows if row["source"] in wanted.sources or not wanted.sources]
    found: defaultdict[str, list[str]] = defaultdict(list)
    for place in np.sort(np.random.default_rng(0).permutation(len(rows))[: wanted.faces]):
        source = rows[place]["source"]
        found[source].append(rows[place]["file"].removeprefix(f"{source}/"))
    return found


def _cut(sources: Sources, chosen: dict[str, list[str]], models: Path) -> Iterator[Bytes]:
    """Faces of these files, [256, 256, 3] each."""
    detect = Detector(models, "cpu", 1)
    for source in sources.source:
        with Pictures(source.photographs) as pictures:
            for name in tqdm(chosen.get(source.name, []), unit="file", desc=f"cutting {source.name}".strip()):
                try:
                    image = read_picture(pictures.read(name))
                except UnusablePicture:  # it was read before, so it has changed since
                    continue
                if faces := detect(image, None):
                    yield align(image, faces[0], LARGE)


def _draw(faces: FaceSet, models: Path, most: int) -> tuple[Bytes, Floats]:
    """Redrawings and random variants of so many faces, and the faces' embeddings; see `Material`."""
    random = np.random.default_rng(1)
    generator = Generator(models, "cpu", 1)
    rows = np.sort(random.permutation(len(faces))[:most])
    drawn, embeddings = [], []
    for some in tqdm(np.array_split(rows, max(1, -(-len(rows) // BATCH))), desc="drawing"):
        identities, seen = generator.encode(faces.faces[some])
        controls = (np.repeat(NEUTRAL, len(some), 0), uniform_controls(random, len(some)))
        drawn.append(np.stack([generator.decode(identities, control)[0] for control in controls], 1))
        embeddings.append(seen)
    return np.concatenate(drawn), np.concatenate(embeddings)
