"""What each network sees of a batch: what is drawn of its faces, and how the frozen networks are shown it.

A batch of n faces gives n redrawings (control 0), then v variants (two of each of its first faces, or one), then r
random people, decoded together: n + v + r images in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from app.core.faces import FRAME_SIZE
from model_export.networks.generator import CONTROL_SIZE, IDENTITY_SIZE, mixed_precision, sample_identity
from model_export.networks.landmarks import features
from model_export.training.config import SERVICE, TrainConfig
from model_export.training.data import Batch
from model_export.training.judges import Frozen, Judge, Placer, frozen_precision
from model_export.training.networks import Networks


class Dice:
    """The random numbers of one step, each [count, width], in the order in which they are asked for."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)
        self._device = device

    def uniform(self, count: int, width: int) -> Tensor:
        """In [-1, 1]."""
        return torch.rand((count, width), generator=self._generator, device=self._device) * 2 - 1

    def normal(self, count: int, width: int) -> Tensor:
        """Standard normal."""
        return torch.randn((count, width), generator=self._generator, device=self._device)


@dataclass(frozen=True)
class Drawn:
    """What encoder and decoder make of a batch.

    Attributes:
        mean, log_variance: [n, 70], what the encoder says of each face.
        latent: [n, 70], drawn from that.
        control: [v, 10] of the variants; of pairs the first of each face, then the second of each.
        images: [n + v + r, 3, 128, 128] in [-1, 1], everything that was decoded.
        redrawn: [n, 3, 128, 128], the first of them.
        variants: [v, 3, 128, 128], those after.
        varied: [v], the face of each variant.
        fixed: how many of the first images no training changes: none, or the n redrawings.
        shown_as: [n + v + r], the face whose shift, light and so on each image is shown with.
    """

    mean: Tensor
    log_variance: Tensor
    latent: Tensor
    control: Tensor
    images: Tensor
    redrawn: Tensor
    variants: Tensor
    varied: Tensor
    fixed: int
    shown_as: Tensor


Seen = TypeVar("Seen", Tensor, list[Tensor])


def _all_but_first(fixed: int, net: Callable[..., Seen], *inputs: Tensor) -> Seen:
    """What a network makes of a batch; without gradient of the first `fixed`, which costs two thirds of the time."""
    if not fixed:
        return net(*inputs)
    with torch.no_grad():
        first = net(*(value[:fixed] for value in inputs))
    rest = net(*(value[fixed:] for value in inputs))
    if isinstance(first, Tensor):
        return torch.cat([first, rest])
    return [torch.cat(pair) for pair in zip(first, rest, strict=True)]


