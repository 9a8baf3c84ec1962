"""Linear probes that read age, gender and group off perceptual features: the labels' way into the training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

GROUPS = 5


class AttributeProbe(nn.Module):
    """Ridge regression on pooled feature maps: age, gender and membership of each group, in standard deviations.

    Args:
        size: number of channels of all maps together.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("weight", torch.zeros(size, 2 + GROUPS))
        self.register_buffer("bias", torch.zeros(2 + GROUPS))

    @staticmethod
    def pool(features: list[Tensor]) -> Tensor:
        """Maps [n, channels, h, w] -> their means over the places, [n, all channels]."""
        return torch.cat([value.float().mean((2, 3)) * value.shape[1] ** 0.5 for value in features], dim=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Feature maps -> attributes [n, 7]: age, gender, five groups; zeros before `fit`."""
        return (self.pool(features) - self.mean) @ self.weight + self.bias

    def fit(self, pooled: Tensor, ages: np.ndarray, genders: np.ndarray, groups: np.ndarray) -> dict[str, float]:
        """Fit on pooled features [n, all channels]; returns R^2 by attribute on a fifth of them that was left out."""
        targets = np.column_stack([ages, genders == 1, *(groups == group for group in range(GROUPS))]).astype(
            np.float64
        )
        targets = (targets - targets.mean(0)) / np.maximum(targets.std(0), 1e-6)
        y = torch.from_numpy(targets)
        x = pooled.double().cpu()
        left_out = torch.arange(len(x)) % 5 == 0
        weight, bias, mean = _ridge(x[~left_out], y[~left_out])
        residual = y[left_out] - ((x[left_out] - mean) @ weight + bias)
        scores = 1 - residual.square().mean(0) / y[left_out].var(0).clamp(min=1e-9)
        weight, bias, mean = _ridge(x, y)
        for buffer, value in ((self.weight, weight), (self.bias, bias), (self.mean, mean)):
            buffer.copy_(value)
        names = ["age", "gender", *(f"group {group}" for group in range(GROUPS))]
        return dict(zip(names, scores.tolist(), strict=True))


def _ridge(x: Tensor, y: Tensor, strength: float = 0.01) -> tuple[Tensor, Tensor, Tensor]:
    mean, bias = x.mean(0), y.mean(0)
    centred = x - mean
    gram = centred.T @ centred / len(x)
    gram += strength * gram.diagonal().mean() * torch.eye(len(gram), dtype=x.dtype)
    return torch.linalg.solve(gram, centred.T @ (y - bias) / len(x)), bias, mean
