"""The latent's distribution, fitted after training and folded into the weights.

Training brings the encoder's means only near its prior: their mean is not 0, and their directions vary unequally and
together. Since the encoder ends and the decoder begins with linear layers, an affine change of the latent goes into
their weights: what is drawn for a photograph stays what it was, and a random identity becomes a face like the others.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from model_export.networks.generator import IDENTITY_SIZE, Decoder, Encoder
from model_export.pictures import to_tensor
from model_export.preparing.dataset import FaceSet

LEAST_LATENTS = 4 * IDENTITY_SIZE
"""Faces below which their covariance is not known."""
LEAST_VARIANCE = 1e-2
"""Of a direction of the latent: below it noise would be blown up, and with it the error of float16 weights."""


@torch.no_grad()
def latents(encoder: Encoder, faces: FaceSet, count: int, seed: int = 0) -> Tensor:
    """The encoder's means of `count` random faces (of all, if there are fewer), float64 [n, 70]."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(faces))[:count])
    means = []
    for rows in np.array_split(chosen, max(1, len(chosen) // 64)):
        images = to_tensor(faces.faces[rows])
        means.append(encoder(images, torch.from_numpy(faces.embeddings[rows]))[0])
    return torch.cat(means).double()


@torch.no_grad()
def whiten(encoder: Encoder, decoder: Decoder, means: Tensor) -> None:
    """Change both networks in place, so that latents which were distributed as `means` [n, 70] are standard normal.

    The change is symmetric (ZCA, Bell & Sejnowski 1997): each dimension stays as near as can be to what it was.

    Raises:
        ValueError: there are too few latents to know their covariance.
    """
    if len(means) < LEAST_LATENTS:
        raise ValueError(f"{len(means)} faces are too few to fit {IDENTITY_SIZE} dimensions; give {LEAST_LATENTS}")
    centre = means.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov(means.T))
    deviations = variances.clamp(min=LEAST_VARIANCE).sqrt()
    shrink, widen = (directions @ torch.diag(scale) @ directions.T for scale in (1 / deviations, deviations))
    last = encoder.head[-1]
    assert isinstance(last, nn.Linear)
    # The second half of the rows is the log-variance, which nobody reads once training is over.
    last.weight[:IDENTITY_SIZE] = (shrink @ last.weight[:IDENTITY_SIZE].double()).float()
    last.bias[:IDENTITY_SIZE] = (shrink @ (last.bias[:IDENTITY_SIZE].double() - centre)).float()
    for first in (decoder.identity_style[0], decoder.start):
        assert isinstance(first, nn.Linear)
        weight = first.weight.double()
        first.bias.add_((weight @ centre).float())
        first.weight.copy_((weight @ widen).float())
