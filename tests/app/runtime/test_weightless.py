"""Without their weights graphs are what they are with them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from app.runtime import weightless
from app.settings import Settings


@pytest.mark.parametrize("name", ["decoder_int8.onnx", "face_detector_back.onnx"])
def test_shapes_are_those_that_onnx_infers(name: str) -> None:
    model = onnx.load(Settings().models / name)
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    expected = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in inferred}
    assert expected
    assert weightless.inferred_shapes(model) == expected


def test_in_another_operator_set_a_network_computes_the_same() -> None:
    model = onnx.load(Settings().models / "face_recognizer.onnx")
    converted = weightless.converted(model, 18)
    assert {entry.domain: entry.version for entry in converted.opset_import}[""] == 18
    assert list(converted.graph.input) == list(model.graph.input)
    crop = np.random.default_rng(0).uniform(-1, 1, (1, 112, 112, 3)).astype(np.float32)
    one, other = (
        ort.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {model.graph.input[0].name: crop}
        )[0]
        for each in (model, converted)
    )
    assert np.array_equal(one, other)
