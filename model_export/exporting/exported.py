"""Weights back from the graphs that `export` wrote, so that training can start from a model that is served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from model_export.networks.generator import IDENTITY_SIZE, Encoder

START_DEVIATION = 0.15
"""Of the latent's noise: what the encoder said of it is gone, since the latent was whitened behind it."""


@torch.no_grad()
def restore(network: nn.Module, path: Path, prefix: str) -> None:
    """Fill a network's parameters with the constants of an exported graph.

    Args:
        network: of the same sizes as the exported one; changed in place.
        path: the ONNX file.
        prefix: what the names of the constants begin with, before the parameter's own.

    Raises:
        ValueError: a parameter is not in the graph, or has another shape there.
    """
    constants = {
        item.name.removesuffix("_half"): np.array(numpy_helper.to_array(item))
        for item in onnx.load(path).graph.initializer
    }
    for name, parameter in network.named_parameters():
        value = constants.get(prefix + name)
        if value is None or value.shape != tuple(parameter.shape):
            found = "missing" if value is None else f"of shape {list(value.shape)}"
            raise ValueError(f"{path}: {name} is {found}; the run's networks want {list(parameter.shape)}")
        parameter.copy_(torch.from_numpy(value.astype(np.float32)))


@torch.no_grad()
def forget_noise(encoder: Encoder) -> None:
    """Give the encoder the same small noise in every dimension and for every face."""
    last = encoder.head[-1]
    assert isinstance(last, nn.Linear)
    last.weight[IDENTITY_SIZE:] = 0
    last.bias[IDENTITY_SIZE:] = 2 * np.log(START_DEVIATION)
