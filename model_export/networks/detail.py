"""The detail stage: a drawn face at twice its side, and the critic that teaches it what skin and hair look like there.

It is small on purpose: it runs on a CPU for every picture that is asked for in the larger size.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from app.core.faces import FRAME_SIZE
from app.runtime.manifest import DETAIL_SCALE

SCALE = DETAIL_SCALE
"""Sides of what it gives in sides of what it takes."""

MARGIN = 8
"""Pixels by which the edge is repeated: convolutions that met zeros beyond it drew lines along it."""


class DetailWidths(BaseModel):
    """Sizes of the detail stage and its critic."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    width: int = Field(ge=4)
    """Channels at the size of what it is given; half of them at the size of what it gives."""
    dilations: tuple[Annotated[int, Field(ge=1, le=MARGIN)], ...] = Field(min_length=2)
    """Of its convolutions at the smaller size, two to a residual block: together they see far at no cost."""
    critic: int = Field(ge=2)
    """Channels of the critic's first stage."""

    @field_validator("dilations")
    @classmethod
    def _in_pairs(cls, dilations: tuple[int, ...]) -> tuple[int, ...]:
        if len(dilations) % 2:
            raise ValueError("a residual block has two")
        return dilations


def _convolution(channels: int, out: int, dilation: int = 1, padding: int | None = None) -> nn.Conv2d:
    layer = nn.Conv2d(channels, out, 3, 1, dilation if padding is None else padding, dilation)
    nn.init.kaiming_normal_(layer.weight, a=0.2)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class DetailStage(nn.Module):
    """A drawn face -> the same face at twice its side: bicubic enlargement, and what it learned to add to that.

    Before, the pattern is taken off that the decoder leaves in every face. Upsampling is bilinear, since folding
    channels into pixels draws a grid.
    """

    pattern: Tensor
    """[1, 3, 128, 128], what of a drawing's fine detail is the same in all of them, before the decoder's tanh."""

    def __init__(self, widths: DetailWidths) -> None:
        super().__init__()
        self.register_buffer("pattern", torch.zeros(1, 3, FRAME_SIZE, FRAME_SIZE))
        width = widths.width
        self.start = _convolution(3, width)
        self.body = nn.ModuleList(_convolution(width, width, dilation) for dilation in widths.dilations)
        self.spread = _convolution(width, width // 2, padding=0)
        self.colour = nn.Conv2d(width // 2, 3, 3, 1, 1)
        # At first it is the bicubic enlargement alone.
        nn.init.zeros_(self.colour.weight)
        nn.init.zeros_(self.colour.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Drawings [n, 3, 128, 128] in [-1, 1] -> [n, 3, 256, 256]; they may lie a little outside of [-1, 1]."""
        return self.enlarge(image - self.pattern * faded(image))

    def enlarge(self, image: Tensor) -> Tensor:
        """Images [n, 3, h, w] without such a pattern -> [n, 3, 2h, 2w]."""
        x = F.interpolate(self.features(image), scale_factor=float(SCALE), mode="bilinear", align_corners=False)[
            ..., 1:-1, 1:-1
        ]
        added = self.colour(F.leaky_relu(self.spread(x), 0.2))
        return enlarged(image) + added.float()

    def features(self, image: Tensor) -> Tensor:
        """What is seen at the smaller size and a pixel around it, [n, width, h + 2, w + 2]."""
        margin = F.pad(image, (MARGIN, MARGIN, MARGIN, MARGIN), mode="replicate")
        first = x = F.leaky_relu(self.start(margin), 0.2)
        for inner, outer in zip(self.body[::2], self.body[1::2], strict=True):
            x = F.leaky_relu(x + outer(F.leaky_relu(inner(x), 0.2)), 0.2)
        return (x + first)[..., MARGIN - 1 : 1 - MARGIN, MARGIN - 1 : 1 - MARGIN]


def faded(images: Tensor) -> Tensor:
    """The derivative of tanh where it gives these values: how much of what a decoder adds to them is left after it."""
    return 1 - images.clamp(-1, 1).square()


def enlarged(images: Tensor) -> Tensor:
    """Images [n, 3, h, w] at twice their side, by bicubic interpolation (Keys 1981)."""
    return F.interpolate(images.float(), scale_factor=float(SCALE), mode="bicubic", align_corners=False)


class DetailCritic(nn.Module):
    """Tells photographs from what the detail stage drew, by patches of some forty pixels.

    Beside the pixels it is shown what blurring takes away from them: that is all it is about, and a tenth of them.
    """

    LOUDER = 10
    """What the finest detail is multiplied by, so that it weighs as much as the rest."""

    def __init__(self, widths: DetailWidths) -> None:
        super().__init__()
        width = widths.critic
        self.stages = nn.ModuleList(
            _convolution(channels, out)
            for channels, out in ((6, width), (width, 2 * width), (2 * width, 3 * width), (3 * width, 4 * width))
        )
        self.verdict = nn.Conv2d(4 * width, 1, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images [n, 3, h, w] in [-1, 1] -> logits [n, 1], and the features of each stage [n, c, h', w']."""
        x = torch.cat([images, self.LOUDER * (images - blurred(images))], 1)
        features = []
        for stage in self.stages:
            x = F.leaky_relu(stage(x), 0.2)
            features.append(x)
            # Blurred before every other pixel is left out: a grid of period two must not hide from it.
            x = blurred(x)[..., ::2, ::2]
        return self.verdict(x).float().mean((2, 3)), features


def blurred(maps: Tensor) -> Tensor:
    """Maps [n, c, h, w] smoothed by the binomial of five, (1 4 6 4 1) / 16 each way; edges are repeated.

    In float32 in any case: bf16 would leave noise of its own in what is finer.
    """
    channels = maps.shape[1]
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=maps.device) / 16
    with torch.autocast(maps.device.type, enabled=False):
        padded = F.pad(maps.float(), (2, 2, 2, 2), mode="replicate")
        return F.conv2d(padded, (line[:, None] * line).expand(channels, 1, 5, 5), groups=channels)
