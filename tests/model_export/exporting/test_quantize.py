"""Int8: the same pictures to a few levels, from a graph whose convolutions are in bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from model_export.exporting import quantize as narrow
from model_export.exporting.graphs import describe
from tests.model_export.conftest import MODELS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds the decoder that is shipped: to write the graph of another takes longer than to quantise this one."""
    shutil.copy(MODELS / "decoder.onnx", tmp_path)
    return tmp_path


def controls(count: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (count, CONTROL_SIZE)).astype(np.float32)


def test_int8_is_close_to_float32_and_smaller(folder: Path) -> None:
    identities = np.random.default_rng(0).standard_normal((8, IDENTITY_SIZE), np.float32)
    assert narrow.write_int8(folder, identities, controls) > narrow.LEAST_FIDELITY
    model = onnx.load(folder / "decoder_int8.onnx")
    stored = {item.name: item.data_type for item in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    made = {node.output[0]: node for node in model.graph.node}
    assert convolutions
    for convolution in convolutions:
        weight = made[convolution.input[1]]
        assert (weight.op_type, stored[weight.input[0]]) == ("DequantizeLinear", onnx.TensorProto.INT8)
    assert onnx.TensorProto.FLOAT16 in stored.values()
    assert describe(folder / "decoder_int8.onnx")["inputs"] == {"identity": ["n", 70], "control": ["n", 10]}


def test_int8_that_draws_something_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "closeness", lambda *_: 20.0)
    identities = np.random.default_rng(0).standard_normal((2, IDENTITY_SIZE), np.float32)
    with pytest.raises(ValueError, match=r"within 20\.0 dB"):
        narrow.write_int8(folder, identities, controls)
