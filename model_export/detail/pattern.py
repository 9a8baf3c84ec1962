"""The weave that a decoder leaves in every face it draws, as upsampling networks do: of people it says nothing.

In the mean over many faces fine detail cancels, but for that of eyes, which lie at one place; what else is left was
drawn by the machine. In weights 1.0.0 that is a weave of about three pixels. A decoder ends with tanh: near black and
white its weave fades, so patterns are those before tanh, by its derivative. How the weave differs from face to face is
told by the principal components of fine detail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from app.core.faces import FRAME_SIZE, Bytes
from model_export.networks.detail import SCALE, blurred, faded
from model_export.pictures import to_tensor

QUIET = 1.0 / 127.5
"""Mean fine detail of photographs from which on a place has features of its own: a level of 255."""
COMPONENTS = 16
SAMPLED = 1500
"""Drawings that components are of."""
PART = 64


class Weave(NamedTuple):
    """What the decoder leaves in its drawings.

    Attributes:
        mean: [1, 3, s, s], in every one of them.
        components: [k, 3, s, s], of what varies, each as strong as its standard deviation.
    """

    mean: Tensor
    components: Tensor


def weave_of(drawings: Bytes, photographs: Bytes) -> Weave:
    """The weave of drawings, nothing where faces have features.

    Args:
        drawings: [m, k, s, s, 3], k of each face.
        photographs: [n, 2s, 2s, 3].
    """
    flat = drawings.reshape(-1, *drawings.shape[2:])
    weight = quiet(mean_detail(photographs))
    mean = mean_detail(flat) * weight
    some = flat[:: max(1, len(flat) // SAMPLED)]
    fine = torch.cat([fine_detail(part) for part in _parts(some)])
    varied = ((fine - mean) * weight).flatten(1)
    varied -= varied.mean(0)
    # The samples are far fewer than the pixels, so their products have the same components.
    strengths, mixtures = torch.linalg.eigh(varied @ varied.T / len(varied))
    directions = mixtures[:, -COMPONENTS:].T @ varied
    directions = directions / directions.norm(dim=1, keepdim=True).clamp(min=1e-12)
    deviations = strengths[-COMPONENTS:].clamp(min=0).sqrt()
    return Weave(mean, (directions * deviations[:, None]).unflatten(1, mean.shape[1:]))


def fine_detail(images: Tensor) -> Tensor:
    """What light blurring takes away from images [n, 3, h, w], as it was before the decoder's tanh."""
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (line[:, None] * line).expand(images.shape[1], 1, 3, 3)
    smooth = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=images.shape[1])
    return (images - smooth) / faded(smooth).clamp(min=0.2)


def mean_detail(pictures: Bytes) -> Tensor:
    """The mean fine detail of pictures [n, s, s, 3] or [n, 2s, 2s, 3], [1, 3, s, s] with s = 128."""
    sums = [fine_detail(images).sum(0, keepdim=True) for images in _parts(pictures)]
    return torch.stack(sums).sum(0) / len(pictures)


def _parts(pictures: Bytes) -> Iterator[Tensor]:
    for start in range(0, len(pictures), PART):
        images = to_tensor(np.array(pictures[start : start + PART]))
        yield F.avg_pool2d(images, SCALE) if images.shape[-1] > FRAME_SIZE else images


def quiet(real: Tensor) -> Tensor:
    """How little a place [1, 1, s, s] shows of features in the mean fine detail of photographs, 0 to 1."""
    activity = real.square().mean(1, keepdim=True)
    for _ in range(4):
        activity = blurred(activity)
    return 1 / (1 + (activity / QUIET**2).square())


def pattern_left(pictures: Bytes, weight: Tensor) -> float:
    """Root mean square in levels of 255 of what all pictures share where faces have no features, by `quiet`."""
    power = (mean_detail(pictures).square() * weight).mean() / weight.mean()
    return float(power.sqrt()) * 127.5
