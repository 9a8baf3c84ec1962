"""The detail stage as it is served, and its entry in the manifest of a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from app.core.faces import FRAME_SIZE
from app.runtime.graphs import IMAGE, LARGER
from app.runtime.manifest import FILE, NETWORKS
from model_export.exporting.export import IMAGE_TOLERANCE
from model_export.exporting.graphs import check_parity, describe, round_to_half, save, to_onnx
from model_export.networks.detail import SCALE, DetailStage, faded
from model_export.pictures import normalised, to_bytes
from model_export.preparing.files import replacing

LINEAR = torch.tensor(
    [
        [[0.75, 0.25, 0.0], [0.25, 0.75, 0.0], [0.0, 0.75, 0.25]],
        [[0.25, 0.75, 0.0], [0.0, 0.75, 0.25], [0.0, 0.25, 0.75]],
    ]
)
"""Of a linear enlargement: what an even and an odd pixel, and their neighbours to the left and to the right, [phase,
neighbour, tap], have of the small picture's pixel below and of the two beside that."""


def _cubic() -> Tensor:
    """Of a cubic enlargement (Keys 1981 with a = -0.75): what an even and an odd pixel have of five, [phase, tap]."""

    def weight(distance: float, a: float = -0.75) -> float:
        x = abs(distance)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    return torch.tensor([[weight(tap - 2 - place) for tap in range(5)] for place in (-0.25, 0.25)])


class ServedDetail(nn.Module):
    """The detail stage with bytes in and out, and its enlargements as convolutions at the smaller size.

    ONNX Runtime's own took more than half of the time on a CPU. Each pixel of the smaller size gives the four of the
    larger one that lie in it.
    """

    cubic: Tensor

    def __init__(self, stage: DetailStage) -> None:
        super().__init__()
        self.stage = stage
        one = _cubic()
        taps = torch.einsum("pa,qb->pqab", one, one).reshape(SCALE * SCALE, 1, 5, 5)
        self.register_buffer("cubic", taps.repeat(3, 1, 1, 1))
        spread = stage.spread
        wide = torch.einsum("ocuv,pua,qvb->opqcab", spread.weight.detach(), LINEAR, LINEAR)
        self.spread = nn.Conv2d(spread.in_channels, wide.shape[0] * SCALE * SCALE, 3)
        assert spread.bias is not None
        with torch.no_grad():
            self.spread.weight.copy_(wide.flatten(0, 2))
            assert self.spread.bias is not None
            self.spread.bias.copy_(spread.bias.repeat_interleave(SCALE * SCALE))

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Pictures uint8 [n, s, s, 3] -> uint8 [n, 2s, 2s, 3]."""
        small = normalised(image)
        small = small - self.stage.pattern * faded(small)
        wide = self.spread(self.stage.features(small))
        added = self.stage.colour(F.leaky_relu(F.pixel_shuffle(wide, SCALE), 0.2))
        padded = F.pad(small, (2, 2, 2, 2), mode="replicate")
        plain = F.pixel_shuffle(F.conv2d(padded, self.cubic, groups=3), SCALE)
        return (to_bytes(plain + added),)


def write_detail(stage: DetailStage, out: Path) -> float:
    """Write `detail.onnx` into a model folder; returns the largest difference to PyTorch, in levels of 255."""
    served, path = ServedDetail(stage).eval(), out / NETWORKS["detail"]
    round_to_half(served)
    random = np.random.default_rng(0)

    def pictures(count: int) -> Any:
        return random.integers(0, 256, (count, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)

    save(to_onnx(served, {IMAGE: torch.from_numpy(pictures(3))}, [LARGER]), path, ("stage.", "spread."))
    return check_parity(served, path, {IMAGE: pictures}, IMAGE_TOLERANCE)


def add_to_model(out: Path, network: Path, facts: dict[str, Any], training: dict[str, Any], parity: float) -> None:
    """Put the network into a model folder, and into its manifest with what was measured and how it was trained."""
    with replacing(out / NETWORKS["detail"]) as unfinished:
        shutil.copyfile(network, unfinished)
    path = out / FILE
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["files"]["detail"] = describe(out / NETWORKS["detail"])
    manifest.setdefault("metrics", {})["detail"] = facts
    manifest.setdefault("training", {})["detail"] = training
    manifest.setdefault("parity", {})["detail"] = parity
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
