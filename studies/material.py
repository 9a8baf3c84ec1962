"""What the studies are made of: embeddings of photographs and drawings, computed once and kept under `runs/`."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from app.core.faces import Bytes, Floats, Recognizer, recognizer_maps
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE, Generator, uniform_controls
from app.runtime.manifest import NETWORKS
from app.runtime.sessions import Network
from model_export.evaluation.judge import Judge
from model_export.evaluation.people import Frames, read
from studies.frames import matched

RUNS = Path("runs/studies")
"""What is computed is kept here, beside networks of others that the studies need."""
GALLERY, PROBES = 2, 3
"""Photographs of a person on either side of a comparison."""
RANDOM, OTHERS = 1000, 2000
"""People who do not exist, and people of each other kind of photograph."""
CHUNK = 50
"""Rows between two points from which an interrupted run goes on."""

Embed = Callable[[Bytes], Floats]


@dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
        models: the folder with the service's networks.
        people: CFP, photographs or cuts.
        others: name of another kind of photograph -> its folder, photographs or cuts.
        mobileface, miner: ONNX files of `studies.mobileface` and `model_export.evaluation.judge`.
        runs: what is computed is kept here.
    """

    models: Path
    people: Path
    others: Mapping[str, Path]
    mobileface: Path
    miner: Path
    runs: Path


class Kept:
    """Arrays on disk, made a chunk at a time, so that an interrupted run goes on where it was."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, name: str, rows: int, make: Callable[[slice], np.ndarray]) -> np.ndarray:
        """Rows [rows, ...] of which `make` makes those of a slice."""
        starts = range(0, rows, CHUNK)
        for start in starts:
            if not self._path(name, start).exists():
                self.put(name, start, make(slice(start, min(start + CHUNK, rows))))
        # Gigabytes, at times: never held as chunks and as a whole.
        first = np.load(self._path(name, 0))
        whole = np.empty((rows, *first.shape[1:]), first.dtype)
        for start in starts:
            whole[start : start + CHUNK] = np.load(self._path(name, start))
        return whole

    def put(self, name: str, start: int, made: np.ndarray) -> None:
        """Keep the chunk of rows that begins at `start`, whole or not at all."""
        path = self._path(name, start)
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(".part.npy")
        np.save(whole, made)
        whole.replace(path)

    def _path(self, name: str, start: int) -> Path:
        return self._folder / name / f"{start:06d}.npy"


def digest(*paths: Path) -> str:
    """Twelve digits that name the content of files."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


def mobileface(path: Path) -> Embed:
    """MobileFace on the service's crop: faces [n, 128, 128, 3] -> unit vectors [n, 256]."""
    network, (rows, columns) = Network(path, "cpu", 1), recognizer_maps()

    def embed(faces: Bytes) -> Floats:
        crops = np.einsum("ab,nbcd,ec->naed", rows, faces.astype(np.float32), columns, optimize=True)
        vectors = np.asarray(network(np.ascontiguousarray(crops, np.float32))[0], np.float32)
        unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        return unit

    return embed


