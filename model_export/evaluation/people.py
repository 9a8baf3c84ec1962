"""Real people to test on: faces of photographs, found anew, or read from the cuts that `prepare` keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.core.faces import Bytes, Detector, Floats, align
from model_export.preparing.cutting import UnusablePicture, read_picture

NO_PERSON = {"train", "test", "val", "frontal", "profile", "images"}
"""Folders of data sets that name a part of the set, not a person."""


@dataclass(frozen=True)
class Frames:
    """Faces of photographs.

    Attributes:
        faces: [n, 128, 128, 3].
        people: who is on each [n]: a folder's name, or the file's where there is none.
        without: photographs in which no face was found, or that are none.
        embeddings: the service's unit vectors [n, 192], where cuts have them beside the faces.
    """

    faces: Bytes
    people: list[str]
    without: int
    embeddings: Floats | None = None


def person_of(file: str) -> str:
    """Whose photograph a file is, by the first folder of its path that can be a person's."""
    parts = [part for part in Path(file).parts if part not in NO_PERSON]
    return parts[0] if parts else file


def read(folder: Path, models: Path, each: int, people: int, seed: int = 0) -> Frames:
    """The first `each` faces of people, in name order.

    Args:
        folder: of photographs, or of a source's cuts as `model_export prepare` leaves them.
        models: with the detector.
        each: faces of a person; who has fewer is left out.
        people: at most so many, drawn by `seed`; all of them in name order where there are no more.

    Raises:
        ValueError: nobody has so many photographs with a face.
    """
    cuts = sorted(folder.glob("*.faces.npy"))
    files = dict(_cut_files(folder)) if cuts else {str(path.relative_to(folder)): path for path in _photographs(folder)}
    by_person: dict[str, list[str]] = {}
    for file in sorted(files):
        by_person.setdefault(person_of(file), []).append(file)
    names = sorted(name for name, own in by_person.items() if len(own) >= each)
    if len(names) > people:
        chosen = np.random.default_rng(seed).permutation(len(names))[:people]
        names = [names[number] for number in sorted(chosen)]
    detector = None if cuts else Detector(models, "cpu", 1)
    faces: list[Bytes] = []
    owners: list[str] = []
    used: list[Any] = []
    without = 0
    for name in names:
        own = []
        for file in by_person[name]:
            face = _face(files[file], detector)
            without += face is None
            own += [(face, files[file])] if face is not None else []
            if len(own) == each:
                faces += [one for one, _ in own]
                used += [source for _, source in own]
                owners += [name] * each
                break
    if not faces:
        raise ValueError(f"{folder}: nobody has {each} photographs with a face")
    return Frames(np.stack(faces), owners, without, _cut_embeddings(used) if cuts else None)


def _cut_embeddings(used: list[tuple[Path, int]]) -> Floats:
    rows = [
        np.load(path.with_name(path.name.replace(".faces.", ".embeddings.")), mmap_mode="r")[row] for path, row in used
    ]
    return np.stack(rows).astype(np.float32)


def _face(source: Any, detector: Detector | None) -> Bytes | None:
    if detector is None:
        path, row = source
        return np.array(np.load(path, mmap_mode="r")[row]) if row is not None else None
    try:
        photograph = read_picture(source.read_bytes())
    except UnusablePicture:
        return None
    found = detector(photograph, None)
    return align(photograph, found[0]) if found else None


def _photographs(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.suffix.lower() in {".jpg", ".jpeg", ".png"} and "profile" not in path.relative_to(folder).parts:
            yield path


def _cut_files(folder: Path) -> Iterator[tuple[str, tuple[Path, int | None]]]:
    for described in sorted(folder.glob("[0-9]*.json")):
        faces = described.with_suffix(".faces.npy")
        for entry in json.loads(described.read_text()):
            yield entry["file"], (faces, entry.get("row"))
