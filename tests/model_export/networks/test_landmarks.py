"""Networks that place landmarks, and the features that are measured by them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch.nn import functional

from model_export.networks.landmarks import FEATURES, POINTS, DenseLandmarks, SmallLandmarks, features


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 128, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_rebuilt_network_computes_what_its_file_does(landmark_net: Path) -> None:
    pictures = images()
    grey = (pictures * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    given = ((functional.avg_pool2d(grey, 2) + 1) * 127.5 / 256).numpy()
    (expected,) = ort.InferenceSession(landmark_net).run(None, {"input": given})
    found = SmallLandmarks(landmark_net)(pictures)
    assert found.shape == (3, POINTS, 2)
    np.testing.assert_allclose(found.flatten(1).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_network_of_another_kind_is_refused() -> None:
    recogniser = Path(__file__).parents[3] / "app" / "models" / "face_recognizer.onnx"
    with pytest.raises(ValueError, match="cannot rebuild the operator"):
        SmallLandmarks(recogniser)


@pytest.fixture(scope="module", params=[4, 3], ids=["usual", "tiny"])
def dense_weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up weights in the format of face-api's: four blocks of four, or three of three in the tiny one."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels, count = 3, request.param
    for block, width in enumerate((32, 64, 128, 256)[:count]):
        for index in range(count):
            name = f"dense{block}/conv{index}"
            if block == 0 and index == 0:
                shapes[f"{name}/filters"] = (3, 3, 3, width)
            else:
                shapes[f"{name}/depthwise_filter"] = (3, 3, channels if index == 0 else width, 1)
                shapes[f"{name}/pointwise_filter"] = (1, 1, channels if index == 0 else width, width)
            shapes[f"{name}/bias"] = (width,)
        channels = width
    shapes |= {"fc/weights": (channels, 136), "fc/bias": (136,)}
    folder = tmp_path_factory.mktemp("dense")
    random = np.random.default_rng(3)
    data = b"".join(random.normal(0, 0.1, shape).astype(np.float32).tobytes() for shape in shapes.values())
    (folder / "weights.bin").write_bytes(data)
    weights = [{"name": name, "shape": list(shape), "dtype": "float32"} for name, shape in shapes.items()]
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps([{"paths": ["weights.bin"], "weights": weights}]))
    return manifest


def test_points_follow_a_face_that_is_zoomed_about_the_middle(dense_weights: Path) -> None:
    """A net's answer is in units of its crop, which is wider than the frame by a margin on each side."""
    network = DenseLandmarks(dense_weights)
    network.get_buffer("fc_weights").zero_()
    network.get_buffer("fc_bias").fill_(1.0)  # the lower right corner of the crop
    corner = 1 + network.margin / 128
    torch.testing.assert_close(network(images(1)), torch.full((1, POINTS, 2), corner))


def test_the_face_gets_its_gradient_and_the_weights_none(dense_weights: Path, landmark_net: Path) -> None:
    for network in (DenseLandmarks(dense_weights), SmallLandmarks(landmark_net)):
        pictures = images(1).requires_grad_()
        network(pictures).square().sum().backward()
        assert pictures.grad is not None
        assert pictures.grad.abs().sum() > 0
        assert not any(value.requires_grad for value in network.buffers())


def test_each_feature_is_what_its_name_says() -> None:
    points = torch.rand(1, POINTS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def change(name: str, moves: dict[int, tuple[float, float]]) -> float:
        moved = points.clone()
        for index, (x, y) in moves.items():
            moved[:, index] += torch.tensor([x, y])
        return float((features(moved) - features(points))[0, FEATURES.index(name)])

    assert change("chin", dict.fromkeys((7, 8, 9), (0.0, 0.1))) == pytest.approx(0.1)
    assert change("nose_length", dict.fromkeys(range(31, 36), (0.0, 0.1))) == pytest.approx(0.1)
    assert change("brows", dict.fromkeys((18, 19, 20, 23, 24, 25), (0.0, -0.1))) == pytest.approx(0.1)
    assert change("smile", dict.fromkeys((48, 54), (0.0, -0.1))) == pytest.approx(0.1)
    assert change("turn", {30: (0.1, 0.0)}) == pytest.approx(0.1)
    for name, (left, right) in {"face_width": (2, 14), "jaw_width": (5, 11), "nose_width": (31, 35), "mouth_width": (48, 54)}.items():  # fmt: skip # noqa: E501
        apart = (points[0, right] - points[0, left]).tolist()
        assert change(name, {right: tuple(apart)}) == pytest.approx(float(np.hypot(*apart)), rel=1e-4)
    assert features(points).shape == (1, len(FEATURES))
