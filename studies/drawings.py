"""What studies B and C learn from: photographs, what the generator makes of them, and people who do not exist.

Everything is drawn once, at the generator's size, kept under `runs/` at half of it, and read from there.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from app.core.faces import Bytes, Floats
from app.core.generate import IDENTITY_SIZE, Generator, uniform_controls
from app.runtime.manifest import NETWORKS
from app.runtime.sessions import Network
from studies.material import Kept, digest

PHOTOGRAPHS = 2000
"""Photographs to learn from, of as many people: each is a person of its own."""
NOBODIES, EACH = 10000, 20
"""People who do not exist, and drawings of each."""
NEIGHBOURS = 5
"""Photographs most like each, which are mined as other people."""
KINDS = {
    "redrawn": (0.0, 0.0),
    "near": (0.0, 0.2),
    "half": (0.0, 0.5),
    "full": (0.0, 1.0),
    "full again": (0.0, 1.0),
    "far": (0.6, 1.0),
    "farther": (0.8, 1.0),
}
"""Drawings of a photograph: the share of its identity that is a random one's instead, and the strength of its controls.

Controls alone lead hardly below a similarity of 0.5, for the generator keeps variants inside its band."""


@dataclass(frozen=True)
class Lessons:
    """What study B learns from.

    Attributes:
        photographs: [n, 64, 64, 3].
        neighbours: [n, 5], the others most like each, the most alike first.
        drawings: kind -> [n, 64, 64, 3], row by row of the photographs.
        similarity: kind -> [n], to the photograph, by the service's recogniser.
    """

    photographs: Bytes
    neighbours: np.ndarray
    drawings: dict[str, Bytes]
    similarity: dict[str, Floats]


def halved(faces: Bytes) -> Bytes:
    """Faces [n, s, s, 3] -> [n, s / 2, s / 2, 3], each pixel the mean of four."""
    count, side = faces.shape[:2]
    return np.rint(faces.reshape(count, side // 2, 2, side // 2, 2, 3).mean((2, 4))).astype(np.uint8)


def held_out(prepared: Path, count: int = PHOTOGRAPHS) -> np.ndarray:
    """Rows of photographs in a prepared folder that the generator was not trained on, one for each cluster of people.

    Raises:
        ValueError: there are fewer.
    """
    first: dict[str, int] = {}
    with (prepared / "faces.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == "test":
                first.setdefault(row["cluster"], int(row["row"]))
    if len(first) < count:
        raise ValueError(f"{prepared} holds {len(first)} people who were kept from training, not {count}")
    chosen = np.random.default_rng([0, 21]).permutation(np.array(list(first.values())))[:count]
    return np.sort(chosen)


def neighbours(vectors: Floats, each: int = NEIGHBOURS) -> np.ndarray:
    """Unit vectors [n, d] -> the rows of the others most like each [n, each], the most alike first."""
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -np.inf)
    return np.argsort(-alike, axis=1, kind="stable")[:, :each]


def mixed(identities: Floats, others: Floats, share: float) -> Floats:
    """Identities of which a share of the variance is that of others; both are about standard normal."""
    return np.asarray(np.sqrt(1 - share) * identities + np.sqrt(share) * others, np.float32)


def closest_below(similarity: dict[str, Floats], limit: float, kinds: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Of each photograph's drawings the one most like it that is less alike than a limit.

    Returns:
        Places in `kinds` [n], and whether there is one [n].
    """
    alike = np.stack([similarity[kind] for kind in kinds])
    below = np.where(alike < limit, alike, -np.inf)
    return below.argmax(0), np.isfinite(below.max(0))


