"""Graph surgery at load: what is shipped stays as it is, what runs is faster.

The recogniser is joined to whatever makes faces, so that they are scored where they were made; and PReLU, which ONNX
Runtime computes slowly on a CPU, is written as convolutions, which it computes fast; so is padding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, compose, helper, numpy_helper

from app.runtime.weightless import converted, inferred_shapes

Rewritten = tuple[list[NodeProto], list[TensorProto]]
"""What a node became: nodes in its place, and initialisers that they need."""

OPSET, IR_VERSION = 18, 10
EMBEDDING, IMAGE, LARGER = "embedding", "image", "larger"
LEAST_FACTOR = 1e-6
FEW = 4
"""Channels of a convolution in int8 that gives a block of pixels at once."""
DOWN, ACROSS = 2, 4
"""The block: with three channels, 24 columns of weights. The fastest of those tried, from 1x4 to 4x4 and 2x8."""
BLOCK = 16
"""Channels in a block of ONNX Runtime's layout for convolutions with AVX-512; with AVX2 they are 8."""


def recognizer_of_frames(path: Path, rows: NDArray[np.float32], columns: NDArray[np.float32]) -> ModelProto:
    """A recogniser from bytes to unit vectors: image uint8 [n, s, s, 3] -> embedding float32 [n, e].

    Args:
        path: the shipped network, which takes its own crop [n, t, t, 3] in [-1, 1] and gives vectors of any length.
        rows, columns: [t, s] each: crop = rows @ pixels @ columns.T.
    """
    network = compose.add_prefix(read(path), "recognizer/")
    taken, given = network.graph.input[0].name, network.graph.output[0].name
    embedding_size = network.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    height, width = rows.shape[1], columns.shape[1]
    constants = {
        "crop/half": np.float32(127.5),
        "crop/one": np.float32(1),
        "crop/rows": rows,
        "crop/columns": np.ascontiguousarray(columns.T),
        "unit/axis": np.array([1]),
        "unit/least": np.float32(1e-9),
    }
    before = [
        helper.make_node("Cast", [IMAGE], ["crop/levels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["crop/levels", "crop/half"], ["crop/scaled"]),
        helper.make_node("Sub", ["crop/scaled", "crop/one"], ["crop/pixels"]),
        helper.make_node("Transpose", ["crop/pixels"], ["crop/planes"], perm=[0, 3, 1, 2]),
        helper.make_node("MatMul", ["crop/rows", "crop/planes"], ["crop/tall"]),
        helper.make_node("MatMul", ["crop/tall", "crop/columns"], ["crop/square"]),
        helper.make_node("Transpose", ["crop/square"], [taken], perm=[0, 2, 3, 1]),
    ]
    after = [
        helper.make_node("ReduceL2", [given, "unit/axis"], ["unit/length"], keepdims=1),
        helper.make_node("Max", ["unit/length", "unit/least"], ["unit/divisor"]),
        helper.make_node("Div", [given, "unit/divisor"], [EMBEDDING]),
    ]
    graph = helper.make_graph(
        [*before, *network.graph.node, *after],
        "recognizer",
        [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["n", height, width, 3])],
        [helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["n", embedding_size])],
        [*network.graph.initializer, *(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())],
    )
    return _model(graph)


def scored(path: Path, recognizer: ModelProto, image: str, half: bool = False) -> ModelProto:
    """A network and the recogniser as one: its inputs and outputs, and the embedding of its `image`.

    A network that gives the embedding by itself stays as it is: an encoder stands on the recogniser anyway.

    Args:
        path: the encoder or the decoder.
        recognizer: what `recognizer_of_frames` gave.
        image: the network's tensor of faces, an input or an output.
        half: whether the network, not the recogniser, computes in float16 (see `halved`).
    """
    network = halved(read(path)) if half else read(path)
    own = [value.name for value in network.graph.output]
    if EMBEDDING in own:
        return network
    recognizer = compose.add_prefix(recognizer, "score/")
    if image in own:
        pairs = [(image, f"score/{IMAGE}")]
        joined = compose.merge_graphs(network.graph, recognizer.graph, pairs, outputs=[*own, f"score/{EMBEDDING}"])
    else:
        # Both begin with the same faces, so nothing of the one flows into the other.
        graph = recognizer.graph
        for node in graph.node:
            node.input[:] = [image if name == f"score/{IMAGE}" else name for name in node.input]
        joined = helper.make_graph(
            [*network.graph.node, *graph.node],
            network.graph.name,
            network.graph.input,
            [*network.graph.output, *graph.output],
            [*network.graph.initializer, *graph.initializer],
        )
    for node in joined.node:
        node.output[:] = [EMBEDDING if name == f"score/{EMBEDDING}" else name for name in node.output]
    joined.output[-1].name = EMBEDDING
    return _model(joined)


