"""dlib's recogniser, which training can be judged by, on weights made up in the format of the real ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from model_export.networks.pretrained import DlibRecognizer
from model_export.networks.tensorflow_js import read_manifest
from tests.model_export.conftest import DLIB_SHAPES


def unfolded(manifest: Path, images: torch.Tensor) -> torch.Tensor:
    """The same network as its source writes it: NHWC kernels, and a scale after each convolution."""
    arrays = read_manifest(json.loads(manifest.read_text()), manifest.parent)

    def convolve(x: torch.Tensor, key: str, stride: int, padding: int) -> torch.Tensor:
        kernel = torch.from_numpy(arrays[f"{key}/conv/filters"].copy()).permute(3, 2, 0, 1)
        parts = [torch.from_numpy(arrays[f"{key}/{name}"].copy()) for name in ("scale/weights", "scale/biases")]
        bias = torch.from_numpy(arrays[f"{key}/conv/bias"].copy())
        scale, shift = (part.view(1, -1, 1, 1) for part in parts)
        return functional.conv2d(x, kernel, bias, stride, padding) * scale + shift

    pixels = functional.pad((images + 1) * 127.5, (6, 6, 6, 6), mode="replicate")
    pixels = functional.interpolate(pixels, size=(150, 150), mode="bilinear", align_corners=False)
    x = (pixels - torch.tensor([122.782, 117.001, 104.298]).view(1, 3, 1, 1)) / 255
    x = functional.max_pool2d(convolve(x, "conv32_down", 2, 0).relu(), 3, 2)
    x = (x + convolve(convolve(x, "conv32_1/conv1", 1, 1).relu(), "conv32_1/conv2", 1, 1)).relu()
    y = convolve(convolve(x, "conv64_down/conv1", 2, 0).relu(), "conv64_down/conv2", 1, 1)
    x = functional.avg_pool2d(x, 2)
    padded = torch.zeros(len(x), 6, *x.shape[2:])
    padded[:, :4] = x
    padded[:, :, : y.shape[2], : y.shape[3]] += y
    return padded.relu().mean((2, 3)) @ torch.from_numpy(arrays["fc"].copy())


def test_quantised_weights_are_widened(dlib_weights: Path) -> None:
    arrays = read_manifest(json.loads(dlib_weights.read_text()), dlib_weights.parent)
    stored = np.frombuffer((dlib_weights.parent / "weights.bin").read_bytes(), np.uint8, 48)
    assert arrays["fc"].dtype == np.float32
    np.testing.assert_allclose(arrays["fc"].ravel(), stored * 0.004 - 0.5, atol=1e-6)
    assert len(arrays) == 1 + 4 * len(DLIB_SHAPES)


def test_the_folded_network_computes_what_its_source_does(dlib_weights: Path) -> None:
    images = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(2)) * 2 - 1
    network = DlibRecognizer(dlib_weights)
    expected = unfolded(dlib_weights, images)
    torch.testing.assert_close(network.embed(images), expected, rtol=1e-4, atol=1e-4)

    network.fit(images)
    centred = expected - expected.mean(0)
    torch.testing.assert_close(network(images), centred / centred.norm(dim=1, keepdim=True), rtol=1e-2, atol=1e-2)


def test_the_face_gets_its_gradient_and_the_weights_none(dlib_weights: Path) -> None:
    images = torch.zeros(1, 3, 128, 128, requires_grad=True)
    network = DlibRecognizer(dlib_weights)
    network(images)[0, 0].backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert not list(network.parameters())
