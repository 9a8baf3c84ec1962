"""Faces of photographs, in the face frame: found anew, or read from the cuts that `prepare` keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from app.core.faces import Bytes, Detector, Floats, align

NO_PERSON = {"train", "test", "val", "frontal", "images"}
"""Folders of data sets that name a part of the set, not a person."""
BLURS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Radii in pixels that are tried to take away sharpness."""


@dataclass(frozen=True)
class Frames:
    """Faces of photographs.

    Attributes:
        faces: [n, 128, 128, 3].
        people: who is on each [n]: a folder's name, or the file's where there is none.
        without: photographs in which no face was found.
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
    photograph = Image.open(source).convert("RGB")
    found = detector(photograph, None)
    return align(photograph, found[0]) if found else None


def _photographs(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.suffix.lower() in {".jpg", ".jpeg", ".png"} and "profile" not in path.parts:
            yield path


def _cut_files(folder: Path) -> Iterator[tuple[str, tuple[Path, int | None]]]:
    for described in sorted(folder.glob("[0-9]*.json")):
        faces = described.with_suffix(".faces.npy")
        for entry in json.loads(described.read_text()):
            yield entry["file"], (faces, entry.get("row"))


def matched(drawn: Bytes, models: Bytes) -> Bytes:
    """Drawn faces [n, s, s, 3] in the manner of photographs [n, s, s, 3]: light, colour and sharpness of each.

    Each channel gets the photograph's mean and standard deviation (Reinhard et al., "Color transfer between images",
    2001, in RGB). Blurred by the least of `BLURS` with which it is no sharper; what is softer stays so.
    """
    return np.stack([_matched(face, model) for face, model in zip(drawn, models, strict=True)])


def _matched(face: Bytes, model: Bytes) -> Bytes:
    aim, picture = sharpness(model), Image.fromarray(face)
    blurred = face
    for radius in BLURS:
        blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(radius))) if radius else face
        if sharpness(blurred) <= aim:
            break
    levels = blurred.astype(np.float64)
    wanted = model.astype(np.float64)
    spread = np.maximum(levels.std((0, 1)), 1e-6)
    moved = (levels - levels.mean((0, 1))) / spread * wanted.std((0, 1)) + wanted.mean((0, 1))
    return np.clip(np.rint(moved), 0, 255).astype(np.uint8)


def sharpness(face: NDArray[Any]) -> float:
    """Variance of the Laplacian over that of the levels, of luminance: what does not change with contrast."""
    grey = face.astype(np.float64).mean(2)
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(laplacian.var() / max(grey.var(), 1e-9))