def serialized(model: ModelProto, cuda: bool) -> bytes:
    """The model as a session takes it, rewritten for the device."""
    data: bytes = (model if cuda else convolved_prelu(widened(model))).SerializeToString()
    return data


def widened(model: ModelProto) -> ModelProto:
    """Have convolutions in int8 that give a few channels, as colours are, give those of a block of pixels at once.

    ONNX Runtime multiplies 16 columns of weights at a time and rounds pixel by pixel: three columns cost it more than
    24. The window grows by the block and zeros fill it. They are added as whole numbers, so that nothing changes, not
    in the last bit.
    """
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return model
    shapes = inferred_shapes(model)
    makers = {node.output[0]: node for node in model.graph.node}
    blocks: dict[str, tuple[int, int, int]] = {}

    def rewrite(node: NodeProto, constants: _Constants) -> Rewritten:
        if node.op_type == "QuantizeLinear" and node.input[0] in blocks:
            return _apart(node, blocks[node.input[0]])
        if node.op_type != "Conv" or len(node.input) != 3:
            return [node], []
        stored = [_dequantized(makers.get(name), constants) for name in node.input[1:]]
        shape = shapes.get(node.output[0], [])
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        plain = attributes.get("pads") == [1, 1, 1, 1] and attributes.get("group", 1) == 1
        plain = plain and set(attributes.get("strides", [1])) | set(attributes.get("dilations", [1])) == {1}
        if not plain or not stored[0] or not stored[1] or len(shape) != 4:
            return [node], []
        channels, _, *window = stored[0][0].shape
        if channels > FEW or window != [3, 3] or shape[2] % DOWN or shape[3] % ACROSS or stored[0][2].any():
            return [node], []
        blocks[node.output[0]] = (channels, shape[2], shape[3])
        return _wide(node, stored[0], stored[1])

    return _rewritten(model, rewrite)


def _dequantized(node: NodeProto | None, constants: _Constants) -> list[NDArray[np.generic]]:
    """What DequantizeLinear makes constants of: whole numbers, scales, and what stands for 0; empty if it does not."""
    if node is None or node.op_type != "DequantizeLinear" or len(node.input) != 3:
        return []
    found = [constants.get(name) for name in node.input]
    return [value for value in found if value is not None] if all(value is not None for value in found) else []


def _wide(node: NodeProto, weights: list[NDArray[np.generic]], bias: list[NDArray[np.generic]]) -> Rewritten:
    """The convolution over a window that holds those of every pixel of a block."""
    old, (x, y) = weights[0], (node.input[0], node.output[0])
    wide = np.zeros((DOWN, ACROSS, *old.shape[:2], DOWN + 2, ACROSS + 2), old.dtype)
    for row, column in np.ndindex(DOWN, ACROSS):
        wide[row, column, ..., row : row + 3, column : column + 3] = old
    pixels = DOWN * ACROSS
    values = {
        "weights": [wide.reshape(-1, *wide.shape[3:]), *(np.tile(value, pixels) for value in weights[1:])],
        "bias": [np.tile(value, pixels) for value in bias],
    }
    nodes, added = [], []
    for name, parts in values.items():
        names = [f"{y}/{name}/{index}" for index in range(3)]
        added += [numpy_helper.from_array(value, key) for key, value in zip(names, parts, strict=True)]
        nodes.append(helper.make_node("DequantizeLinear", names, [f"{y}/{name}"], axis=0))
    made = helper.make_node(
        "Conv",
        [x, f"{y}/weights", f"{y}/bias"],
        [y],
        kernel_shape=[DOWN + 2, ACROSS + 2],
        strides=[DOWN, ACROSS],
        pads=[1, 1, 1, 1],
    )
    return [*nodes, made], added


