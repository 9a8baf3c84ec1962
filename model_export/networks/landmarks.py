"""Frozen networks that place 68 landmarks on a face, and the features of a face that are measured by them.

They are the labels that InfoGAN's semi-supervision needs: what a control does to a face becomes a number that has a
gradient. Two networks steer, a third that training never sees judges (see `evaluation`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor, nn

from model_export.networks.tensorflow_js import read_manifest

POINTS = 68
"""As iBUG 300-W orders them (Sagonas et al. 2013): jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67."""

EYES = (36, 39, 42, 45)


class SmallLandmarks(nn.Module):
    """`fr_landmark.onnx` of npm's faceplugin-face-recognition-js (MIT), rebuilt in PyTorch: 64 x 64 grey -> 68 points.

    Raises:
        ValueError: the graph holds an operator that the network does not have.
    """

    size = 64

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        constants = {item.name: np.array(numpy_helper.to_array(item)) for item in graph.initializer}
        self._steps: list[tuple[str, list[str], str, dict[str, Any]]] = []
        for node in graph.node:
            if node.op_type not in ("Conv", "Relu", "Add", "Flatten", "Gemm", "BatchNormalization"):
                raise ValueError(f"{path.name}: cannot rebuild the operator {node.op_type}")
            names = []
            for name in node.input:
                if name in constants:
                    key = "constant_" + name.replace(".", "_")
                    if key not in self._buffers:
                        self.register_buffer(key, torch.from_numpy(constants[name]))
                    name = key
                names.append(name)
            attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            self._steps.append((node.op_type, names, node.output[0], attributes))
        self._input, self._output = graph.input[0].name, graph.output[0].name
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 3, 128, 128] in [-1, 1] in the face frame -> points [n, 68, 2], x and y in units of the frame."""
        luma = torch.tensor([0.299, 0.587, 0.114], device=images.device, dtype=images.dtype).view(1, 3, 1, 1)
        grey = F.adaptive_avg_pool2d((images * luma).sum(1, keepdim=True), self.size)
        values: dict[str, Tensor] = {self._input: (grey + 1) * (127.5 / 256)}
        for operator, names, output, attributes in self._steps:
            x, *rest = (values[name] if name in values else self.get_buffer(name) for name in names)
            if operator == "Conv":
                top = attributes["pads"][0]
                values[output] = F.conv2d(x, rest[0], rest[1], attributes["strides"], top, groups=attributes["group"])
            elif operator == "Relu":
                values[output] = F.relu(x)
            elif operator == "Add":
                values[output] = x + rest[0]
            elif operator == "Flatten":
                values[output] = x.flatten(1)
            elif operator == "Gemm":
                values[output] = F.linear(x, rest[0], rest[1])
            else:
                scale, shift, mean, variance = rest
                values[output] = (x - mean) * (scale * torch.rsqrt(variance + attributes["epsilon"])) + shift
        return values[self._output].float().unflatten(1, (POINTS, 2))


