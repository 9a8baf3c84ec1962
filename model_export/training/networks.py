"""The networks that a run trains, their averages and their optimisers: everything that a checkpoint holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model_export.exporting.exported import forget_noise, restore
from model_export.networks.generator import ControlRecovery, Decoder, Discriminator, Encoder, RunningBias
from model_export.networks.probes import AttributeProbe
from model_export.training.config import TrainConfig


class Networks:
    """Encoder, decoder, Q and discriminator, and what goes with them.

    Args:
        config: of the run.
        channels: of the perceptual network's maps, which the discriminator and the probe read.
        pooled_sizes: of what `matching` compares.
        device: where they are to be.
        embedding_sizes: of each recogniser whose mean embedding is compared.
    """

    def __init__(
        self,
        config: TrainConfig,
        channels: list[int],
        pooled_sizes: list[int],
        device: torch.device,
        embedding_sizes: dict[str, int] | None = None,
    ) -> None:
        sizes, self.device = config.networks, device
        self.encoder, self.decoder = Encoder(sizes), Decoder(sizes)
        self.recovery, self.discriminator = ControlRecovery(sizes), Discriminator(sizes, channels)
        self.averaged_encoder, self.averaged_decoder = Encoder(sizes), Decoder(sizes)
        self.averaged_encoder.load_state_dict(self.encoder.state_dict())
        self.averaged_decoder.load_state_dict(self.decoder.state_dict())
        # Of reconstructions and of variants.
        self.bias = RunningBias(2 * pooled_sizes)
        self.embedding_bias = nn.ModuleDict(
            {name: RunningBias([size]) for name, size in (embedding_sizes or {}).items()}
        )
        self.probe = AttributeProbe(sum(channels))
        for net in self.by_name.values():
            net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = self._groups(config)
        self.generator_parameters = [parameter for group in groups for parameter in group["params"]]
        self.generator_optimiser = torch.optim.Adam(groups, betas=(0.5, 0.99), eps=1e-8)
        self.discriminator_optimiser = torch.optim.Adam(self.discriminator.parameters(), betas=(0.0, 0.99), eps=1e-8)

    def _groups(self, config: TrainConfig) -> list[dict[str, Any]]:
        """What the generator's optimiser trains; `pace` is a multiple of the learning rate."""
        everything = [
            parameter for net in (self.encoder, self.decoder, self.recovery) for parameter in net.parameters()
        ]
        control_path = [parameter for name, parameter in self.decoder.named_parameters() if "control" in name]
        if config.train == "controls":
            for parameter in everything:
                parameter.requires_grad_(False)
            for parameter in control_path:
                parameter.requires_grad_(True)
            return [{"params": control_path, "pace": config.control_rate}]
        if config.control_rate == 1:
            return [{"params": everything, "pace": 1.0}]
        known = {id(parameter) for parameter in control_path}
        others = [parameter for parameter in everything if id(parameter) not in known]
        return [{"params": control_path, "pace": config.control_rate}, {"params": others, "pace": 1.0}]

    @property
    def by_name(self) -> dict[str, nn.Module]:
        """Every network, the averaged ones and the probe included."""
        return {
            "encoder": self.encoder,
            "decoder": self.decoder,
            "recovery": self.recovery,
            "discriminator": self.discriminator,
            "averaged_encoder": self.averaged_encoder,
            "averaged_decoder": self.averaged_decoder,
            "probe": self.probe,
            "bias": self.bias,
            "embedding_bias": self.embedding_bias,
        }

    def set_learning_rate(self, rate: float) -> None:
        """Of encoder, decoder and Q; the discriminator takes half of it."""
        for optimiser, factor in ((self.generator_optimiser, 1.0), (self.discriminator_optimiser, 0.5)):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor * group.get("pace", 1.0)

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """Let the averaged weights follow."""
        for net, averaged in ((self.encoder, self.averaged_encoder), (self.decoder, self.averaged_decoder)):
            torch._foreach_lerp_(list(averaged.parameters()), list(net.parameters()), 1 - decay)

    def save(self, path: Path, images: int) -> None:
        """Write a checkpoint; the file is replaced in one move, so a kill leaves the old one or the new one."""
        state = {
            "images": images,
            "networks": {name: net.state_dict() for name, net in self.by_name.items()},
            "optimisers": [self.generator_optimiser.state_dict(), self.discriminator_optimiser.state_dict()],
        }
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, path)

    def save_for_travel(self, path: Path, images: int) -> None:
        """Write what another machine needs to go on or to export, at a quarter of a checkpoint's size.

        Weights are halved to float16, as `export` stores them, and the optimisers' state stays behind.
        """
        halved = {
            name: {key: value.half() if value.is_floating_point() else value for key, value in net.state_dict().items()}
            for name, net in self.by_name.items()
        }
        torch.save({"images": images, "networks": halved}, path)

    def load(self, path: Path) -> int:
        """Take the state of a checkpoint of the same configuration; returns the images seen.

        The optimisers of one that has travelled begin anew.
        """
        # Not on the device: optimisers keep their count of steps where it is loaded, and read it at every step.
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, net in self.by_name.items():
            # Checkpoints up to 0.6.0 know no bias of embeddings.
            net.load_state_dict(state["networks"].get(name, {}))
        optimisers = (self.generator_optimiser, self.discriminator_optimiser)
        for optimiser, stored in zip(optimisers, state.get("optimisers", ()), strict=False):
            paces = [group.get("pace", 1.0) for group in optimiser.param_groups]
            optimiser.load_state_dict(stored)
            for group, pace in zip(optimiser.param_groups, paces, strict=True):  # as the settings say by now
                group["pace"] = pace
        images: int = state["images"]
        return images

    def start_from(self, folder: Path) -> None:
        """Begin with the encoder and the decoder that were exported to `folder`; discriminator and Q begin anew."""
        for nets, name in (
            ((self.encoder, self.averaged_encoder), "encoder"),
            ((self.decoder, self.averaged_decoder), "decoder"),
        ):
            for net in nets:
                restore(net, folder / f"{name}.onnx", f"{name}.")
        for encoder in (self.encoder, self.averaged_encoder):
            forget_noise(encoder)
