"""Pictures as bytes and as tensors: the one place that says which number is which grey."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from app.core.faces import Bytes


def to_tensor(faces: Bytes, device: torch.device | None = None) -> Tensor:
    """uint8 [n, h, w, 3] -> float [n, 3, h, w] in [-1, 1], channels last in memory."""
    return normalised(torch.from_numpy(np.ascontiguousarray(faces)).to(device, non_blocking=True)).contiguous(
        memory_format=torch.channels_last
    )


def normalised(images: Tensor) -> Tensor:
    """uint8 [n, h, w, 3] -> float [n, 3, h, w] in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(images: Tensor) -> Tensor:
    """float [n, 3, h, w] in [-1, 1] -> uint8 [n, h, w, 3], what lies outside taken for the nearest."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio [n] in dB of images [n, ...] in [-1, 1] to their targets; 110 for equal ones."""
    return -10 * ((images - targets) / 2).square().flatten(1).mean(1).clamp(min=1e-11).log10()
