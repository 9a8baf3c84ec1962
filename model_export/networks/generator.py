"""The networks: encoder, AdaIN decoder, discriminator heads and Q.

Shapes in comments are (channels, height, width); n is the batch. The encoder stands on the frozen recogniser's
embedding: 17,000 faces cannot teach what an identity is, and the recogniser knows it already. Normalisation lives in
the decoder only.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from app.core.faces import EMBEDDING_SIZE
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE

Widths = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2)]


class NetworkConfig(BaseModel):
    """Widths of the trained networks."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    encoder: Widths
    """Channels of the encoder's trunk at 32, 16, 8 and 4 pixels."""
    decoder: Widths
    """Channels of the decoder at 4, 8, 16, 32 and 64 pixels."""
    refine: Annotated[int, Field(ge=1)]
    """Channels of its last stage, at 128 pixels."""
    style: Annotated[int, Field(ge=1)]
    """Width of the style vectors that steer AdaIN."""
    critic: Annotated[int, Field(ge=1)]
    """Width of each discriminator head."""
    pixel_critic: Annotated[int, Field(ge=0)] = 0
    """Width of one more head that sees pixels as they are; 0 for none."""
    recover: Widths
    """Channels of Q at 32, 16, 8 and 4 pixels."""


def _convolution(channels: int, out: int, size: int = 3, stride: int = 1, *, bias: bool = True) -> nn.Conv2d:
    layer = nn.Conv2d(channels, out, size, stride, size // 2, bias=bias)
    nn.init.kaiming_normal_(layer.weight, a=0.2)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class _DownBlock(nn.Module):
    """Pre-activation residual block that halves the resolution (He et al. 2016), without normalisation."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.first = _convolution(channels, out)
        self.second = _convolution(out, out)
        self.skip = _convolution(channels, out, 1, bias=False)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = F.avg_pool2d(self.first(F.leaky_relu(x, 0.2)), 2)
        return self.skip(F.avg_pool2d(x, 2)) + self.second(F.leaky_relu(y, 0.2))


class _Trunk(nn.Module):
    """Residual trunk: an image folded into channels, then halved down to 4x4 and flattened."""

    def __init__(self, channels: int, widths: tuple[int, ...], fold: int) -> None:
        super().__init__()
        self.fold = fold
        self.stem = _convolution(channels * fold * fold, widths[0])
        self.blocks = nn.Sequential(*(_DownBlock(a, b) for a, b in pairwise(widths)))
        self.size = widths[-1] * 16

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(F.pixel_unshuffle(x, self.fold).contiguous(memory_format=torch.channels_last))
        return F.leaky_relu(self.blocks(x), 0.2).flatten(1)


class Encoder(nn.Module):
    """A face and its embedding -> a normal distribution over the identity latent."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.trunk = _Trunk(3, config.encoder, fold=4)
        self.look = nn.Linear(self.trunk.size, 256)
        self.who = nn.Sequential(nn.Linear(EMBEDDING_SIZE, 384), nn.LeakyReLU(0.2), nn.Linear(384, 256))
        self.head = nn.Sequential(
            nn.LeakyReLU(0.2), nn.Linear(512, 384), nn.LeakyReLU(0.2), nn.Linear(384, 2 * IDENTITY_SIZE)
        )

    def forward(self, image: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Image [n, 3, 128, 128] in [-1, 1], unit embedding [n, 192] -> mean and log-variance, each [n, 70]."""
        # A unit vector of 192 numbers has entries of 0.07; the MLP wants entries near 1.
        features = torch.cat([self.look(self.trunk(image)), self.who(embedding * EMBEDDING_SIZE**0.5)], dim=1)
        mean, log_variance = self.head(features).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 2)


class AdaIN(nn.Module):
    """Adaptive instance normalisation (Huang & Belongie 2017) under an identity style and a control style.

    scale = 1 + A h_z + B h_c and shift = A' h_z + B' h_c; B and B' start at zero and h_c(0) = 0, so that c = 0 is the
    plain reconstruction and the controls have to earn what they change.
    """

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.identity = nn.Linear(style, 2 * channels)
        self.control = nn.Linear(style, 2 * channels, bias=False)
        nn.init.normal_(self.identity.weight, std=style**-0.5 * 0.5)
        nn.init.zeros_(self.identity.bias)
        nn.init.zeros_(self.control.weight)

    def forward(self, x: Tensor, identity: Tensor, control: Tensor) -> Tensor:
        """Features [n, channels, h, w] and two styles [n, style] -> features of the same shape."""
        scale, shift = (self.identity(identity) + self.control(control)).float()[:, :, None, None].chunk(2, dim=1)
        # Statistics in float32: squares of float16 overflow. (x - mean) first keeps the precision of small spreads.
        wide = x.float()
        mean = wide.mean((2, 3), keepdim=True)
        centred = wide - mean
        spread = torch.rsqrt(centred.square().mean((2, 3), keepdim=True) + 1e-5)
        return (centred * (spread * (1 + scale)) + shift).to(x.dtype)


class _UpBlock(nn.Module):
    """Residual block that doubles the resolution; what can runs before that, at a quarter of the cost."""

    def __init__(self, channels: int, out: int, style: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = AdaIN(channels, style), AdaIN(out, style)
        self.first, self.second = _convolution(channels, out), _convolution(out, out)
        self.skip = _convolution(channels, out, 1, bias=False)

    def forward(self, x: Tensor, identity: Tensor, control: Tensor) -> Tensor:
        y = self.first(F.leaky_relu(self.first_norm(x, identity, control), 0.2))
        # Repeating pixels changes no statistics, so the norm too comes before it.
        y = F.leaky_relu(self.second_norm(y, identity, control), 0.2)
        x, y = (F.interpolate(value, scale_factor=2.0, mode="nearest") for value in (self.skip(x), y))
        return (x + self.second(y)) * 0.5**0.5


class Decoder(nn.Module):
    """Identity and control -> a face."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths, style = config.decoder, config.style
        self.identity_style = nn.Sequential(
            nn.Linear(IDENTITY_SIZE, style), nn.LeakyReLU(0.2), nn.Linear(style, style), nn.LeakyReLU(0.2)
        )
        self.control_style = nn.Sequential(
            nn.Linear(CONTROL_SIZE, style, bias=False), nn.Tanh(), nn.Linear(style, style, bias=False), nn.Tanh()
        )
        self.start = nn.Linear(IDENTITY_SIZE, widths[0] * 16)
        self.blocks = nn.ModuleList(_UpBlock(a, b, style) for a, b in pairwise(widths))
        self.last_norm = AdaIN(widths[-1], style)
        self.refine = _convolution(widths[-1], config.refine)
        self.sharpen = _convolution(config.refine, config.refine)
        self.colour = _convolution(config.refine, 3)
        nn.init.normal_(self.colour.weight, std=0.02)

    def forward(self, identity: Tensor, control: Tensor) -> Tensor:
        """Identity [n, 70], control [n, 10] in [-1, 1] -> image [n, 3, 128, 128] in [-1, 1]."""
        who, how = self.identity_style(identity), self.control_style(control)
        x = self.start(identity).unflatten(1, (-1, 4, 4)).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x = block(x, who, how)
        x = F.leaky_relu(self.last_norm(x, who, how), 0.2)  # (64, 64, 64)
        # Bilinear, since folding channels into pixels left a halftone pattern on flat places.
        x = F.interpolate(self.refine(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        x = self.sharpen(F.leaky_relu(x, 0.2))  # (24, 128, 128)
        return torch.tanh(self.colour(F.leaky_relu(x, 0.2)).float())


class Discriminator(nn.Module):
    """Heads on the feature maps of a frozen network, one a scale (Projected GAN, Sauer et al. 2021).

    Frozen features tell faces from non-faces after thousands of images, a discriminator from scratch after millions.
    """

    def __init__(self, config: NetworkConfig, channels: list[int]) -> None:
        super().__init__()
        width = config.critic
        self.heads = nn.ModuleList(
            nn.Sequential(
                _convolution(count, width, 1),
                nn.LeakyReLU(0.2),
                _convolution(width, width, 3, stride=2),
                nn.LeakyReLU(0.2),
                _convolution(width, 1, 3),
            )
            for count in channels
        )
        if width := config.pixel_critic:
            # Patches of a dozen pixels: frozen networks begin with a stride of two and overlook the finest patterns.
            self.heads.append(
                nn.Sequential(
                    _convolution(3, width),
                    nn.LeakyReLU(0.2),
                    _convolution(width, 2 * width, stride=2),
                    nn.LeakyReLU(0.2),
                    _convolution(2 * width, 2 * width, stride=2),
                    nn.LeakyReLU(0.2),
                    _convolution(2 * width, 1),
                )
            )

    def forward(self, features: list[Tensor]) -> Tensor:
        """Maps with entries of order 1, [n, channels, h, w] a head, pixels the last if any -> logits [n, heads]."""
        logits = [head(value).float().mean((1, 2, 3)) for head, value in zip(self.heads, features, strict=True)]
        return torch.stack(logits, dim=1)


class RunningBias(nn.Module):
    """How the mean features of drawn faces differ from those of their targets, averaged over the last steps.

    A batch of ten faces says little about a mean; what is left of its noise would only pull faces apart.
    """

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        for index, size in enumerate(sizes):
            self.register_buffer(f"mean_{index}", torch.zeros(size))

    def update(self, drawn: list[Tensor], target: list[Tensor], memory: float) -> list[Tensor]:
        """Count in a batch's features [n, size]; gives the averages [size], with this batch's gradient."""
        averages = []
        for index, (a, b) in enumerate(zip(drawn, target, strict=True)):
            stored = self.get_buffer(f"mean_{index}")
            average = memory * stored + (1 - memory) * (a.float().mean(0) - b.float().mean(0))
            stored.copy_(average.detach())
            averages.append(average)
        return averages


class ControlRecovery(nn.Module):
    """InfoGAN's Q (Chen et al. 2016): which control turned the reconstruction into the variant?

    It sees luminance alone: a colour cast is the cheapest message that a decoder could send.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.trunk = _Trunk(2, config.recover, fold=2)
        self.head = nn.Sequential(nn.Linear(self.trunk.size, 256), nn.LeakyReLU(0.2), nn.Linear(256, 2 * CONTROL_SIZE))

    def forward(self, variant: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor]:
        """Two batches of images [n, 3, 128, 128] -> mean and log standard deviation of the control, each [n, 10]."""
        pair = torch.cat([_luminance(variant), _luminance(reconstruction)], dim=1)
        # Speckles in an eye are a cheap message as well, so nothing finer than four pixels is shown.
        pair = F.interpolate(F.avg_pool2d(pair, 4), scale_factor=2, mode="bilinear")
        pair = torch.stack([pair[:, 0], 4 * (pair[:, 0] - pair[:, 1])], dim=1)
        mean, log_deviation = self.head(self.trunk(pair)).float().chunk(2, dim=1)
        return mean, log_deviation


def _luminance(images: Tensor) -> Tensor:
    """Rec. 601 luma, [n, 1, h, w]."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


def sample_identity(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """The reparametrisation trick (Kingma & Welling 2014): a differentiable draw from the encoder's distribution."""
    return mean + noise * (0.5 * log_variance).exp()


def mixed_precision(device: torch.device) -> torch.autocast | nullcontext[None]:
    """Convolutions and matrix products in bf16, if the device has it: a CPU that has not imitates it, far slower."""
    if device.type == "cpu" and not _cpu_has_bf16():
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@cache
def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
