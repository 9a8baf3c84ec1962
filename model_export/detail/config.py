"""What defines a run of the detail stage; the defaults are those of the last run that EXPERIMENTS.md tells of."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from app.core.faces import FRAME_SIZE
from model_export.networks.detail import SCALE, DetailWidths
from model_export.training.config import Settings, Weight


class DetailWeights(Settings):
    """What each loss counts."""

    pixel: Weight = 1
    """Photographs: picture against picture."""
    consistency: Weight = 4
    """Drawings: blurred they are what they were."""
    grid: Weight = 2
    """No grid of period two, in either."""
    adversarial: Weight = 0.02
    """Photographs: the critic is to take those enlarged for whole ones."""
    adversarial_drawn: Weight = 0
    """Drawings: the critic is to take them for photographs; at 0 it never sees any."""
    feature_matching: Weight = 0.1
    """Photographs: the critic sees the same in both."""
    feature_moments: Weight = 0
    """Drawings: the critic sees as much of everything as in photographs."""


class DetailConfig(Settings):
    """Everything that defines a run."""

    seed: int = Field(0, ge=0)
    """Of every random number."""
    steps: int = Field(3000, ge=1)
    """Steps in all."""
    alone: int = Field(1000, ge=0)
    """Steps before the critic counts; its losses grow over as many more, at most."""
    batch: int = Field(6, ge=2)
    """Patches of photographs a step, and as many of drawings."""
    patch: int = Field(64, ge=24, le=FRAME_SIZE)
    """Side of a patch in pixels of the smaller size."""
    seen: int = Field(64, ge=24)
    """Side of what the critic sees of each, in pixels of the larger size."""
    learning_rate: float = Field(3e-4, gt=0)
    """Of the detail stage at first, with a cosine to a tenth of it."""
    critic_rate: float = Field(5e-4, gt=0)
    """Of the critic."""
    weave: float = Field(1.0, ge=0)
    """Strength of the weaves in photographs that it is shown, as a multiple of their deviation in drawings."""
    average: float = Field(0.998, ge=0, lt=1)
    """Share of the averaged weights that a step keeps."""
    weights: DetailWeights = DetailWeights()
    """Of the losses."""
    networks: DetailWidths = DetailWidths(width=24, dilations=(1, 2, 4, 4, 2, 1), critic=24)
    """Sizes of the networks."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.seen > SCALE * self.patch:
            raise ValueError(f"the critic cannot see {self.seen} pixels of patches of {SCALE * self.patch}")
        return self
