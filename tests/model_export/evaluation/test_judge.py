"""The judge: any ONNX network of pictures, a converted MobileNet for one."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper

from model_export.evaluation import judge
from tests.model_export.evaluation.conftest import save


def tfjs_model(folder):
    """A graph model of two layers as TensorFlow.js stores it, its weights as float16."""
    chance = np.random.default_rng(0)
    weights = {
        "kernel": chance.normal(size=(3, 3, 3, 4)),
        "offset": chance.normal(size=4),
        "depth": chance.normal(size=(3, 3, 4, 1)),
        "axes": None,
    }
    stored, entries = b"", []
    for name, value in weights.items():
        if value is None:
            stored += np.array([1, 2], np.int32).tobytes()
            entries.append({"name": name, "shape": [2], "dtype": "int32"})
        else:
            stored += value.astype(np.float16).tobytes()
            quantization = {"dtype": "float16", "original_dtype": "float32"}
            entries.append({"name": name, "shape": value.shape, "dtype": "float32", "quantization": quantization})

    def strides(step):
        return {"strides": {"list": {"i": ["1", step, step, "1"]}}}

    sizes = {"shape": {"shape": {"dim": [{"size": "-1"}, {"size": "224"}, {"size": "224"}, {"size": "3"}]}}}
    nodes = [
        *({"name": name, "op": "Const"} for name in weights),
        {"name": "input", "op": "Placeholder", "attr": sizes},
        {"name": "conv", "op": "Conv2D", "input": ["input", "kernel"], "attr": strides("2")},
        {"name": "added", "op": "Add", "input": ["conv", "offset"]},
        {"name": "relu", "op": "Relu", "input": ["added"]},
        {"name": "deep", "op": "DepthwiseConv2dNative", "input": ["relu", "depth"], "attr": strides("1")},
        {"name": judge.FEATURES, "op": "Mean", "input": ["deep", "axes"]},
        {"name": "age", "op": "Softmax", "input": [judge.FEATURES]},
    ]
    (folder / "toy.bin").write_bytes(stored)
    manifest = [{"paths": ["toy.bin"], "weights": entries}]
    (folder / "toy.json").write_text(json.dumps({"modelTopology": {"node": nodes}, "weightsManifest": manifest}))
    return folder / "toy.json", {name: value for name, value in weights.items() if value is not None}


def test_a_tfjs_graph_computes_in_onnx_what_its_layers_say(tmp_path):
    source, weights = tfjs_model(tmp_path)
    (tmp_path / "judge.onnx").write_bytes(judge.convert(source).SerializeToString())
    grey = np.full((1, 128, 128, 3), 100, np.uint8)
    vector = judge.Judge(tmp_path / "judge.onnx", 1)(grey)[0]
    # Far from the border an even picture stays even: each convolution is the sum of its kernel.
    kernel, offset, depth = (weights[name].astype(np.float16).astype(float) for name in ("kernel", "offset", "depth"))
    inner = np.maximum(100 * kernel.sum((0, 1, 2)) + offset, 0) * depth.sum((0, 1, 3))
    expected = inner / np.linalg.norm(inner)
    assert vector == pytest.approx(expected, abs=0.05)


def test_a_network_that_takes_no_pictures_is_no_judge(tmp_path):
    save(
        tmp_path / "no.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, ["n", 5])],
        [("y", TensorProto.FLOAT, ["n", 5])],
        {},
    )
    with pytest.raises(ValueError, match="a judge takes one input"):
        judge.Judge(tmp_path / "no.onnx")
