"""The networks of the evaluation in batches: those that draw and recognise as they are served, and one that looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.core.faces import Bytes, Floats
from app.core.generate import Generator
from model_export.evaluation.judge import Judge
from model_export.networks.pretrained import PerceptualFeatures
from model_export.networks.probes import AttributeProbe
from model_export.pictures import to_tensor
from model_export.training.losses import feature_distance

Array = NDArray[Any]

BATCH = 32


@dataclass(frozen=True)
class Variants:
    """Faces [n, k, 128, 128, 3] made from n sources, k each, and what the recognisers make of them.

    Attributes:
        images: the faces.
        similarity: [n, k], the service's recogniser, to the source.
        judged: [n, k], the second recogniser; None without one.
        controls: [n, k, 10]; None for the baselines.
    """

    images: Bytes
    similarity: Array
    judged: Array | None
    controls: Array | None = None


class Studio:
    """The served networks, run in batches on the CPU.

    Args:
        generator: encoder, decoder and recogniser.
        judge: the second recogniser, if there is one.
    """

    def __init__(self, generator: Generator, judge: Judge | None) -> None:
        self.generator, self.judge = generator, judge

    def encode(self, faces: Bytes) -> Floats:
        """Identities [n, 70]."""
        return np.concatenate([np.asarray(self.generator.encoder(part)[0], np.float32) for part in batches(faces)])

    def recognise(self, faces: Bytes) -> Floats:
        """Unit vectors [n, 192] of the service's recogniser."""
        return np.concatenate([self.generator.recognizer(part) for part in batches(faces)])

    def judge_faces(self, faces: Bytes) -> Floats | None:
        """Unit vectors [n, d] of the second recogniser; None without one."""
        if self.judge is None:
            return None
        return np.concatenate([self.judge(part) for part in batches(faces)])

    def decode(self, identities: Floats, controls: Floats) -> tuple[Bytes, Floats]:
        """Faces [n, 128, 128, 3] and their embeddings [n, 192]."""
        pairs = [
            self.generator.decode(identities[start : start + BATCH], controls[start : start + BATCH])
            for start in range(0, len(identities), BATCH)
        ]
        images, embeddings = zip(*pairs, strict=True)
        return np.concatenate(images), np.concatenate(embeddings)

    def score(self, images: Bytes, embeddings: Floats, sources: Floats, judged: Floats | None) -> Variants:
        """Variants from images [n * k, 128, 128, 3] and their embeddings, in the order of their sources.

        `sources` [n, 192] and `judged` [n, d] are the embeddings of the sources by the two recognisers.
        """
        count = len(sources)
        second = self.judge_faces(images) if judged is not None else None
        return Variants(
            images.reshape(count, -1, *images.shape[1:]),
            np.einsum("nkd,nd->nk", embeddings.reshape(count, -1, embeddings.shape[1]), sources),
            None
            if second is None or judged is None
            else np.einsum("nkd,nd->nk", second.reshape(count, -1, second.shape[1]), judged),
        )


def batches(faces: Bytes, size: int = BATCH) -> Iterator[Bytes]:
    """Contiguous parts of a batch, in order."""
    for start in range(0, len(faces), size):
        yield np.ascontiguousarray(faces[start : start + size])


class Looks:
    """EfficientNet-Lite0 trained on ImageNet, at the face frame's own resolution: how pictures look, and how alike.

    `pooled` are the means over the places of all five feature maps of unit length, what the attribute probe reads;
    `deep` are those of the last map as it leaves the network (block 15, 320 channels), for distances of distributions.
    """

    def __init__(self) -> None:
        self._network = PerceptualFeatures(size=128)

    @torch.inference_mode()
    def maps(self, faces: Bytes) -> list[Tensor]:
        """Raw feature maps of faces [n, 128, 128, 3], one [n, channels, h, w] a stage."""
        return self._network.raw(to_tensor(faces))

    @torch.inference_mode()
    def describe(self, faces: Bytes) -> tuple[Floats, Floats]:
        """`pooled` [n, 512] and `deep` [n, 320] of faces [n, 128, 128, 3]."""
        pooled, deep = [], []
        for part in batches(faces):
            maps = self.maps(part)
            pooled.append(AttributeProbe.pool(PerceptualFeatures.unit(maps)).numpy())
            deep.append(maps[-1].mean((2, 3)).numpy())
        return np.concatenate(pooled), np.concatenate(deep)

    @torch.inference_mode()
    def distance(self, first: Bytes, second: Bytes) -> Floats:
        """Feature distance [n] of two batches of faces: squared, of unit-length features, as in the training's loss."""
        return np.concatenate(
            [
                feature_distance(PerceptualFeatures.unit(self.maps(a)), PerceptualFeatures.unit(self.maps(b))).numpy()
                for a, b in zip(batches(first), batches(second), strict=True)
            ]
        )

    @torch.inference_mode()
    def spread(self, variants: Bytes) -> Floats:
        """Mean feature distance [n] among the k variants of each face [n, k, 128, 128, 3]."""
        first, second = np.triu_indices(variants.shape[1], k=1)
        spreads = []
        for faces in variants:
            maps = PerceptualFeatures.unit(self.maps(faces))
            spreads.append(feature_distance([value[first] for value in maps], [value[second] for value in maps]).mean())
        return np.array(spreads, np.float32)

    @torch.inference_mode()
    def details(self, faces: Bytes) -> Floats:
        """Later feature maps on a coarse grid, and a small picture: what a fresh regressor reads, [n, d]."""
        rows = []
        for part in batches(faces):
            maps = PerceptualFeatures.unit(self.maps(part))[1:]
            grids = [torch.nn.functional.adaptive_avg_pool2d(value * value.shape[1] ** 0.5, 4) for value in maps]
            small = torch.nn.functional.adaptive_avg_pool2d(to_tensor(part), 24)
            rows.append(torch.cat([value.flatten(1) for value in (*grids, small)], dim=1).numpy())
        return np.concatenate(rows)


def in_chunks(function: Callable[[Bytes], Array], faces: Bytes) -> Array:
    """A function of faces [n, ...] applied to parts of a large batch; its results [n, ...] together."""
    return np.concatenate([function(part) for part in batches(faces, 256)])
