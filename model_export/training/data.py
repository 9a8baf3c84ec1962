"""The order in which a run sees its faces, and each step's batch of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_export.pictures import to_tensor
from model_export.preparing.dataset import FaceSet
from model_export.training.processes import Processes


@dataclass(frozen=True)
class Batch:
    """The faces of a step, half of them mirrored.

    Attributes:
        source: [n, 3, 128, 128] in [-1, 1].
        embedding: [n, 192] of the service's recogniser, of the faces as they are here.
        embedding_mirrored: the same of the faces the other way.
    """

    source: Tensor
    embedding: Tensor
    embedding_mirrored: Tensor


class Batches:
    """A round is as many draws as there are faces; a batch depends on the images seen before it alone.

    Args:
        faces: the training faces.
        size: of a batch, for each process.
        seed: of the orders and of who is mirrored.
        device: where batches are wanted.
        processes: each takes its share of a step's faces.
        balanced: whether a face is drawn as often as its weight says; else each once a round.
    """

    def __init__(
        self,
        faces: FaceSet,
        size: int,
        seed: int,
        device: torch.device,
        processes: Processes,
        *,
        balanced: bool = False,
    ) -> None:
        self.faces, self.size, self.seed, self.balanced = faces, size, seed, balanced
        self.device, self.processes = device, processes
        self._rounds: dict[int, NDArray[np.int64]] = {}

    @property
    def step_images(self) -> int:
        """Faces that all processes see in a step."""
        return self.size * self.processes.world

    def after(self, images: int) -> Batch:
        """This process's batch of the step that begins after `images` faces."""
        start = images + self.processes.rank * self.size
        rows = [self.row(index) for index in range(start, start + self.size)]
        random = np.random.default_rng([self.seed, images // self.step_images, self.processes.rank])
        mirrored = random.random(len(rows)) < 0.5
        shown = [self.faces.faces[row] for row in rows]
        faces = np.stack([face[:, ::-1] if flip else face for face, flip in zip(shown, mirrored, strict=True)])
        upright, turned = self.faces.embeddings[rows], self.faces.embeddings_mirrored[rows]
        return Batch(
            source=to_tensor(faces, self.device),
            embedding=self._vectors(np.where(mirrored[:, None], turned, upright)),
            embedding_mirrored=self._vectors(np.where(mirrored[:, None], upright, turned)),
        )

    def row(self, index: int) -> int:
        """Which face is seen as number `index` of a run."""
        round_, place = divmod(index, len(self.faces))
        if round_ not in self._rounds:
            order = self._balanced_round(round_) if self.balanced else self._plain_round(round_)
            self._rounds = {key: self._rounds[key] for key in self._rounds if key == round_ - 1} | {round_: order}
        return int(self._rounds[round_][place])

    def some(self, count: int) -> Tensor:
        """About that many faces [m, 3, 128, 128], from all over the set."""
        return to_tensor(self.faces.faces[:: max(1, len(self.faces) // count)], self.device)

    def _plain_round(self, round_: int) -> NDArray[np.int64]:
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + round_)
        order: NDArray[np.int64] = torch.randperm(len(self.faces), generator=random).numpy()
        return order

    def _balanced_round(self, round_: int) -> NDArray[np.int64]:
        share = self.faces.weights.astype(np.float64)
        count = len(self.faces)
        return np.random.default_rng([self.seed, round_]).choice(count, count, p=share / share.sum())

    def _vectors(self, vectors: np.ndarray) -> Tensor:
        return torch.from_numpy(vectors).to(self.device)
