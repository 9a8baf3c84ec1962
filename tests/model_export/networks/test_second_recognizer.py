"""The recogniser that training takes a second opinion from, on weights made up in the format of the real ones."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.model_export.test_train import MODELS, TINY
from torch.nn import functional

from model_export.networks.pretrained import SecondRecognizer
from model_export.networks.tensorflow_js import read_manifest
from model_export.preparing.dataset import FaceSet
from model_export.training.command import TrainConfig, Trainer

SHAPES = {
    "conv32_down": (7, 3, 4),
    "conv32_1/conv1": (3, 4, 4),
    "conv32_1/conv2": (3, 4, 4),
    "conv64_down/conv1": (3, 4, 6),
    "conv64_down/conv2": (3, 6, 6),
}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A recogniser of two blocks, quantised to uint8 as the real one is."""
    random = np.random.default_rng(1)
    entries, data = [], b""
    arrays = {"fc": (6, 8)}
    for name, (side, inputs, outputs) in SHAPES.items():
        arrays |= {f"{name}/conv/filters": (side, side, inputs, outputs), f"{name}/conv/bias": (outputs,)}
        arrays |= {f"{name}/scale/weights": (outputs,), f"{name}/scale/biases": (outputs,)}
    for name, shape in arrays.items():
        quantization = {"dtype": "uint8", "scale": 0.004, "min": -0.5}
        entries.append({"name": name, "shape": shape, "dtype": "float32", "quantization": quantization})
        data += random.integers(0, 256, int(np.prod(shape)), np.uint8).tobytes()
    (tmp_path / "weights.bin").write_bytes(data)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps([{"paths": ["weights.bin"], "weights": entries}]))
    return path


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


def test_quantised_weights_are_widened(manifest: Path) -> None:
    arrays = read_manifest(json.loads(manifest.read_text()), manifest.parent)
    stored = np.frombuffer((manifest.parent / "weights.bin").read_bytes(), np.uint8, 48)
    assert arrays["fc"].dtype == np.float32
    np.testing.assert_allclose(arrays["fc"].ravel(), stored * 0.004 - 0.5, atol=1e-6)
    assert len(arrays) == 1 + 4 * len(SHAPES)


def test_the_folded_network_computes_what_its_source_does(manifest: Path) -> None:
    images = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(2)) * 2 - 1
    network = SecondRecognizer(manifest)
    expected = unfolded(manifest, images)
    torch.testing.assert_close(network.embed(images), expected, rtol=1e-4, atol=1e-4)

    network.fit(images)
    centred = expected - expected.mean(0)
    torch.testing.assert_close(network(images), centred / centred.norm(dim=1, keepdim=True), rtol=1e-2, atol=1e-2)


def test_the_face_gets_its_gradient_and_the_weights_none(manifest: Path) -> None:
    images = torch.zeros(1, 3, 128, 128, requires_grad=True)
    network = SecondRecognizer(manifest)
    network(images)[0, 0].backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert not list(network.parameters())


@pytest.mark.parametrize("name", ["second", "third"])
def test_its_losses_need_it(face_set: FaceSet, name: str) -> None:
    asked = replace(TINY, weights=TINY.weights | {f"{name}_band": 1.0})
    with pytest.raises(ValueError, match=f"--{name}-recognizer"):
        Trainer(asked, face_set, MODELS, torch.device("cpu"))


def test_a_step_counts_both_of_its_losses(face_set: FaceSet, manifest: Path) -> None:
    asked = replace(TINY, warm_up=0.0, weights=TINY.weights | {"second_identity": 4.0, "second_band": 8.0})
    trainer = Trainer(asked, face_set, MODELS, torch.device("cpu"), manifest)
    trainer.step()
    report = trainer.step()
    assert 0 < report["second_identity"] < 2
    assert report["second_band"] >= 0


def test_a_third_recogniser_is_any_mobilefacenet_in_onnx(face_set: FaceSet) -> None:
    asked = replace(TINY, warm_up=0.0, weights=TINY.weights | {"third_identity": 1.0, "third_evenness": 1.0})
    trainer = Trainer(asked, face_set, MODELS, torch.device("cpu"), third=MODELS / "face_recognizer.onnx")
    report = trainer.step()
    # It is the service's own, so it says what that says, but for the rounding of what `prepare` stored.
    assert report["third_identity"] == pytest.approx(report["identity"], abs=1e-3)
    assert report["third_evenness"] == pytest.approx(report["evenness"], abs=1e-3)


def test_a_run_from_before_a_loss_was_there_goes_on_without_it(tmp_path: Path) -> None:
    values = asdict(TrainConfig())
    for name in ("second_identity", "second_band"):
        del values["weights"][name]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert TrainConfig.load(tmp_path / "config.json") == TrainConfig()
