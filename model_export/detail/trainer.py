"""A run of the detail stage: its networks, its steps, and its checkpoint.

Every random number of a step comes from a generator seeded by that step, so that a run that was stopped and goes on is
the run that was never stopped.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from app.core.faces import FRAME_SIZE, Bytes
from model_export.detail import losses
from model_export.detail.config import DetailConfig
from model_export.detail.material import Material
from model_export.detail.pattern import weave_of
from model_export.networks.detail import SCALE, DetailCritic, DetailStage, enlarged, faded
from model_export.networks.generator import mixed_precision
from model_export.pictures import to_tensor
from model_export.preparing.files import replacing
from model_export.training.losses import adversarial


class DetailTrainer:
    """A run.

    Args:
        config: of the run.
        material: to learn from.
        device: to compute on.

    Attributes:
        steps: how many were made.
        averaged: the detail stage with averaged weights, which is what comes of the run.
    """

    def __init__(self, config: DetailConfig, material: Material, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device, self.steps = config, device, 0
        self._material = material
        self._stage = DetailStage(config.networks)
        weave = weave_of(material.drawings, material.photographs)
        self._stage.pattern.copy_(weave.mean)
        self._weaves = torch.cat([weave.mean, weave.components]).to(device)
        self._stage.to(device)
        self._critic = DetailCritic(config.networks).to(device)
        self.averaged = copy.deepcopy(self._stage).requires_grad_(requires_grad=False)
        self._optimiser = torch.optim.AdamW(self._stage.parameters(), config.learning_rate, betas=(0.9, 0.99))
        self._critic_optimiser = torch.optim.AdamW(self._critic.parameters(), config.critic_rate, betas=(0.5, 0.99))

    def step(self) -> dict[str, float]:
        """One update of each network; returns the losses by name."""
        config = self.config
        random = torch.Generator().manual_seed(config.seed * 1_000_003 + self.steps)
        large = self._patches(self._material.photographs, SCALE * config.patch, random)
        small = self._woven(losses.degraded(large, random), random)
        drawn = self._patches(self._material.drawings, config.patch, random, self._stage.pattern)
        with mixed_precision(self.device):
            made = self._stage.enlarge(torch.cat([small, drawn]))
        redone, made_drawn = made.chunk(2)
        terms = {
            "pixel": losses.pixel(redone, large),
            "consistency": losses.consistency(made_drawn, enlarged(drawn)),
            "grid": losses.grid(redone) + losses.grid(made_drawn),
        }
        share = self._share_of_critic()
        if share > 0:
            seen = self._windows(random)
            judged = self._judged(large[seen], redone[seen], made_drawn[seen])
            terms |= {name: share * term for name, term in judged.items()}
        counts = config.weights.model_dump()
        self._update(self._stage, self._optimiser, torch.stack([counts[name] * terms[name] for name in terms]).sum())
        if share > 0:
            terms["critic"] = self._teach(large[seen], made.detach()[seen])
        self.steps += 1
        self._average()
        return {name: float(term.detach()) for name, term in terms.items()}

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        state = {name: part.state_dict() for name, part in self._parts().items()} | {
            "steps": self.steps,
        }
        with replacing(path) as unfinished:
            torch.save(state, unfinished)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same configuration."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.steps = state["steps"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {
            "stage": self._stage,
            "averaged": self.averaged,
            "critic": self._critic,
            "optimiser": self._optimiser,
            "critic_optimiser": self._critic_optimiser,
        }

    def _patches(self, pictures: Bytes, side: int, random: torch.Generator, pattern: Tensor | None = None) -> Tensor:
        """Squares of some pictures without the pattern, half of them mirrored, [batch, 3, side, side]."""

        def number(count: int) -> int:
            return int(torch.randint(count, (), generator=random))

        found = []
        for _ in range(self.config.batch):
            picture = pictures[number(len(pictures))]
            if picture.ndim == 4:  # a redrawing and a variant
                picture = picture[number(2)]
            top, left = (number(length - side + 1) for length in picture.shape[:2])
            place = (slice(top, top + side), slice(left, left + side))
            patch = to_tensor(picture[place][None], self.device)
            if pattern is not None:
                patch = patch - pattern[..., place[0], place[1]] * faded(patch)
            found.append(patch.flip(3) if number(2) else patch)
        # Not channels last: on a CPU, weights of dilated convolutions in bf16 then get gradients that are no numbers.
        return torch.cat(found).contiguous()

    def _woven(self, small: Tensor, random: torch.Generator) -> Tensor:
        """Photographs with weaves as drawings have them, which it learns to tell from detail, and to take off."""
        count, side = len(self._weaves), small.shape[-1]
        strengths = self.config.weave * torch.randn(len(small), count, generator=random)
        top, left = (int(torch.randint(FRAME_SIZE - side + 1, (), generator=random)) for _ in range(2))
        weaves = self._weaves[..., top : top + side, left : left + side].flatten(1)
        woven = (strengths.to(weaves.device) @ weaves).view_as(small)
        return small + woven * faded(small)

    def _windows(self, random: torch.Generator) -> tuple[slice, ...]:
        """The part of large patches that the critic sees, at odd places as often as at even ones."""
        count = SCALE * self.config.patch - self.config.seen + 1
        starts = [int(torch.randint(count, (), generator=random)) for _ in range(2)]
        return (slice(None), slice(None), *(slice(start, start + self.config.seen) for start in starts))

    def _share_of_critic(self) -> float:
        """What the critic's losses count now: nothing at first, then a ramp to 1."""
        alone = self.config.alone
        return min(1.0, max(0.0, (self.steps - alone) / max(1, min(alone, self.config.steps - alone) // 2)))

    def _judged(self, large: Tensor, redone: Tensor, made_drawn: Tensor) -> dict[str, Tensor]:
        """The losses that look through the critic's eyes, of photographs and, where they count, of drawings."""
        weights = self.config.weights
        of_drawings = weights.adversarial_drawn > 0 or weights.feature_moments > 0
        self._critic.requires_grad_(requires_grad=False)
        with mixed_precision(self.device):
            logits, features = self._critic(torch.cat([large, redone, made_drawn] if of_drawings else [large, redone]))
        self._critic.requires_grad_(requires_grad=True)
        verdicts = logits.split(len(large))
        seen = list(zip(*(feature.float().split(len(large)) for feature in features), strict=True))
        terms = {
            "adversarial": adversarial(verdicts[1], verdicts[0]),
            "feature_matching": losses.feature_matching(seen[1], seen[0]),
        }
        if of_drawings:
            terms |= {
                "adversarial_drawn": adversarial(verdicts[2], verdicts[0]),
                "feature_moments": losses.feature_moments(seen[2], seen[0]),
            }
        return terms

    def _teach(self, large: Tensor, made: Tensor) -> Tensor:
        """It learns to tell photographs from what was made of them, and of drawings where that counts."""
        if not self.config.weights.adversarial_drawn:
            made = made[: len(large)]
        with mixed_precision(self.device):
            logits, _ = self._critic(torch.cat([large, made]))
        real, *others = logits.split(len(large))
        loss = torch.stack([adversarial(real, other) for other in others]).mean()
        self._update(self._critic, self._critic_optimiser, loss)
        return loss

    def _update(self, network: nn.Module, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self.steps / self.config.steps)))
        first = self.config.learning_rate if network is self._stage else self.config.critic_rate
        for group in optimiser.param_groups:
            group["lr"] = first * (0.1 + 0.9 * cosine)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()

    @torch.no_grad()
    def _average(self) -> None:
        # So that the first steps, when everything changes, are soon forgotten.
        kept = min(self.config.average, 1 - 1 / (1 + self.steps / 4))
        for mean, now in zip(self.averaged.parameters(), self._stage.parameters(), strict=True):
            mean.lerp_(now, 1 - kept)