class Drawings:
    """Draws, and keeps what was drawn by the content of the networks.

    Args:
        models: the folder with the service's networks.
        runs: what is computed is kept here.
    """

    def __init__(self, models: Path, runs: Path) -> None:
        names = [models / NETWORKS[name] for name in ("encoder", "decoder_int8", "recognizer")]
        self._kept = Kept(runs / digest(*names))
        self._models = models

    # Opened when something is not drawn yet: it takes seconds, and most runs find everything kept.
    # In int8, as the service draws on a processor that has instructions for it.
    @cached_property
    def _generator(self) -> Generator:
        return Generator(self._models, "cpu", 1, NETWORKS["decoder_int8"])

    @cached_property
    def _decoder(self) -> Network:
        """Alone, for who does not ask what the recogniser says of a drawing, which takes nearly as long."""
        return Network(self._models / NETWORKS["decoder_int8"], "cpu", 1)

    def lessons(self, prepared: Path, count: int = PHOTOGRAPHS) -> Lessons:
        """Photographs of a prepared folder and their drawings.

        Args:
            prepared: what `model_export prepare` wrote.
            count: how many of them.
        """
        rows = held_out(prepared, count)
        faces = np.load(prepared / "faces.npy", mmap_mode="r")
        vectors = np.load(prepared / "embeddings.npy", mmap_mode="r")[rows].astype(np.float32)
        source = f"photographs/{digest(prepared / 'faces.csv')}-{count}"
        small = self._kept(f"{source}/small", count, lambda part: halved(np.array(faces[rows[part]])))
        own = self._kept(
            f"{source}/identities", count, lambda part: self._generator.encode(np.array(faces[rows[part]]))[0]
        )
        pictures, similarity = {}, {}
        for number, (kind, (share, strength)) in enumerate(KINDS.items()):
            random = np.random.default_rng([0, 22, number])
            others = random.standard_normal(own.shape).astype(np.float32)
            controls = uniform_controls(random, count) * np.float32(strength)
            name = f"{source}/{kind}"
            pictures[kind], made = self._drawn(name, mixed(own, others, share), controls)
            similarity[kind] = (made * vectors).sum(1)
        return Lessons(small, neighbours(vectors), pictures, similarity)

    def nobodies(self, people: int = NOBODIES) -> Bytes:
        """People who do not exist [people, 20, 64, 64, 3]: drawing k under controls of strength k / 20."""
        random = np.random.default_rng([0, 23])
        identities = np.repeat(random.standard_normal((people, IDENTITY_SIZE)).astype(np.float32), EACH, 0)
        strengths = np.tile(np.arange(EACH) / EACH, people)[:, None].astype(np.float32)
        controls = uniform_controls(np.random.default_rng([0, 24]), people * EACH) * strengths

        def draw(part: slice) -> Bytes:
            return halved(np.asarray(self._decoder(identities[part], controls[part])[0], np.uint8))

        pictures = self._kept("nobodies", len(identities), draw)
        return pictures.reshape(people, EACH, *pictures.shape[1:])

    def _drawn(self, name: str, identities: Floats, controls: Floats) -> tuple[Bytes, Floats]:
        def draw(part: slice) -> Bytes:
            faces, vectors = self._generator.decode(identities[part], controls[part])
            self._kept.put(f"{name}/vectors", part.start, vectors)
            return halved(faces)

        pictures = self._kept(name, len(identities), draw)
        # They are kept with the pictures, before them, and made again only where somebody removed them.
        return pictures, self._kept(
            f"{name}/vectors", len(identities), lambda part: self._generator.decode(identities[part], controls[part])[1]
        )


def described(lessons: Lessons) -> dict[str, dict[str, float]]:
    """Of each kind of drawing how like the photograph it is: the quantiles of similarity, rounded."""
    ends = {"5 %": 0.05, "median": 0.5, "95 %": 0.95}
    return {
        kind: {name: round(float(np.quantile(alike, end)), 3) for name, end in ends.items()}
        for kind, alike in lessons.similarity.items()
    }


def version(models: Path) -> dict[str, str]:
    """Which weights drew."""
    manifest = json.loads((models / "manifest.json").read_text())
    return {"version": str(manifest.get("version")), "decoder_int8": digest(models / NETWORKS["decoder_int8"])}