class Material:
    """Everything that is compared, by kind and recogniser.

    Kinds are `gallery` [p * 2], `probes` [p * 3], `redrawn` and `look-alikes` (of the gallery, row by row), `random`,
    `random matched` (row r in the manner of the gallery photograph `model_of[r]`), and the other kinds of photograph.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self._real = Kept(places.runs / digest(places.models / NETWORKS["recognizer"], places.mobileface, places.miner))
        drawn = [places.models / NETWORKS[name] for name in ("encoder", "decoder", "recognizer")]
        self._drawn = Kept(places.runs / digest(*drawn, places.mobileface))
        self._others: dict[str, Frames] = {}
        frames = self.frames
        each = GALLERY + PROBES
        self.people = len(frames.people) // each
        own = frames.faces.reshape(self.people, each, *frames.faces.shape[1:])
        self.gallery = own[:, :GALLERY].reshape(-1, *own.shape[2:])
        self.probes = own[:, GALLERY:].reshape(-1, *own.shape[2:])
        random = np.random.default_rng([0, 1])
        self._identities = random.standard_normal((RANDOM, IDENTITY_SIZE)).astype(np.float32)
        self._controls = uniform_controls(np.random.default_rng([0, 2]), len(self.gallery))
        self.model_of = np.random.default_rng([0, 3]).integers(0, len(self.gallery), RANDOM)

    @cached_property
    def frames(self) -> Frames:
        """The faces of CFP's people."""
        return read(self.places.people, self.places.models, GALLERY + PROBES, 10**9)

    @cached_property
    def generator(self) -> Generator:
        """The service's, on one core."""
        return Generator(self.places.models, "cpu", 1)

    @cached_property
    def recognisers(self) -> dict[str, Embed]:
        """Those under test."""
        return {
            "service": Recognizer(self.places.models, "cpu", 1),
            "unseen": mobileface(self.places.mobileface),
        }

    @cached_property
    def mined(self) -> tuple[Floats, Floats]:
        """The miner's unit vectors of gallery and probes."""
        miner = Judge(self.places.miner, 1)
        gallery = self._real("miner/gallery", len(self.gallery), lambda rows: miner(self.gallery[rows]))
        probes = self._real("miner/probes", len(self.probes), lambda rows: miner(self.probes[rows]))
        return gallery, probes

    def faces(self, kind: str) -> Bytes:
        """Pictures of a kind [n, 128, 128, 3]."""
        if kind in ("gallery", "probes"):
            return self.gallery if kind == "gallery" else self.probes
        if kind in self.places.others:
            return self._other(kind).faces
        if kind == "random matched":
            return matched(self.faces("random"), self.gallery[self.model_of])
        identities = self._identities if kind == "random" else self.identities
        controls = self._controls if kind == "look-alikes" else np.zeros((len(identities), CONTROL_SIZE), np.float32)

        def draw(rows: slice) -> Bytes:
            faces, vectors = self.generator.decode(identities[rows], controls[rows])
            # The decoder's graph ends in the recogniser: embedding its pictures again would give the same.
            self._drawn.put(f"service/{kind}", rows.start, vectors)
            return faces

        return self._drawn(f"faces/{kind}", len(identities), draw)

    @cached_property
    def identities(self) -> Floats:
        """Latents of the gallery."""
        return self._drawn("identities", len(self.gallery), lambda rows: self.generator.encode(self.gallery[rows])[0])

    def embeddings(self, kind: str, recogniser: str) -> Floats:
        """Unit vectors of a kind [n, d]."""
        real = kind in ("gallery", "probes") or kind in self.places.others
        if real and recogniser == "service" and (known := self._cut(kind)) is not None:
            return known
        faces, embed = self.faces(kind), self.recognisers[recogniser]
        keep = self._real if real else self._drawn
        return keep(f"{recogniser}/{kind}", len(faces), lambda rows: embed(faces[rows]))

    def _other(self, kind: str) -> Frames:
        if kind not in self._others:
            self._others[kind] = read(self.places.others[kind], self.places.models, 1, OTHERS)
        return self._others[kind]

    def _cut(self, kind: str) -> Floats | None:
        """The service's unit vectors that stand beside the faces in prepared cuts; None of photographs."""
        if kind in self.places.others:
            return self._other(kind).embeddings
        if self.frames.embeddings is None:
            return None
        own = self.frames.embeddings.reshape(self.people, GALLERY + PROBES, -1)
        side = own[:, :GALLERY] if kind == "gallery" else own[:, GALLERY:]
        vectors: Floats = side.reshape(-1, own.shape[2])
        return vectors


def common_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every study."""
    parser.add_argument("--models", type=Path, default=Path("app/models"), help="the service's networks")
    parser.add_argument("--miner", type=Path, default=RUNS / "faceres.onnx", help="of model_export.evaluation.judge")
    parser.add_argument("--runs", type=Path, default=RUNS, help="what is computed is kept here")
    parser.add_argument("--out", type=Path, default=Path("studies/results"), help="JSON, CSV and figure")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of studies A and D: where things are."""
    common_arguments(parser)
    parser.add_argument("--people", type=Path, required=True, help="CFP: photographs, or the cuts of prepare")
    parser.add_argument("--utkface", type=Path, required=True, help="UTKFace, in either form")
    parser.add_argument("--fairface", type=Path, required=True, help="FairFace, in either form")
    parser.add_argument("--mobileface", type=Path, default=RUNS / "mobileface.onnx", help="of studies.mobileface")


def opened(chosen: argparse.Namespace) -> Material:
    """What the options say."""
    others = {"utkface": chosen.utkface, "fairface": chosen.fairface}
    places = Places(chosen.models, chosen.people, others, chosen.mobileface, chosen.miner, chosen.runs)
    return Material(places)
