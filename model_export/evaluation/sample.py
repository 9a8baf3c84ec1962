"""What every question of the evaluation is asked of: held-out faces, redrawn and varied as the service would.

Everything is made when it is first asked for, of random numbers of its own, and then kept: neither the order of the
questions nor leaving one out changes any of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from app.core.faces import Bytes, Detector, Floats
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE, Generator, sample_controls
from app.runtime.manifest import NETWORKS
from model_export.evaluation.judge import Judge
from model_export.evaluation.mesh import FaceMesh
from model_export.evaluation.metrics import Array, Intervals
from model_export.evaluation.people import Frames, read
from model_export.evaluation.settings import Settings
from model_export.evaluation.studio import Looks, Studio, Variants
from model_export.exporting.graphs import digest
from model_export.pictures import psnr, to_tensor
from model_export.preparing.dataset import FaceSet

LEAST_FACES = 10
"""Faces a side below which nothing is measured."""


@dataclass(frozen=True)
class Redrawn:
    """The faces of a sample at control 0.

    Attributes:
        images: [n, 128, 128, 3].
        similarity: [n], the service's recogniser, to the source.
        psnr: [n] in dB.
    """

    images: Bytes
    similarity: Array
    psnr: Array


@dataclass(frozen=True)
class Described:
    """Features of pictures, as `Looks.describe` gives them.

    Attributes:
        rows: [n] of the set that the pictures are from.
        pooled: [n, 512], what the attribute probe reads.
        deep: [n, 320] in float64, for distances of distributions.
    """

    rows: Array
    pooled: Floats
    deep: Array


class Sample:
    """Held-out faces and what the served networks make of them.

    Args:
        data: prepared faces.
        models: folder with the ONNX files that are served.
        judge: ONNX file of a recogniser that training never saw, if there is one.
        settings: how much is looked at.
        threads: of the CPU; 0 takes them all.
        landmarks: ONNX file of the face mesh, which training never saw either, if there is one.
        people: folder of photographs of real people whom training never saw, a folder a person, if there is one.
        profiles: folder of photographs of heads turned to the side, a folder a person, if there is one.

    Attributes:
        models, profiles: the folders that were given.
        mesh: places landmarks; None where there is no file.
        networks: SHA-256 of each of the networks that draw and judge.
        steered: the features that controls were trained to move, from the second control on; none if none was.
        rows: [n] of the held-out faces that are looked at; the first `deep` of them have all variants.
        sources, embeddings: of those rows.

    Raises:
        ValueError: the faces are too few, or were embedded by another recogniser.
    """

    def __init__(
        self,
        data: Path,
        models: Path,
        judge: Path | None,
        settings: Settings,
        threads: int = 0,
        landmarks: Path | None = None,
        people: Path | None = None,
        profiles: Path | None = None,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._people, self.models, self.profiles = people, models, profiles
        self.settings, self.intervals = settings, Intervals(settings.resamples, settings.seed)
        self.train, self.test = FaceSet.open(data, "train"), FaceSet.open(data, "test")
        if min(len(self.train), len(self.test)) < LEAST_FACES:
            raise ValueError(f"{data}: too few faces to evaluate on; prepare at least {LEAST_FACES} a side")
        self.studio = Studio(Generator(models, "cpu", threads), Judge(judge, threads) if judge else None)
        self.mesh = FaceMesh(landmarks, threads) if landmarks else None
        self.networks = {role: digest(models / NETWORKS[role]) for role in ("encoder", "decoder", "recognizer")}
        manifest = models / "manifest.json"
        facts = json.loads(manifest.read_text()) if manifest.exists() else {}
        trained = facts.get("training", {}).get("settings", {})
        self.steered = tuple((trained.get("steering") or {}).get("controls", ()))
        self.detector, self.looks = Detector(models, "cpu", threads), Looks()
        fresh = self.studio.recognise(np.asarray(self.test.faces[:4]))
        if float(np.abs(fresh - self.test.embeddings[:4]).max()) > 0.02:
            raise ValueError("the prepared embeddings are not of this recogniser; run prepare again")
        order = np.random.default_rng(settings.seed).permutation(len(self.test))
        self.rows = order[: max(settings.wide, settings.faces)]
        self.deep = min(settings.faces, len(self.rows))
        self.sources: Bytes = np.ascontiguousarray(self.test.faces[self.rows])
        self.embeddings: Floats = np.ascontiguousarray(self.test.embeddings[self.rows])

    # -- as the service would draw them --------------------------------------------------------------------------

    @cached_property
    def identities(self) -> Floats:
        """Latents [n, 70] of the sources."""
        return self.studio.encode(self.sources)

    @cached_property
    def redrawn(self) -> Redrawn:
        """The sources at control 0."""
        images, embeddings = self.studio.decode(self.identities, still(len(self.rows)))
        signal = psnr(to_tensor(images), to_tensor(self.sources)).numpy()
        return Redrawn(images, (embeddings * self.embeddings).sum(1), signal)

    @cached_property
    def controls(self) -> Floats:
        """Random controls [n, k, 10] at full strength, as the service draws them, a seed for each face."""
        return random_controls(len(self.rows), self.settings.controls, self.settings.seed)

    @cached_property
    def variants(self) -> Variants:
        """All variants of the first `deep` faces."""
        return self.decode(self.identities[: self.deep], self.controls[: self.deep])

    @cached_property
    def firsts(self) -> tuple[Bytes, Array]:
        """One variant of every face [n, 128, 128, 3], and its similarity to the source [n]."""
        images, similarity = self.variants.images[:, 0], self.variants.similarity[:, 0]
        if len(self.rows) == self.deep:
            return images, similarity
        rest, embeddings = self.studio.decode(self.identities[self.deep :], self.controls[self.deep :, 0])
        more = (embeddings * self.embeddings[self.deep :]).sum(1)
        return np.concatenate([images, rest]), np.concatenate([similarity, more])

    def decode(self, identities: Array, controls: Array) -> Variants:
        """Variants of the first faces, from identities [n, 70] or [n, k, 70] and controls [n, k, 10]."""
        count, each = controls.shape[:2]
        if identities.ndim == 2:
            identities = np.repeat(identities[:, None], each, axis=1)
        images, embeddings = self.studio.decode(
            identities.reshape(-1, IDENTITY_SIZE), controls.reshape(-1, CONTROL_SIZE).astype(np.float32)
        )
        scored = self.score(images, embeddings, count)
        return Variants(scored.images, scored.similarity, scored.judged, controls)

    def score(self, images: Bytes, embeddings: Floats, count: int) -> Variants:
        """What the recognisers say of pictures [count * k, 128, 128, 3] of the first `count` faces."""
        judged = None if self.judged is None else self.judged[:count]
        return self.studio.score(images, embeddings, self.embeddings[:count], judged)

    # -- people of a folder of their own ---------------------------------------------------------------------------

    @cached_property
    def strangers(self) -> Frames | None:
        """Real people whom training never saw, `each` photographs of every one; None without a folder.

        Raises:
            ValueError: the folder has fewer than ten.
        """
        folder = self._people
        if folder is None:
            return None
        found = read(folder, self.models, self.settings.each, self.settings.most_people, self.settings.seed)
        if len(found.people) < 10 * self.settings.each:
            raise ValueError(f"{folder}: ten people or more are needed with {self.settings.each} photographs each")
        return found

    # -- as others see them --------------------------------------------------------------------------------------

    @cached_property
    def judged(self) -> Floats | None:
        """The judge's unit vectors [n, d] of the sources; None without one."""
        return self.studio.judge_faces(self.sources)

    def judged_again(self, faces: Bytes) -> Array:
        """The judge's similarity of pictures of the first faces to their photographs."""
        again = self.studio.judge_faces(faces)
        assert again is not None
        assert self.judged is not None
        return np.asarray((again * self.judged[: len(faces)]).sum(1))

    @cached_property
    def described(self) -> Described:
        """Features of the sources."""
        pooled, deep = self.looks.describe(self.sources)
        return Described(self.rows, pooled, deep.astype(np.float64))

    @cached_property
    def reference(self) -> Described:
        """Features of training faces."""
        chosen = self.settings.chance("reference").permutation(len(self.train))[: self.settings.reference]
        rows = np.sort(chosen)
        pooled, deep = self.looks.describe(np.asarray(self.train.faces[rows]))
        return Described(rows, pooled, deep.astype(np.float64))

    @cached_property
    def neighbours(self) -> Array:
        """Of each of the first `deep` faces another one [deep]: each is the other of exactly one."""
        order = self.settings.chance("neighbours").permutation(self.deep)
        others = np.empty_like(order)
        others[order] = np.roll(order, 1)
        return others

    @cached_property
    def people(self) -> Floats:
        """Feature distance [deep] of each face to its neighbour."""
        some = self.sources[: self.deep]
        return self.looks.distance(some, some[self.neighbours])

    @cached_property
    def spread(self) -> Floats:
        """Mean feature distance [deep] among the variants of each face."""
        return self.looks.spread(self.variants.images)


def still(count: int) -> Floats:
    """Controls [count, 10] of nothing."""
    return np.zeros((count, CONTROL_SIZE), np.float32)


def random_controls(faces: int, count: int, seed: int) -> Floats:
    """Controls [faces, count, 10] at full strength, as the service draws them, a seed for each face."""
    return np.stack([sample_controls(seed * 1_000_003 + face, count, 1.0) for face in range(faces)])
