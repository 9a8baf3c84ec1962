"""The recogniser that studies B and C train from scratch: 64 x 64 pixels, four convolutions, pairs of pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from app.core.faces import Bytes, Floats

SIDE = 64
WIDTHS = (16, 32, 64, 128)
DIMENSIONS = 128
PAIRS, EXTRAS = 64, 32
"""Pictures of a step: two of each of so many people, and others who are none of them."""
STEPS = 1600
RATE = 2e-3
TEMPERATURE = 0.1
RECALIBRATION, ENOUGH = 8, 16384
"""Batches over which batch normalisation learns statistics anew, and pictures that suffice for it."""

Batch = tuple[Bytes, Bytes, Bytes]
"""Pictures [64], others of the same people [64], other people [32], all uint8 [n, 64, 64, 3]."""


class Small(nn.Module):
    """Pictures [n, 3, 64, 64] in [-1, 1] -> unit vectors [n, 128]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            before = width
        side = SIDE // 2 ** len(WIDTHS)
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(before * side * side, DIMENSIONS)

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        return F.normalize(self.head(self.body(pictures).flatten(1)))


def cost() -> int:
    """Multiplications of one picture."""
    total, before, side = 0, 3, SIDE
    for width in WIDTHS:
        side //= 2
        total += side * side * 9 * before * width
        before = width
    return total + before * side * side * DIMENSIONS


def prepared(pictures: Bytes) -> Tensor:
    """Bytes [n, 64, 64, 3] -> [n, 3, 64, 64] in [-1, 1], a pixel's channels together in memory."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def augmented(pictures: Tensor, random: torch.Generator) -> Tensor:
    """Pixel augmentation of pictures [n, 3, 64, 64]: what leaves a person that person.

    Mirrored, turned by at most 9 degrees, scaled by at most 12 %, moved by at most 5 %; light, contrast and each
    channel's gain; grey, blurred, or with a rectangle gone, each at times.
    """
    count = len(pictures)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=random) * 2 - 1

    turn, scale = 0.16 * uniform(), 1 + 0.12 * uniform()
    mirror = torch.sign(uniform())
    maps = torch.stack(
        [
            torch.stack([scale * turn.cos() * mirror, -scale * turn.sin(), 0.1 * uniform()], 1),
            torch.stack([scale * turn.sin() * mirror, scale * turn.cos(), 0.1 * uniform()], 1),
        ],
        1,
    )
    grid = F.affine_grid(maps, list(pictures.shape), align_corners=False)
    seen = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    seen.mul_((1 + 0.3 * uniform(1, 1, 1)) * (1 + 0.12 * uniform(3, 1, 1))).add_(0.25 * uniform(1, 1, 1))
    grey, soft = uniform() > 0.6, uniform() > 0.4
    seen[grey] = seen[grey].mean(1, keepdim=True)
    seen[soft] = F.avg_pool2d(seen[soft], 3, 1, 1, count_include_pad=False)
    return _with_a_hole(seen, uniform(4), uniform(1, 1, 1) > 0.4)


def _with_a_hole(pictures: Tensor, places: Tensor, where: Tensor) -> Tensor:
    """The pictures, with a rectangle of at most half a side at zero; places [n, 4] in [-1, 1] are middle and sides."""
    along = torch.linspace(-1, 1, pictures.shape[-1])
    half = 0.25 * (places[:, 2:].abs() + 1)
    rows = (along - places[:, :1]).abs() < half[:, :1]
    columns = (along - places[:, 1:2]).abs() < half[:, 1:]
    hole = (rows[:, None, :, None] & columns[:, None, None, :]) & where
    return pictures.masked_fill_(hole, 0)


def loss(first: Tensor, second: Tensor, others: Tensor) -> Tensor:
    """InfoNCE both ways: of pairs [p, d] each to its partner, among all partners and the other people [e, d]."""
    wanted = torch.arange(len(first))
    forth = torch.cat([first @ second.T, first @ others.T], 1)
    back = torch.cat([second @ first.T, second @ others.T], 1)
    return (F.cross_entropy(forth / TEMPERATURE, wanted) + F.cross_entropy(back / TEMPERATURE, wanted)) / 2


def trained(batch: Callable[[np.random.Generator], Batch], seed: int, steps: int = STEPS) -> Small:
    """A network that learned for so many steps what is one person and what is not.

    Args:
        batch: the pictures of a step. Whatever it draws from its generator, it should draw the same number of times in
            every arm, so that runs of one seed see the same people in the same order.
        seed: of weights, batches and augmentation.
        steps: with a rate that falls from `RATE` to nothing along a cosine.
    """
    torch.manual_seed(seed)
    net = Small().train()
    net.body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # typed without it
    chosen, noise = np.random.default_rng([seed, 31]), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        pictures = augmented(prepared(np.concatenate(batch(chosen))), noise)
        # Nearly twice as fast on a processor with AVX-512 BF16; weights, gradients and loss stay float32.
        with torch.autocast("cpu", torch.bfloat16):
            vectors = net(pictures.contiguous(memory_format=torch.channels_last)).float()
        optimiser.zero_grad()
        loss(*vectors.split([PAIRS, PAIRS, len(vectors) - 2 * PAIRS])).backward()
        optimiser.step()
        schedule.step()
    return net


def recalibrated(net: Small, pictures: Bytes) -> Small:
    """The network with batch normalisation that knows the statistics of pictures as they will be embedded.

    Arms learn from other mixtures of photographs and drawings; without it those mixtures would differ in the test too.
    """
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    net.train()
    rows = np.linspace(0, len(pictures) - 1, min(len(pictures), ENOUGH)).round().astype(int)
    with torch.no_grad():
        for part in np.array_split(rows, RECALIBRATION):
            net(prepared(pictures[part]))
    return net.eval()


def embedded(net: Small, pictures: Bytes) -> Floats:
    """Unit vectors [n, 128] of pictures [n, 64, 64, 3] and their mirror images, added."""
    net.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(pictures), 256):
            part = prepared(pictures[start : start + 256])
            parts.append(F.normalize(net(part) + net(part.flip(3))).numpy())
    return np.concatenate(parts)