class DenseLandmarks(nn.Module):
    """`face_landmark_68_model` of npm's @vladmandic/face-api (MIT), rebuilt in PyTorch: 112 x 112 RGB -> 68 points.

    Dense blocks of depthwise separable convolutions (Muehler 2018, face-api.js): four of four, or three of three in its
    `face_landmark_68_tiny_model`.
    """

    size = 112
    margin = 12
    """Pixels of repeated edge: it was trained on looser crops than the face frame."""

    def __init__(self, manifest: Path) -> None:
        super().__init__()
        arrays = read_manifest(json.loads(manifest.read_text()), manifest.parent)
        for name, value in arrays.items():
            if name.endswith(("filter", "filters")):
                depthwise = name.endswith("depthwise_filter")
                value = value.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
            self.register_buffer(name.replace("/", "_"), torch.from_numpy(np.ascontiguousarray(value)))
        self._blocks = 1 + max(int(name.removeprefix("dense")[0]) for name in arrays if name.startswith("dense"))
        self._convolutions = 4 if "dense0/conv3/depthwise_filter" in arrays else 3
        self.register_buffer("mean", torch.tensor([122.782, 117.001, 104.298]).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 3, 128, 128] in [-1, 1] in the face frame -> points [n, 68, 2], x and y in units of the frame."""
        wide = 1 + 2 * self.margin / images.shape[-1]
        x = F.pad(images, (self.margin,) * 4, mode="replicate")
        x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        x = ((x + 1) * 127.5 - self.get_buffer("mean")) / 255
        for block in range(self._blocks):
            x = self._block(x, f"dense{block}", first=block == 0)
        x = x.mean((2, 3))
        points = x @ self.get_buffer("fc_weights") + self.get_buffer("fc_bias")
        return points.float().unflatten(1, (POINTS, 2)) * wide - (wide - 1) / 2

    def _block(self, x: Tensor, name: str, *, first: bool) -> Tensor:
        total = F.relu(self._plain(x, f"{name}_conv0") if first else self._separable(x, f"{name}_conv0", 2))
        terms, last = total, total
        for index in range(1, self._convolutions):
            terms = terms + self._separable(last, f"{name}_conv{index}", 1)
            last = F.relu(terms)
        return last

    def _plain(self, x: Tensor, name: str) -> Tensor:
        return F.conv2d(_same(x), self.get_buffer(f"{name}_filters"), self.get_buffer(f"{name}_bias"), 2)

    def _separable(self, x: Tensor, name: str, stride: int) -> Tensor:
        depthwise, pointwise = (self.get_buffer(f"{name}_{part}_filter") for part in ("depthwise", "pointwise"))
        x = F.conv2d(_same(x) if stride == 2 else F.pad(x, (1, 1, 1, 1)), depthwise, None, stride, groups=x.shape[1])
        return F.conv2d(x, pointwise, self.get_buffer(f"{name}_bias"))


def _same(x: Tensor) -> Tensor:
    """TensorFlow's "same" padding of a 3 x 3 convolution with a stride of 2 on an even side: after, not before."""
    return F.pad(x, (0, 1, 0, 1))


FEATURES = (
    "face_width",
    "jaw_width",
    "chin",
    "nose_width",
    "nose_length",
    "mouth_width",
    "lips",
    "mouth_opening",
    "eyes",
    "brows",
    "smile",
    "turn",
)
"""What `features` measures, in its order."""


def features(points: Tensor) -> Tensor:
    """Landmarks [n, 68, 2] -> features [n, 12] in the order of `FEATURES`, in units of the frame.

    Widths are distances, heights differences of means: of the brows over the eyes, of the nose's and the chin's end
    under them, of the mouth's middle under its corners (`smile`), of the nose's tip from the head's middle (`turn`).
    """

    def distance(a: int, b: int) -> Tensor:
        return (points[:, a] - points[:, b]).square().sum(1).add(1e-8).sqrt()

    def height(*indices: int) -> Tensor:
        return points[:, list(indices), 1].mean(1)

    values = {
        "face_width": distance(2, 14),
        "jaw_width": distance(5, 11),
        "chin": height(7, 8, 9) - height(57),
        "nose_width": distance(31, 35),
        "nose_length": height(31, 32, 33, 34, 35) - height(*EYES),
        "mouth_width": distance(48, 54),
        "lips": distance(51, 57) - distance(62, 66),
        "mouth_opening": distance(62, 66),
        "eyes": torch.stack([distance(37, 41), distance(38, 40), distance(43, 47), distance(44, 46)]).mean(0),
        "brows": height(*EYES) - height(18, 19, 20, 23, 24, 25),
        "smile": height(51, 57) - height(48, 54),
        "turn": points[:, 30, 0] - (points[:, 1, 0] + points[:, 15, 0]) / 2,
    }
    return torch.stack([values[name] for name in FEATURES], dim=1)
