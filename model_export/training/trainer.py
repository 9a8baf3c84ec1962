"""The state of a run and its next step.

Everything that changes during a run is a pure function of the number of images seen, and every random number of a step
is drawn from a generator seeded by that step: a run that was killed and resumed is the run that was never killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from model_export.networks.landmarks import DenseLandmarks
from model_export.networks.pretrained import DlibRecognizer
from model_export.pictures import to_tensor
from model_export.preparing.dataset import FaceSet
from model_export.training import schedules
from model_export.training.config import TrainConfig
from model_export.training.data import Batches
from model_export.training.judges import Frozen
from model_export.training.networks import Networks
from model_export.training.processes import Processes
from model_export.training.step import Run, critic_step, generator_step
from model_export.training.views import Dice

PROBED = 8000
"""Labelled faces that the attribute probe is fitted on; with fewer than 50 it stays blind."""


class Trainer:
    """A run: its networks and how many faces they have seen.

    Args:
        config: of the run.
        faces: to train on.
        models: folder with the service's recogniser.
        device: to compute on.
        recognizers: name -> file of each other recogniser that the configuration names.
        landmarks: files of the networks that place landmarks.

    Raises:
        ValueError: a recogniser has no file, or the run wants landmarks and there is no network for them.
    """

    def __init__(
        self,
        config: TrainConfig,
        faces: FaceSet,
        models: Path,
        device: torch.device,
        recognizers: Mapping[str, Path] | None = None,
        landmarks: Sequence[Path] = (),
    ) -> None:
        self.config, self.device, self.processes = config, device, Processes.here()
        self.batches = Batches(faces, config.batch, config.seed, device, self.processes, balanced=config.balanced)
        torch.manual_seed(config.seed)
        self.frozen = Frozen(config, models, recognizers or {}, self.batches, landmarks)
        perceptual = self.frozen.perceptual
        biased = {judge.name: judge.size for judge in self.frozen.judges if judge.config.weights.bias}
        self.networks = Networks(config, perceptual.channels, perceptual.pooled_sizes, device, biased)
        self.run = Run(config, self.networks, self.frozen, self.processes)
        self.images = 0

    def compile(self, backend: str = "inductor") -> None:
        """Let `torch.compile` make kernels of what takes the time, here and now: minutes at the first steps."""
        # The networks share the code of `nn.Module.__call__`, and each comes in two sizes of batch or so.
        torch._dynamo.config.recompile_limit = 64
        networks, frozen = self.networks, self.frozen
        trained = (networks.encoder, networks.decoder, networks.recovery, networks.discriminator)
        # PyTorch 2.11 compiles edges that are repeated for another order in memory than they come in: those stay as is.
        looking = (*(judge.net for judge in frozen.judges), *(placer.net for placer in frozen.placers))
        for net in (*trained, *looking):
            if not isinstance(net, DlibRecognizer | DenseLandmarks):
                net.compile(backend=backend, dynamic=False)
        frozen.perceptual.raw = torch.compile(frozen.perceptual.raw, backend=backend, dynamic=False)  # type: ignore[method-assign]

    def step(self) -> dict[str, float]:
        """One update of every network; returns the losses of this step by name."""
        config, step_images = self.config, self.batches.step_images
        fade_in = schedules.fade_in(config, self.images)
        self.networks.set_learning_rate(schedules.learning_rate(config, self.images))
        seed = (config.seed * 1_000_003 + self.images) * 64 + self.processes.rank
        batch = self.batches.after(self.images)

        turn = self.images // step_images
        terms, views = generator_step(self.run, batch, Dice(seed, self.device), fade_in, turn)
        if fade_in > 0 and config.weights.adversarial > 0:
            with_penalty = turn % config.penalty_every == 0
            terms |= critic_step(self.run, views, with_penalty=with_penalty)

        self.images += step_images
        self.networks.average(schedules.average_decay(config, self.images, step_images))
        self.processes.share_buffers(self.networks.bias)
        self.processes.share_buffers(self.networks.embedding_bias)
        return {name: float(value) for name, value in terms.items()}

    def fit_probe(self) -> dict[str, float]:
        """Fit the attribute probe on labelled training faces; returns its held-out R^2 by attribute."""
        faces, probe = self.batches.faces, self.networks.probe
        rows = np.flatnonzero(~np.isnan(faces.ages))[:PROBED]
        if len(rows) < 50:
            return {}
        parts = np.array_split(rows, max(1, len(rows) // 64))
        with torch.no_grad():
            features = [probe.pool(self.frozen.perceptual(to_tensor(faces.faces[part], self.device))) for part in parts]
        return probe.fit(torch.cat(features), faces.ages[rows], faces.genders[rows], faces.groups[rows])

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        self.networks.save(path, self.images)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same configuration."""
        self.images = self.networks.load(path)
