"""Graphs rewritten at load compute what the shipped ones compute."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops.op_conv import Conv as ReferenceConv

from app.core.faces import recognizer_graph
from app.core.generate import CONTROL_SIZE, Generator
from app.runtime import graphs
from app.runtime.sessions import Network
from app.settings import Settings


@pytest.fixture(scope="module")
def models() -> Path:
    return Settings().models


@pytest.fixture(scope="module")
def generator(models: Path) -> Generator:
    return Generator(models, "cpu", 1)


def test_joining_changes_no_pixel_and_no_identity(generator: Generator, models: Path) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    expected = Network(models / "encoder.onnx", "cpu", 1)(faces)[0]
    identities, embeddings = generator.encode(faces)
    np.testing.assert_allclose(identities, expected, atol=1e-4)
    np.testing.assert_allclose(embeddings, generator.recognizer(faces), atol=1e-6)

    controls = np.random.default_rng(1).uniform(-1, 1, (2, CONTROL_SIZE)).astype(np.float32)
    (pixels,) = Network(models / "decoder.onnx", "cpu", 1)(identities, controls)
    images, scores = generator.decode(identities, controls)
    assert np.array_equal(images, pixels)
    np.testing.assert_allclose(scores, generator.recognizer(images), atol=1e-6)


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx", "decoder_int8.onnx"])
def test_what_is_joined_is_a_valid_model(models: Path, name: str) -> None:
    joined = graphs.scored(models / name, recognizer_graph(models), graphs.IMAGE)
    for cuda in (False, True):
        onnx.checker.check_model(graphs.serialized(joined, cuda), full_check=True)


class Conv(ReferenceConv):
    """Sums in float32, as a GPU does: NumPy multiplies matrices of float16 element by element."""

    def _run(self, *inputs: np.ndarray, **attributes: object) -> tuple[np.ndarray, ...]:
        (y,) = super()._run(*(value.astype(np.float32) for value in inputs), **attributes)
        return (y.astype(inputs[0].dtype),)


def test_convolutions_in_float16_draw_the_same_face(models: Path) -> None:
    random = np.random.default_rng(5)
    identity = random.standard_normal((1, 70), np.float32)
    control = random.uniform(-1, 1, (1, CONTROL_SIZE)).astype(np.float32)
    # On a CPU ONNX Runtime computes float16 in float32; the reference implementation rounds as it is written.
    model, feed = onnx.load(models / "decoder.onnx"), {"identity": identity, "control": control}
    exact, half = (
        np.asarray(ReferenceEvaluator(m, new_ops=[Conv]).run(None, feed)[0], float)
        for m in (model, graphs.halved(model))
    )
    error = np.square(exact - half).mean()
    assert error > 0
    assert 10 * np.log10(255**2 / error) > 55
    (served, *_) = Generator(models, "cpu", 1, half=True).decode(identity, control)
    assert np.abs(served - exact).max() <= 1


def test_only_convolutions_are_halved(models: Path) -> None:
    model = graphs.halved(onnx.load(models / "decoder.onnx"))
    onnx.checker.check_model(model, full_check=True)
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    halves = {node.op_type for node in model.graph.node if types.get(node.output[0]) == TensorProto.FLOAT16}
    assert halves == {"Conv", "Cast"}
    assert all(types[node.output[0]] == TensorProto.FLOAT16 for node in model.graph.node if node.op_type == "Conv")


def prelu(slope: np.ndarray) -> onnx.ModelProto:
    """PReLU on [n, 3, 4, 5], its slope stored in half precision as the export does."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["half"], ["slope"], to=TensorProto.FLOAT),
            helper.make_node("PRelu", ["x", "slope"], ["y"]),
        ],
        "prelu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 4, 5])],
        [numpy_helper.from_array(slope.astype(np.float16), "half")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})


