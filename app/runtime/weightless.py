"""What onnx finds out of a graph or makes of it without its weights, which it would write and read on the way."""

from __future__ import annotations

import math

import onnx
from onnx import ModelProto, TensorProto, helper, version_converter

MOST_OF_A_SHAPE = 64
"""Numbers of an initialiser beyond which it is weights, and only its own shape counts."""


def inferred_shapes(model: ModelProto) -> dict[str, list[int]]:
    """Shapes of what flows between nodes; 0 where a size varies."""
    inferred = onnx.shape_inference.infer_shapes(_light(model)).graph.value_info
    return {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in inferred}


def converted(model: ModelProto, opset: int) -> ModelProto:
    """The model in another operator set."""
    light = version_converter.convert_version(_light(model), opset)
    del light.graph.input[:]
    light.graph.input.extend(model.graph.input)
    light.graph.initializer.extend(item for item in model.graph.initializer if _is_weights(item))
    return light


def _light(model: ModelProto) -> ModelProto:
    """The model with its weights as inputs."""
    known = {value.name for value in model.graph.input}
    weights = [
        helper.make_tensor_value_info(item.name, item.data_type, item.dims)
        for item in model.graph.initializer
        if _is_weights(item) and item.name not in known
    ]
    graph = helper.make_graph(
        model.graph.node,
        model.graph.name,
        [*model.graph.input, *weights],
        model.graph.output,
        [item for item in model.graph.initializer if not _is_weights(item)],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _is_weights(item: TensorProto) -> bool:
    numbers: int = math.prod(item.dims)
    return numbers > MOST_OF_A_SHAPE
