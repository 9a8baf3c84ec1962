"""What looks at drawn faces and is not trained: the recognisers that judge likeness, and the ImageNet network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from app.core.faces import FRAME_POINTS, FRAME_SIZE
from app.runtime.manifest import NETWORKS
from model_export.networks import landmarks
from model_export.networks.generator import mixed_precision
from model_export.networks.landmarks import DenseLandmarks, SmallLandmarks
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

    @property
    def size(self) -> int:
        """Entries of its vectors."""
        with torch.no_grad():
            device = next(self.net.buffers()).device
            return int(self(torch.zeros(1, 3, FRAME_SIZE, FRAME_SIZE, device=device)).shape[1])

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


@dataclass(frozen=True)
class Placer:
    """A network that places landmarks, and how much people differ in what is measured by them.

    Attributes:
        net: images [n, 3, 128, 128] in [-1, 1] -> points [n, 68, 2].
        spread: [12], standard deviation of each of `landmarks.FEATURES` among training faces.
    """

    net: SmallLandmarks | DenseLandmarks
    spread: Tensor


def open_placers(files: Sequence[Path], batches: Batches) -> tuple[Placer, ...]:
    """The landmark networks: an ONNX file is faceplugin's, a weights manifest (JSON) face-api's."""
    placers = []
    for file in files:
        net = (DenseLandmarks(file) if file.suffix == ".json" else SmallLandmarks(file)).to(batches.device)
        with torch.no_grad():
            measured = torch.cat([landmarks.features(net(part)) for part in batches.some(1000).split(100)])
        placers.append(Placer(net, measured.std(0)))
    return tuple(placers)


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
        landmark_files: of the networks that place landmarks; see `open_placers`.

    Raises:
        ValueError: the run wants landmarks and no network places any.
    """

    def __init__(
        self,
        config: TrainConfig,
        models: Path,
        files: Mapping[str, Path],
        batches: Batches,
        landmark_files: Sequence[Path] = (),
    ) -> None:
        if (config.weights.steering or config.weights.landmarks) and not landmark_files:
            raise ValueError("the run steers features by landmarks: name a network's file, --landmarks FILE")
        self.placers = open_placers(landmark_files, batches)
        self.in_turns = config.in_turns
        points = torch.tensor(FRAME_POINTS, dtype=torch.float32)
        self.judges = open_judges(config, models, files, batches)
        self.perceptual = PerceptualFeatures(config.perceptual_size).to(batches.device)
        self.perceptual.fit(batches.some(500))
        # A head of the discriminator for each of its maps, and perhaps one for pixels.
        self.critic_heads = len(self.perceptual.channels) + bool(config.networks.pixel_critic)
        # Where a face counts how much [1, 1, 128, 128], and where its eyes are.
        self.focus = losses.focus_map(points, FRAME_SIZE, torch.tensor(config.focus)).to(batches.device)
        self.eyes = losses.focus_map(points[:2], FRAME_SIZE, torch.ones(1), elsewhere=0.0).to(batches.device)

    def judges_at(self, turn: int) -> tuple[Judge, ...]:
        """Who judges at a step: all, or in turns the service's at every other step and one of the others between."""
        if not self.in_turns or len(self.judges) == 1:
            return self.judges
        others = self.judges[1:]
        return (self.judges[0] if turn % 2 == 0 else others[turn // 2 % len(others)],)

    def placer_at(self, turn: int) -> Placer | None:
        """Which network places landmarks at a step."""
        return self.placers[turn % len(self.placers)] if self.placers else None

    @property
    def service(self) -> Judge:
        """The service's recogniser."""
        return self.judges[0]


def frozen_precision(device: torch.device) -> torch.autocast | nullcontext[None]:
    """Of frozen networks with depthwise convolutions: float32 on the CPU, where those are faster so."""
    return nullcontext() if device.type == "cpu" else mixed_precision(device)