def _apart(node: NodeProto, size: tuple[int, int, int]) -> Rewritten:
    """What follows such a convolution: its blocks laid out as pixels, [n, channels, height, width]."""
    (channels, height, width), y = size, node.output[0]
    node.output[0] = f"{y}/blocks"
    shapes = {
        f"{y}/split/shape": [-1, height // DOWN, width // ACROSS, DOWN, ACROSS * channels],
        f"{y}/pixels/shape": [-1, height, width, channels],
    }
    nodes = [
        node,
        helper.make_node("Transpose", [node.output[0]], [f"{y}/last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", [f"{y}/last", f"{y}/split/shape"], [f"{y}/split"]),
        helper.make_node("Transpose", [f"{y}/split"], [f"{y}/rows"], perm=[0, 1, 3, 2, 4]),
        helper.make_node("Reshape", [f"{y}/rows", f"{y}/pixels/shape"], [f"{y}/pixels"]),
        helper.make_node("Transpose", [f"{y}/pixels"], [y], perm=[0, 3, 1, 2]),
    ]
    return nodes, [numpy_helper.from_array(np.array(value), name) for name, value in shapes.items()]


def convolved_padding(model: ModelProto) -> ModelProto:
    """Write padding with more channels as a convolution, and have one follow each pooling, which changes nothing.

    On a CPU, ONNX Runtime computes convolutions in blocks of channels, and what goes between them too: but not padding,
    nor the pooling of channels that fill no whole block. Whatever their result is added to, and so all that follows,
    would be turned back and forth between layouts.
    """
    shapes = inferred_shapes(model)

    def convolved(node: NodeProto, constants: _Constants) -> Rewritten:
        if node.op_type not in ("MaxPool", "Pad"):
            return [node], []
        x, y = node.input[0], node.output[0]
        before, after = shapes.get(x, []), shapes.get(y, [])
        if not len(before) == len(after) == 4 or not before[1] or not after[1]:
            return [node], []
        weights = numpy_helper.from_array(np.eye(after[1], before[1], dtype=np.float32)[..., None, None], f"{y}/same")
        if node.op_type == "MaxPool" and after[1] % BLOCK:
            node.output[0] = f"{y}/pooled"
            same = helper.make_node("Conv", [node.output[0], weights.name], [y], kernel_shape=[1, 1])
            return [node, same], [weights]
        pads = constants.get(node.input[1]) if node.op_type == "Pad" and len(node.input) == 2 else None
        if pads is not None and pads.tolist() == [0, 0, 0, 0, 0, after[1] - before[1], 0, 0]:
            return [helper.make_node("Conv", [x, weights.name], [y], kernel_shape=[1, 1])], [weights]
        return [node], []

    return _rewritten(model, convolved)


def convolved_prelu(model: ModelProto) -> ModelProto:
    """Write PReLU with a slope a channel as (1-a) * (a/(1-a)*x + relu(x)), the product a convolution.

    On a CPU, PReLU took two thirds of the recogniser's time: it runs outside the blocked layout of the convolutions
    around it. Written like this nothing leaves the layout: three times as fast, the same to 1e-5. The sum is part of
    the convolution, which is of each channel by itself. The factor goes into the weights of the convolutions that
    follow; where something else follows it is one more.
    """
    users: defaultdict[str, list[NodeProto | None]] = defaultdict(list)
    for value in model.graph.output:
        users[value.name].append(None)
    for node in model.graph.node:
        for name in node.input:
            users[name].append(node)
    factors: dict[str, NDArray[np.float64]] = {}

    def bent(node: NodeProto, constants: _Constants) -> Rewritten:
        slope = constants.get(node.input[1]) if node.op_type == "PRelu" else None
        if slope is None or slope.ndim < 3 or slope.size != slope.shape[-3]:
            return [node], []
        (x, _), (y,) = node.input, node.output
        slopes = slope.astype(np.float64).ravel()
        # A slope of 1 would divide by 0; beside so steep a rest of it, relu(x) hardly counts.
        factor = np.where(np.abs(1 - slopes) < LEAST_FACTOR, LEAST_FACTOR, 1 - slopes)
        after = [user for user in users[y] if user and user.op_type == "Conv" and y not in user.input[1:]]
        folds = len(after) == len(users[y]) and all(constants.get(user.input[1]) is not None for user in after)
        total = y if folds else f"{y}/sum"
        added = [_one_by_one(slopes / factor, f"{y}/slope")]
        nodes = [
            helper.make_node("Relu", [x], [f"{y}/positive"]),
            helper.make_node("Conv", [x, f"{y}/slope"], [f"{y}/straight"], group=slopes.size, kernel_shape=[1, 1]),
            helper.make_node("Add", [f"{y}/straight", f"{y}/positive"], [total]),
        ]
        if folds:
            factors[y] = factor
        else:
            added.append(_one_by_one(factor, f"{y}/factor"))
            nodes.append(helper.make_node("Conv", [total, f"{y}/factor"], [y], group=slopes.size, kernel_shape=[1, 1]))
        return nodes, added

    def rewrite(node: NodeProto, constants: _Constants) -> Rewritten:
        if node.op_type != "Conv" or node.input[0] not in factors:
            return bent(node, constants)
        weights, factor = constants.get(node.input[1]), factors[node.input[0]]
        assert weights is not None  # noqa: S101 - else nothing was left to this convolution
        out_channels, in_channels = weights.shape[:2]
        groups = factor.size // in_channels
        by_weight = np.repeat(factor.reshape(groups, in_channels), out_channels // groups, axis=0)
        node.input[1] = f"{node.output[0]}/weights"
        scaled = (np.asarray(weights, np.float64) * by_weight[:, :, None, None]).astype(np.float32)
        return [node], [numpy_helper.from_array(scaled, node.input[1])]

    return _rewritten(model, rewrite)


def _one_by_one(values: NDArray[np.float64], name: str) -> TensorProto:
    """Weights of a convolution that multiplies each channel by a number."""
    return numpy_helper.from_array(values.astype(np.float32).reshape(-1, 1, 1, 1), name)


def halved(model: ModelProto) -> ModelProto:
    """Every convolution in float16; everything else stays in float32, as do inputs and outputs.

    A norm squares what it is given, and float16 ends at 65,504. ONNX Runtime has a converter, but of a graph whose
    stored weights are widened by Cast nodes it makes one that does not load.
    """

    def half(node: NodeProto, constants: _Constants) -> Rewritten:
        weights = [constants.get(name) for name in node.input[1:]]
        if node.op_type != "Conv" or any(value is None for value in weights):
            return [node], []
        (x, *_), (y,) = node.input, node.output
        halves = [f"{y}/half/{index}" for index in range(len(weights) + 1)]
        added = [
            numpy_helper.from_array(np.asarray(value, np.float16), name)
            for name, value in zip(halves[1:], weights, strict=True)
        ]
        node.input[:], node.output[:] = halves, [f"{y}/half"]
        nodes = [
            helper.make_node("Cast", [x], [halves[0]], to=TensorProto.FLOAT16),
            node,
            helper.make_node("Cast", [f"{y}/half"], [y], to=TensorProto.FLOAT),
        ]
        return nodes, added

    return _rewritten(model, half)


def _rewritten(model: ModelProto, rewrite: Callable[[NodeProto, _Constants], Rewritten]) -> ModelProto:
    """A copy of the model with each node exchanged for what `rewrite` makes of it, and the initialisers that takes."""
    original, model = model, ModelProto()
    model.CopyFrom(original)
    constants = _Constants(model)
    nodes: list[NodeProto] = []
    added: list[TensorProto] = []
    for node in model.graph.node:
        more_nodes, more_added = rewrite(node, constants)
        nodes += more_nodes
        added += more_added
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(added)
    return model


class _Constants:
    """Values of a graph that are known before it runs: initialisers, and casts of them."""

    def __init__(self, model: ModelProto) -> None:
        self._stored = {item.name: item for item in model.graph.initializer}
        self._casts = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}

    def get(self, name: str) -> NDArray[np.generic] | None:
        name = self._casts.get(name, name)
        return numpy_helper.to_array(self._stored[name]) if name in self._stored else None


def _current(model: ModelProto) -> ModelProto:
    """The same in the operator set that all of them are joined in."""
    version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if version != OPSET:
        model = converted(model, OPSET)
    del model.graph.value_info[:]  # shapes of a graph that is about to change
    return model


def read(path: Path, to_join: bool = True) -> ModelProto:
    """A shipped network.

    Args:
        path: the file.
        to_join: whether in the operator set that all of them are joined in, else in its own.

    Raises:
        ValueError: the file holds none.
    """
    try:
        model = onnx.load(path)
        return _current(model) if to_join else model
    except Exception as error:  # protobuf and onnx have several, and none of them names the file
        raise ValueError(f"{path.name} is not an ONNX model ({error})") from error


def _model(graph: onnx.GraphProto) -> ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