@pytest.mark.parametrize("slopes", [(-9.5, 0.25, 8.5), (0, 1, 1.001)])
def test_prelu_is_the_same_as_convolutions_whatever_its_slope(slopes: tuple[float, ...]) -> None:
    model = prelu(np.array(slopes).reshape(3, 1, 1))
    rewritten = graphs.convolved_prelu(model)
    assert [node.op_type for node in model.graph.node] == ["Cast", "PRelu"], "the original stays as it was"
    assert "PRelu" not in [node.op_type for node in rewritten.graph.node]
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(run(rewritten, x)[0], run(model, x)[0], atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_what_prelu_leaves_to_the_convolutions_that_follow_is_done_there(groups: int) -> None:
    random = np.random.default_rng(1)
    weights = {
        "slope": np.array([-3, 0.25, 0.999, 4], np.float32).reshape(4, 1, 1),
        "wide": random.normal(size=(8, 4 // groups, 3, 3)).astype(np.float32),
        "narrow": random.normal(size=(2, 4, 1, 1)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("PRelu", ["x", "slope"], ["bent"]),
            helper.make_node("Conv", ["bent", "wide"], ["y"], group=groups, pads=[1, 1, 1, 1]),
            helper.make_node("Conv", ["bent", "narrow"], ["z"]),
        ],
        "prelu and convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 5, 6])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "z")],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    rewritten = graphs.convolved_prelu(model)
    assert [node.op_type for node in rewritten.graph.node] == ["Relu", "Conv", "Add", "Conv", "Conv"]
    x = random.normal(size=(2, 4, 5, 6)).astype(np.float32)
    for found, expected in zip(run(rewritten, x), run(model, x), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nothing_of_the_recogniser_is_left_to_do_after_prelu(models: Path) -> None:
    shipped = recognizer_graph(models)
    counts = [Counter(node.op_type for node in m.graph.node) for m in (shipped, graphs.convolved_prelu(shipped))]
    assert counts[1] == counts[0] - Counter(PRelu=33) + Counter(Relu=33, Conv=33, Add=33)


@pytest.mark.parametrize("shape", [(1,), (3, 4, 5), (4, 1)])
def test_prelu_with_another_slope_than_one_a_channel_stays(shape: tuple[int, ...]) -> None:
    rewritten = graphs.convolved_prelu(prelu(np.full(shape, 0.5)))
    assert [node.op_type for node in rewritten.graph.node] == ["Cast", "PRelu"]


def test_only_the_cpu_gets_convolutions_for_prelu() -> None:
    model = prelu(np.full((3, 1, 1), 0.5))
    kinds = {
        cuda: [node.op_type for node in onnx.load_from_string(graphs.serialized(model, cuda)).graph.node]
        for cuda in (False, True)
    }
    assert "PRelu" in kinds[True]
    assert "PRelu" not in kinds[False]


def test_the_detector_stays_in_the_layout_of_its_convolutions_and_finds_the_same(models: Path, tmp_path: Path) -> None:
    path = models / "face_detector_back.onnx"
    rewritten = graphs.convolved_padding(graphs.read(path)).SerializeToString()
    pictures = np.random.default_rng(2).uniform(-1, 1, (2, 256, 256, 3)).astype(np.float32)
    for picture in pictures:
        expected = Network(path, "cpu", 1)(picture[None])
        for found, original in zip(Network(path, "cpu", 1, rewritten)(picture[None]), expected, strict=True):
            np.testing.assert_allclose(found, original, atol=1e-4)

    options = ort.SessionOptions()
    turns = []
    for index, model in enumerate((path.read_bytes(), rewritten)):
        options.optimized_model_filepath = str(tmp_path / f"{index}.onnx")
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(options.optimized_model_filepath).graph.node
        turns.append(sum(node.op_type.startswith("Reorder") for node in nodes))
    assert turns[1] < max(turns[0] / 2, 10), "without AVX-512 there are few to begin with"


def test_padding_of_anything_but_channels_stays() -> None:
    graph = helper.make_graph(
        [helper.make_node("Pad", ["x", "pads"], ["y"]), helper.make_node("Relu", ["y"], ["z"])],
        "padding",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 5])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 2, 1, 1]), "pads")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert [node.op_type for node in graphs.convolved_padding(model).graph.node] == ["Pad", "Relu"]


def convolution_in_int8(channels: int, pads: list[int], middle: int = 0) -> onnx.ModelProto:
    """A convolution between QuantizeLinear and DequantizeLinear, as the export writes it, on [n, 5, 6, 8].

    Its weights are so small that CPUs without VNNI, whose sums of two products end at 32,767, compute it exactly too.
    """
    random = np.random.default_rng(6)
    constants = {
        "x/scale": np.float32(0.02),
        "x/zero": np.uint8(120),
        "weights": random.integers(-60, 61, (channels, 5, 3, 3)).astype(np.int8),
        "weights/scale": random.uniform(0.001, 0.01, channels).astype(np.float32),
        "weights/zero": np.full(channels, middle, np.int8),
        "bias": random.integers(-999, 999, channels).astype(np.int32),
        "bias/scale": np.full(channels, 1e-4, np.float32),
        "bias/zero": np.zeros(channels, np.int32),
        "y/scale": np.float32(0.05),
        "y/zero": np.uint8(130),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x/scale", "x/zero"], ["x/whole"]),
        helper.make_node("DequantizeLinear", ["x/whole", "x/scale", "x/zero"], ["x/back"]),
        helper.make_node("DequantizeLinear", ["weights", "weights/scale", "weights/zero"], ["weights/back"], axis=0),
        helper.make_node("DequantizeLinear", ["bias", "bias/scale", "bias/zero"], ["bias/back"], axis=0),
        helper.make_node("Conv", ["x/back", "weights/back", "bias/back"], ["z"], kernel_shape=[3, 3], pads=pads),
        helper.make_node("QuantizeLinear", ["z", "y/scale", "y/zero"], ["z/whole"]),
        helper.make_node("DequantizeLinear", ["z/whole", "y/scale", "y/zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution in int8",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5, 6, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_block_of_pixels_at_once_is_the_same_to_the_last_bit(channels: int) -> None:
    model = convolution_in_int8(channels, [1, 1, 1, 1])
    rewritten = graphs.widened(model)
    (window,) = (node.attribute for node in rewritten.graph.node if node.op_type == "Conv")
    assert {item.name: list(item.ints) for item in window}["kernel_shape"] == [4, 6]
    x = np.random.default_rng(7).normal(size=(3, 5, 6, 8)).astype(np.float32)
    (found,), (expected,) = run(rewritten, x), run(model, x)
    assert expected.shape == (3, channels, 6, 8)
    assert np.unique(expected).size > 50
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("channels", "pads", "middle"), [(5, [1, 1, 1, 1], 0), (3, [0, 1, 0, 1], 0), (3, [1, 1, 1, 1], 2)]
)
def test_other_convolutions_in_int8_stay(channels: int, pads: list[int], middle: int) -> None:
    """Many channels need no company, and what is not padded by one or has another zero would become another sum."""
    model = convolution_in_int8(channels, pads, middle)
    assert graphs.widened(model) == model


def test_of_the_decoder_in_int8_only_the_colours_are_drawn_in_blocks(models: Path) -> None:
    shipped = graphs.read(models / "decoder_int8.onnx")
    counts = [Counter(node.op_type for node in m.graph.node) for m in (shipped, graphs.widened(shipped))]
    assert counts[1] - counts[0] == Counter(Transpose=3, Reshape=2, DequantizeLinear=2)
    exact = graphs.read(models / "decoder.onnx")
    assert graphs.widened(exact) is exact
