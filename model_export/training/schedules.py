"""What changes during a run, as pure functions of the images seen: a resumed run cannot reset it."""

from __future__ import annotations

import math

from model_export.training.config import TrainConfig


def progress(config: TrainConfig, images: int) -> float:
    """Share of the run that `images` faces are, in [0, 1]."""
    return min(1.0, images / config.total_images)


def learning_rate(config: TrainConfig, images: int) -> float:
    """Learning rate after `images` faces: a short linear ramp, then a cosine."""
    ramp = min(1.0, (images + 1) / (0.01 * config.total_images))
    cosine = 0.5 * (1 + math.cos(math.pi * progress(config, images)))
    return ramp * (config.final_rate + (config.learning_rate - config.final_rate) * cosine)


def fade_in(config: TrainConfig, images: int) -> float:
    """Weight in [0, 1] of all losses that are not reconstruction: 0 in the warm-up, then a ramp as long again."""
    return min(1.0, max(0.0, (progress(config, images) - config.warm_up) / max(config.warm_up, 1e-6)))


def average_decay(config: TrainConfig, images: int, batch: int) -> float:
    """Decay of the averaged weights for one step of `batch` faces."""
    return 0.5 ** (batch / max(config.ema_share * images, batch))
