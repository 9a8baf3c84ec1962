"""What looks at drawn faces and is not trained: the recognisers that judge likeness, and the ImageNet network."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from app.core.faces import FRAME_POINTS, FRAME_SIZE
from app.runtime.manifest import NETWORKS
from model_export.networks.generator import mixed_precision
from model_export.networks.pretrained import DlibRecognizer, FrozenRecognizer, PerceptualFeatures
from model_export.training import losses
from model_export.training.config import SERVICE, RecognizerConfig, TrainConfig
from model_export.training.data import Batches


@dataclass(frozen=True)
class Judge:
    """A recogniser that judges during training.

    Attributes:
        config: its name, the walls of its band, and what its losses count.
        net: images [n, 3, 128, 128] in [-1, 1] -> unit vectors [n, d].
    """

    config: RecognizerConfig
    net: FrozenRecognizer | DlibRecognizer

    @property
    def name(self) -> str:
        """Of the recogniser, as the configuration has it."""
        return self.config.name

    def __call__(self, images: Tensor) -> Tensor:
        """Images [n, 3, 128, 128] in [-1, 1] -> unit vectors [n, d]."""
        # Dense convolutions gain by bf16 on the CPU too, depthwise ones are faster in float32 there.
        dense = isinstance(self.net, DlibRecognizer)
        with mixed_precision(images.device) if dense else frozen_precision(images.device):
            found: Tensor = self.net(images)
        return found


def open_judges(config: TrainConfig, models: Path, files: Mapping[str, Path], batches: Batches) -> tuple[Judge, ...]:
    """The recognisers of a run, the service's first.

    Args:
        config: names them.
        models: folder of the service's.
        files: name -> file of each of the others, an ONNX file of a MobileFaceNet or the weights manifest (JSON) of
            dlib's.
        batches: the training faces, which dlib's is centred on.

    Raises:
        ValueError: one has no file, or a file is of none.
    """
    files = {**files, SERVICE: models / NETWORKS["recognizer"]}
    names = [each.name for each in config.recognizers]
    for missing in [name for name in names if name not in files]:
        raise ValueError(f"the run is judged by {missing!r} as well: name its file, --recognizer {missing}=FILE")
    for unknown in [name for name in files if name not in names]:
        raise ValueError(f"--recognizer {unknown}: the run has no such recogniser; it has {', '.join(names)}")
    return tuple(Judge(each, _open(files[each.name], batches)) for each in config.recognizers)


def _open(file: Path, batches: Batches) -> FrozenRecognizer | DlibRecognizer:
    if file.suffix == ".json":
        dlib = DlibRecognizer(file).to(batches.device)
        dlib.fit(batches.some(1000))
        return dlib
    return FrozenRecognizer(file).to(batches.device)


class Frozen:
    """Everything that looks at faces and is not trained.

    Args:
        config: of the run.
        models: folder with the service's recogniser.
        files: of the other recognisers, by name; see `open_judges`.
        batches: the training faces, to learn what is usual.
    """

    def __init__(self, config: TrainConfig, models: Path, files: Mapping[str, Path], batches: Batches) -> None:
        points = torch.tensor(FRAME_POINTS, dtype=torch.float32)
        self.judges = open_judges(config, models, files, batches)
        self.perceptual = PerceptualFeatures(config.perceptual_size).to(batches.device)
        self.perceptual.fit(batches.some(500))
        # Where a face counts how much [1, 1, 128, 128], and where its eyes are.
        self.focus = losses.focus_map(points, FRAME_SIZE, torch.tensor(config.focus)).to(batches.device)
        self.eyes = losses.focus_map(points[:2], FRAME_SIZE, torch.ones(1), elsewhere=0.0).to(batches.device)

    @property
    def service(self) -> Judge:
        """The service's recogniser."""
        return self.judges[0]


def frozen_precision(device: torch.device) -> torch.autocast | nullcontext[None]:
    """Of frozen networks with depthwise convolutions: float32 on the CPU, where those are faster so."""
    return nullcontext() if device.type == "cpu" else mixed_precision(device)
