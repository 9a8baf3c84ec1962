"""The losses of the detail stage, each a pure function of tensors, and what a photograph loses before it is enlarged.

Images are [n, 3, h, w] in [-1, 1]; those of twice their side are called large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from model_export.networks.detail import SCALE, blurred


def degraded(large: Tensor, random: torch.Generator, noise: float = 0.01) -> Tensor:
    """Photographs at half their side, as blurred, flat and rounded as drawings.

    Blur, mean of 2 x 2, median, noise, 8 bits. The blur is a Gaussian of a deviation between 0.3 and 1.6 pixels. The
    median of 3 x 3 pixels, which takes texture away and leaves edges, has any share: one of each for the batch.
    """
    sigma = 0.3 + 1.3 * float(torch.rand((), generator=random))
    reach = max(1, math.ceil(3 * sigma))
    line = (-(torch.arange(-reach, reach + 1).float() / sigma).square() / 2).exp()
    line = line / line.sum()
    kernel = (line[:, None] * line).expand(large.shape[1], 1, -1, -1).to(large.device)
    padded = F.pad(large, (reach,) * 4, mode="replicate")
    small = F.avg_pool2d(F.conv2d(padded, kernel, groups=large.shape[1]), SCALE)
    small = small.lerp(median(small), float(torch.rand((), generator=random)))
    strength = noise * torch.rand(len(small), 1, 1, 1, generator=random)
    small = small + strength.to(small.device) * torch.randn(small.shape, generator=random).to(small.device)
    return (((small + 1) * 127.5).round().clamp(0, 255) / 127.5) - 1


def median(images: Tensor) -> Tensor:
    """Of each channel of images [n, c, h, w] the median of 3 x 3 pixels; edges are repeated."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    return padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4).median(4).values


def pixel(image: Tensor, target: Tensor) -> Tensor:
    """L1 distance of pixels, and of the steps between neighbours, across and down."""
    total = (image - target).abs().mean()
    for axis in (2, 3):
        total = total + (image.diff(dim=axis) - target.diff(dim=axis)).abs().mean()
    return total


def consistency(large: Tensor, plain: Tensor, fine: float = 0.25) -> Tensor:
    """L1 distance of large images to the plain enlargements of what they were made of, blurred and at a quarter.

    It is still the same picture. What is finer counts `fine` as much, at half.
    """
    half = F.avg_pool2d(blurred(large) - blurred(plain), SCALE)
    return F.avg_pool2d(blurred(half), 2).abs().mean() + fine * half.abs().mean()


def grid(large: Tensor, window: int = 18) -> Tensor:
    """No grid of period two: over a batch, steps between neighbours are as large at even places as at odd ones.

    Once of the mean step, which edges make, and once of windows that count alike, which are mostly skin: they could
    make up for each other. Signed, so that what is one way here and the other there, as in photographs, costs nothing.
    """
    luma = large.float().mean(1, keepdim=True)
    side = window * ((luma.shape[-1] - 2) // window)
    total = torch.zeros((), device=large.device)
    for plane in (luma, luma.transpose(2, 3)):
        steps = plane.diff(dim=3).abs()
        even, odd = (F.avg_pool2d(steps[..., i : i + side : 2], (window, window // 2)) for i in (0, 1))
        unlike = 2 * (even - odd) / (even + odd + 2e-3)
        total = total + unlike.mean().square() + (even.mean() / odd.mean()).log().square()
    mixed = luma.diff(dim=2).diff(dim=3).abs()
    four = torch.stack([mixed[..., i::2, j::2].mean() for i in (0, 1) for j in (0, 1)])
    return total + (four / four.mean()).log().square().mean()


def feature_matching(features: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """L1 distance of the critic's features, image against the photograph that it was made of (Wang et al. 2018)."""
    return torch.stack([(a - b).abs().mean() for a, b in zip(features, target, strict=True)]).mean()


def feature_moments(features: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """L1 distance of mean and deviation of each of the critic's features, over all of a batch.

    For drawings, which have no photograph of their own: as much fine detail as photographs have, wherever it lies.
    """
    distances = [
        (moment(a, (0, 2, 3)) - moment(b, (0, 2, 3))).abs().mean()
        for a, b in zip(features, target, strict=True)
        for moment in (torch.Tensor.mean, torch.Tensor.std)
    ]
    return torch.stack(distances).mean()