def draw(networks: Networks, batch: Batch, dice: Dice, config: TrainConfig, *, variants: bool) -> Drawn:
    """Encode the faces of a batch and decode them; without `variants` v = r = 0."""
    device, count = batch.source.device, len(batch.source)
    wanted, randoms = (round(config.varied * count), count // 8) if variants else (0, 0)
    # Two variants of a face, where two controls of one face are to be compared.
    faces = torch.arange(wanted // 2 if config.pairs else wanted, device=device)
    varied = faces.repeat(2) if config.pairs else faces
    with mixed_precision(device):
        mean, log_variance = networks.encoder(batch.source, batch.embedding)
        latent = sample_identity(mean, log_variance, dice.normal(count, IDENTITY_SIZE))
        control = dice.uniform(len(varied), CONTROL_SIZE) * config.reach
        identities = torch.cat([latent, latent[varied], dice.normal(randoms, IDENTITY_SIZE)])
        still = torch.zeros(count, CONTROL_SIZE, device=device)
        controls = torch.cat([still, control, dice.uniform(randoms, CONTROL_SIZE)])
        # Control 0 draws the same whatever becomes of the controls' path.
        fixed = count if config.train == "controls" else 0
        images = _all_but_first(fixed, networks.decoder, identities, controls)
    return Drawn(
        mean=mean,
        log_variance=log_variance,
        latent=latent,
        control=control,
        images=images,
        redrawn=images[:count],
        variants=images[count : count + len(varied)],
        varied=varied,
        fixed=fixed,
        shown_as=torch.cat([torch.arange(count, device=device), varied, torch.arange(randoms, device=device)]),
    )


@dataclass(frozen=True)
class Handling:
    """How the frozen networks are shown each face of a batch, drawn or photographed, so that they cannot be gamed.

    Attributes:
        zoom: [n, 1], by how much larger, as a share of 1.
        shift: [n, 2], down and across, as a share of the side.
        blur: [n, 1], how many times as wide the kernel is, >= 1.
        light: [n, 4], change of contrast, and twice that of each channel's brightness.
        mirrored: [n, 1] bool.
    """

    zoom: Tensor
    shift: Tensor
    blur: Tensor
    light: Tensor
    mirrored: Tensor

    @classmethod
    def thrown(cls, dice: Dice, config: TrainConfig, count: int) -> Handling:
        """At random, within the limits of the configuration."""
        return cls(
            zoom=dice.uniform(count, 1) * config.jitter,
            shift=dice.uniform(count, 2) * config.jitter / 2,
            # Likeness that a little blur or other light takes away is a pattern for one recogniser.
            blur=1 + (dice.uniform(count, 1).abs() * config.blur),
            light=dice.uniform(count, 4) * config.light,
            mirrored=(dice.uniform(count, 1) > 0) & config.mirror,
        )

    def for_recognisers(self, images: Tensor, faces: Tensor) -> Tensor:
        """Images [m, 3, 128, 128] as recognisers are shown them; `faces` [m] says which face's handling each gets."""
        seen = jitter(images, self.zoom[faces], self.shift[faces], FRAME_SIZE, self.blur[faces])
        seen = seen * (1 + self.light[faces, :1, None, None]) + self.light[faces, 1:, None, None] / 2
        return torch.where(self.mirrored[faces, :, None, None], seen.flip(3), seen)

    def for_perceptual(self, images: Tensor, faces: Tensor, size: int) -> Tensor:
        """The same at another size, shifted alone: by whole pixels, since resampling would blur the finest grain away.

        What no loss sees grows wild.
        """
        shift = (self.shift * FRAME_SIZE).round() / FRAME_SIZE
        return jitter(images, torch.zeros_like(self.zoom)[faces], shift[faces], size)

    def of_photographs(self, photographs: Tensor) -> Tensor:
        """Photographs [n, 3, 128, 128] to compare with: mirrored where the drawn faces are, else as they are."""
        return torch.where(self.mirrored[:, :, None, None], photographs.flip(3), photographs)


@dataclass(frozen=True)
class Views:
    """What the frozen networks say of a batch and of what was drawn of it.

    Attributes:
        embeddings: recogniser -> unit vectors [n + v, d] of redrawings and variants.
        originals: recogniser -> unit vectors [n, d] of the photographs, without gradient.
        features: maps of unit length over the channels of all drawn images, one [n + v + r, channels, h, w] a stage.
        of_redrawn: the first n of them.
        of_source: the same of the photographs.
        strengths: maps with entries of order 1 of all drawn images: how much is there as well.
        of_source_strengths: the same of the photographs.
        criticised, of_source_criticised: what the discriminator sees: those, and the pixels if it has a head for them.
        means, of_source_means: of those of redrawings and variants, and of photographs (`PerceptualFeatures.pooled`).
    """

    embeddings: dict[str, Tensor]
    originals: dict[str, Tensor]
    features: list[Tensor]
    of_redrawn: list[Tensor]
    of_source: list[Tensor]
    strengths: list[Tensor]
    of_source_strengths: list[Tensor]
    criticised: list[Tensor]
    of_source_criticised: list[Tensor]
    means: list[Tensor]
    of_source_means: list[Tensor]


def look(frozen: Frozen, judges: Sequence[Judge], batch: Batch, drawn: Drawn, handling: Handling) -> Views:
    """Show a batch and what was drawn of it to the judges whose turn it is, and to the ImageNet network."""
    perceptual, count = frozen.perceptual, len(batch.source)
    likenesses = count + len(drawn.variants)
    every_face = torch.arange(count, device=batch.source.device)
    with frozen_precision(batch.source.device):
        seen = handling.for_recognisers(drawn.images, drawn.shown_as)[:likenesses]
        pixels = handling.for_perceptual(drawn.images, drawn.shown_as, perceptual.size)
        raw = _all_but_first(drawn.fixed, perceptual.raw, pixels)
        features, strengths = perceptual.unit(raw), perceptual.scaled(raw)
        with torch.no_grad():
            of_source_pixels = handling.for_perceptual(batch.source, every_face, perceptual.size)
            raw = perceptual.raw(of_source_pixels)
            of_source, of_source_strengths = perceptual.unit(raw), perceptual.scaled(raw)
    embeddings = {judge.name: _all_but_first(drawn.fixed, judge, seen) for judge in judges}
    with torch.no_grad():
        photographs = handling.of_photographs(batch.source)
        # The service's are known already.
        originals = {SERVICE: torch.where(handling.mirrored, batch.embedding_mirrored, batch.embedding)}
        originals |= {judge.name: judge(photographs) for judge in judges if judge.name != SERVICE}
    return Views(
        embeddings=embeddings,
        originals=originals,
        features=features,
        of_redrawn=[value[:count] for value in features],
        of_source=of_source,
        strengths=strengths,
        of_source_strengths=of_source_strengths,
        criticised=[*strengths, pixels][: frozen.critic_heads],
        of_source_criticised=[*of_source_strengths, of_source_pixels][: frozen.critic_heads],
        means=perceptual.pooled([value[:likenesses] for value in strengths]),
        of_source_means=perceptual.pooled(of_source_strengths),
    )


@dataclass(frozen=True)
class Measured:
    """What a landmark network says of a batch.

    Attributes:
        redrawn, source: points [n, 68, 2] on redrawings and, without gradient, on the photographs.
        change: [v, 12], of each feature from redrawing to variant, in standard deviations of people.
    """

    redrawn: Tensor
    source: Tensor
    change: Tensor


def measure(placer: Placer, batch: Batch, drawn: Drawn, dice: Dice) -> Measured:
    """Place landmarks: on redrawings and photographs as they are, on variants in other light, blur, size and place.

    A variant and its redrawing are handled alike, so shading that only looks like another feature earns little.
    """
    count = len(drawn.variants)
    zoom, shift = dice.uniform(count, 1) * 0.04, dice.uniform(count, 2) * (3 / FRAME_SIZE)
    blur, light = 1 + dice.uniform(count, 1).abs(), dice.uniform(count, 4) * 0.2
    handled = Handling(zoom, shift, blur, light, torch.zeros_like(zoom, dtype=torch.bool))
    each = torch.arange(count, device=zoom.device)
    with torch.no_grad():
        source = placer.net(batch.source)
        before = features(placer.net(handled.for_recognisers(drawn.redrawn[drawn.varied], each)))
    after = features(placer.net(handled.for_recognisers(drawn.variants, each)))
    return Measured(placer.net(drawn.redrawn), source, (after - before) / placer.spread)


def jitter(images: Tensor, zoom: Tensor, shift: Tensor, size: int, blur: Tensor | None = None) -> Tensor:
    """Resample images [n, c, s, s] to [n, c, size, size], each zoomed by 1 + zoom [n, 1] and moved by shift [n, 2].

    Separable, so it is two matrix products. The kernel is a triangle, widened where it shrinks, and `blur` [n, 1] >= 1
    times; edges are repeated.
    """
    side = images.shape[-1]
    width = max(1.0, side / size) if blur is None else max(1.0, side / size) * blur[:, :, None]
    grid = (torch.arange(size, device=images.device) + 0.5) / size - 0.5
    maps = []
    for axis in (0, 1):
        position = (grid[None] * (1 + zoom) + shift[:, axis : axis + 1] + 0.5) * side - 0.5
        distance = (position.clamp(0, side - 1)[:, :, None] - torch.arange(side, device=images.device)).abs()
        kernel = (1 - distance / width).clamp(min=0)
        maps.append((kernel / kernel.sum(2, keepdim=True))[:, None])
    return maps[0] @ images @ maps[1].transpose(2, 3)
