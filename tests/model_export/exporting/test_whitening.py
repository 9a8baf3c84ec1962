"""Whitening: the pictures stay while the latent becomes standard normal."""

from __future__ import annotations

import pytest
import torch

from model_export.exporting.whitening import latents, whiten
from model_export.networks.generator import IDENTITY_SIZE, Decoder, Encoder
from model_export.preparing.dataset import FaceSet
from tests.model_export.tiny import TINY


def test_latents_are_the_means_of_that_many_faces(face_set: FaceSet) -> None:
    encoder = Encoder(TINY.networks).eval()
    some = latents(encoder, face_set, 3)
    assert some.shape == (3, IDENTITY_SIZE)
    everything = latents(encoder, face_set, 10**6)
    assert len(everything) == len(face_set)
    assert all((everything - row).abs().sum(1).min() < 1e-3 for row in some)


def test_pictures_stay_while_the_latent_changes() -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder(TINY.networks).eval(), Decoder(TINY.networks).eval()
    images, embeddings = torch.rand(4, 3, 128, 128) * 2 - 1, torch.nn.functional.normalize(torch.randn(4, 192))
    control = torch.rand(4, 10) * 2 - 1
    stretch = torch.randn(IDENTITY_SIZE, IDENTITY_SIZE).double() / 4 + torch.eye(IDENTITY_SIZE).double()
    means = torch.randn(2000, IDENTITY_SIZE).double() @ stretch + 2
    with torch.no_grad():
        before, _ = encoder(images, embeddings)
        drawn = decoder(before, control)
        whiten(encoder, decoder, means)
        after, _ = encoder(images, embeddings)
        assert (after - before).abs().max() > 1
        assert (decoder(after, control) - drawn).abs().max() < 1e-3


def test_covariance_becomes_the_identity() -> None:
    torch.manual_seed(1)
    encoder, decoder = Encoder(TINY.networks).eval(), Decoder(TINY.networks).eval()
    means = torch.randn(2000, IDENTITY_SIZE).double() @ torch.randn(IDENTITY_SIZE, IDENTITY_SIZE).double() + 2
    weight, bias = (value.detach().clone() for value in (decoder.start.weight, decoder.start.bias))
    whiten(encoder, decoder, means)
    # What the decoder sees of a standard normal has the moments of what it saw before.
    assert torch.allclose(decoder.start.bias.double(), bias.double() + weight.double() @ means.mean(0), atol=1e-4)
    wanted = weight.double() @ torch.cov(means.T) @ weight.double().T
    found = decoder.start.weight.double() @ decoder.start.weight.double().T
    assert (found - wanted).norm() < 1e-3 * wanted.norm()


def test_too_few_faces_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        whiten(Encoder(TINY.networks), Decoder(TINY.networks), torch.randn(100, IDENTITY_SIZE).double())
