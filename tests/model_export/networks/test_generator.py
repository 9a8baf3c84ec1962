"""What the networks promise by their construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from app.core.faces import Recognizer
from model_export.networks import generator
from model_export.networks.generator import (
    AdaIN,
    ControlRecovery,
    Decoder,
    Discriminator,
    Encoder,
    mixed_precision,
    sample_identity,
)
from model_export.networks.pretrained import FrozenRecognizer, PerceptualFeatures
from model_export.preparing.dataset import FaceSet
from tests.model_export.conftest import MODELS
from tests.model_export.tiny import SMALL


def test_encoder_gives_mean_and_log_variance_and_has_no_normalisation_layer() -> None:
    encoder = Encoder(SMALL)
    mean, log_variance = encoder(torch.rand(3, 3, 128, 128), torch.rand(3, 192))
    assert mean.shape == log_variance.shape == (3, 70)
    kinds = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, AdaIN)
    assert not any(isinstance(module, kinds) for module in encoder.modules())


def test_decoder_draws_128_pixels_within_range_and_stands_on_adain() -> None:
    decoder = Decoder(SMALL)
    image = decoder(torch.randn(2, 70), torch.rand(2, 10))
    assert image.shape == (2, 3, 128, 128)
    assert image.abs().max() <= 1
    assert sum(isinstance(module, AdaIN) for module in decoder.modules()) == 9


def test_before_training_controls_change_nothing_and_identities_do() -> None:
    decoder = Decoder(SMALL)
    identity = torch.randn(2, 70)
    plain, varied = decoder(identity, torch.zeros(2, 10)), decoder(identity, torch.rand(2, 10))
    torch.testing.assert_close(plain, varied)
    assert not torch.allclose(plain[0], plain[1])


def test_the_zero_control_is_the_reconstruction_whatever_the_weights() -> None:
    decoder = Decoder(SMALL)
    for module in decoder.modules():
        if isinstance(module, AdaIN):
            nn.init.normal_(module.control.weight)
    identity = torch.randn(2, 70)
    plain = decoder(identity, torch.zeros(2, 10))
    for module in decoder.modules():
        if isinstance(module, AdaIN):
            nn.init.zeros_(module.control.weight)
    torch.testing.assert_close(plain, decoder(identity, torch.rand(2, 10)))


def test_adain_sets_mean_and_spread_of_every_channel_even_far_from_zero() -> None:
    norm = AdaIN(4, 8)
    style = torch.randn(2, 8)
    x = torch.randn(2, 4, 32, 32) * 300 + 5000  # squares of these overflow float16
    y = norm(x, style, torch.zeros(2, 8))
    scale, shift = norm.identity(style).chunk(2, dim=1)
    torch.testing.assert_close(y.mean((2, 3)), shift, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(y.std((2, 3)), (1 + scale).abs(), atol=1e-2, rtol=1e-2)


def test_q_is_blind_to_a_swap_of_colours_of_equal_luminance() -> None:
    recovery = ControlRecovery(SMALL)
    image = torch.rand(2, 3, 128, 128) * 0.2
    # Adding d to red and taking 0.299 / 0.587 d from green leaves the luminance as it was.
    cast = image + torch.tensor([0.3, -0.3 * 0.299 / 0.587, 0.0]).view(1, 3, 1, 1)
    for first, second in zip(recovery(image, image), recovery(cast, image), strict=True):
        torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)
    mean, _ = recovery(image * 2, image)
    assert not torch.allclose(mean, recovery(image, image)[0])


def test_q_is_blind_to_speckles() -> None:
    recovery = ControlRecovery(SMALL)
    image = torch.rand(2, 3, 128, 128) * 0.2
    speckles = torch.zeros(4, 4)
    speckles[::2], speckles[1::2] = 0.5, -0.5
    for first, second in zip(recovery(image, image), recovery(image + speckles.repeat(32, 32), image), strict=True):
        torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


def test_discriminator_gives_one_logit_a_stage() -> None:
    perceptual = PerceptualFeatures(64)
    features = perceptual(torch.rand(2, 3, 128, 128) * 2 - 1)
    assert [value.shape[2] for value in features] == [32, 16, 8, 4, 2]
    logits = Discriminator(SMALL, [value.shape[1] for value in features])(features)
    assert logits.shape == (2, len(features))
    for value in features:
        torch.testing.assert_close(value.norm(dim=1), torch.ones_like(value[:, 0]), atol=1e-3, rtol=1e-3)


def test_scaled_features_have_a_mean_square_of_one_and_pooled_ones_a_deviation_of_one() -> None:
    perceptual = PerceptualFeatures(64)
    images = torch.rand(40, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = images * torch.linspace(0.1, 1, 40).view(-1, 1, 1, 1)
    perceptual.fit(images)
    scaled = perceptual.scaled(perceptual.raw(images))
    features = perceptual.pooled(scaled)
    assert [value.shape[1] for value in features] == perceptual.pooled_sizes
    for value, pooled in zip(scaled, features[: len(scaled)], strict=True):
        used = value.square().mean((0, 2, 3)) > 0.5  # a channel that such pictures leave at zero stays there
        assert used.float().mean() > 0.5
        torch.testing.assert_close(value.square().mean((0, 2, 3))[used], torch.ones(int(used.sum())), atol=0.01, rtol=0)
        assert pooled.std(0).max() < 1.001
        assert pooled.std(0).median() > 0.9
    for value, parts in zip(scaled, features[len(scaled) :], strict=True):
        count = value.shape[1]
        assert parts.shape[1] == 16 * count
        assert parts.std(0).max() < 1.001
        # The means of the parts of a channel are on average its mean over the picture, each in its own unit.
        corner = value[:, 0, : max(1, value.shape[2] // 4), : max(1, value.shape[3] // 4)].mean((1, 2))
        assert np.corrcoef(parts[:, 0], corner)[0, 1] > 0.999 or corner.std() < 1e-3


def test_the_recogniser_rebuilt_in_pytorch_is_the_one_that_is_served(face_set: FaceSet) -> None:
    faces = face_set.faces[:4]
    served = Recognizer(MODELS, "cpu", threads=1)(faces)
    images = torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 127.5 - 1
    rebuilt = FrozenRecognizer(MODELS / "face_recognizer.onnx")
    np.testing.assert_allclose(rebuilt(images).numpy(), served, atol=1e-5)
    images.requires_grad_()
    rebuilt(images)[:, 0].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_the_recognisers_own_prelu_has_the_gradient_of_pytorchs() -> None:
    from model_export.networks.pretrained import _FrozenPReLU

    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    slope = torch.tensor([-2.0, 0.3, 4.0], dtype=torch.float64)
    own, reference = _FrozenPReLU.apply(x, slope), torch.nn.functional.prelu(x, slope)
    torch.testing.assert_close(own, reference)
    weights = torch.randn_like(x)
    gradients = [torch.autograd.grad((value * weights).sum(), x)[0] for value in (own, reference)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("log_variance", [-2.0, 0.0, 1.0])
def test_sampled_identities_have_the_mean_and_the_variance_asked_for(log_variance: float) -> None:
    sample = sample_identity(torch.full((20_000,), 3.0), torch.full((20_000,), log_variance), torch.randn(20_000))
    assert sample.mean().item() == pytest.approx(3.0, abs=0.05)
    assert sample.var().log().item() == pytest.approx(log_variance, abs=0.05)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [({"avx512_bf16": True}, torch.bfloat16), ({"bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)],
)
def test_bf16_is_used_only_where_the_cpu_has_it(
    capability: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator._cpu_has_bf16.cache_clear()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capability)
    with mixed_precision(torch.device("cpu")):
        assert nn.Linear(4, 4)(torch.zeros(1, 4)).dtype == expected
    generator._cpu_has_bf16.cache_clear()
