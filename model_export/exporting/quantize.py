"""The decoder in 8-bit integers, for CPUs that multiply them faster than floats.

Weights are rounded to int8 for each output channel, activations to uint8 over the range that calibration saw (Jacob et
al. 2018, https://arxiv.org/abs/1712.05877). The norms, the styles and the sums between convolutions stay in float32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from app.runtime.manifest import NETWORKS
from model_export.exporting.graphs import save
from model_export.pictures import psnr, to_tensor

Floats = NDArray[np.float32]

CALIBRATION_BATCH = 8
LEAST_FIDELITY = 38.0
"""Of the decoder in int8 to the one in float32, peak signal-to-noise ratio in dB: there a difference is hard to see."""


class _Batches(CalibrationDataReader):
    """Inputs of the decoder, some rows at a time."""

    def __init__(self, identities: Floats, controls: Floats) -> None:
        self._batches: Iterator[dict[str, Floats]] = iter(
            {
                "identity": identities[start : start + CALIBRATION_BATCH],
                "control": controls[start : start + CALIBRATION_BATCH],
            }
            for start in range(0, len(identities), CALIBRATION_BATCH)
        )

    def get_next(self) -> dict[str, Floats] | None:
        """The next batch, None after the last."""
        return next(self._batches, None)


def quantize(decoder: Path, identities: Floats, controls: Floats) -> ModelProto:
    """The decoder with every convolution in int8.

    Args:
        decoder: the exported network, weights stored as float16.
        identities: [n, 70], like those that will be decoded; they and the controls say how wide activations range.
        controls: [n, 10].
    """
    with tempfile.TemporaryDirectory() as folder:
        wide, narrow = Path(folder, "wide.onnx"), Path(folder, "narrow.onnx")
        onnx.save(widened(onnx.load(decoder)), wide)
        quantize_static(
            wide,
            narrow,
            _Batches(identities, controls),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(narrow)


def widened(model: ModelProto) -> ModelProto:
    """The model with those constants in float32 that it stores as float16 and casts: quantisation looks for such."""
    stored = {item.name: item for item in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in stored:
            item = stored[node.input[0]]
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float32), node.output[0]))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def closeness(exact: Path, rounded: Path, identities: Floats, controls: Floats) -> float:
    """Peak signal-to-noise ratio in dB of what one decoder draws to what the other does, on any CPU."""
    options = ort.SessionOptions()
    # Fused to convolutions of bytes, its sums would saturate on a CPU without VNNI, where it is not served.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    drawn = []
    for path in (exact, rounded):
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        drawn.append(to_tensor(session.run(None, {"identity": identities, "control": controls})[0])[None])
    return float(psnr(*drawn))


def write_int8(out: Path, identities: Floats, controls: Callable[[int], Floats]) -> float:
    """Write the decoder in int8 beside the decoder; returns its peak signal-to-noise ratio to it in dB.

    Args:
        out: where `decoder.onnx` is.
        identities: float32 [n, 70], half to calibrate on, half to measure on.
        controls: gives that many controls.

    Raises:
        ValueError: it draws something else.
    """
    wide, path = out / NETWORKS["decoder"], out / NETWORKS["decoder_int8"]
    model = quantize(wide, identities[::2], controls(len(identities[::2])))
    save(model, path)
    fidelity = closeness(wide, path, identities[1::2], controls(len(identities[1::2])))
    if fidelity < LEAST_FIDELITY:
        raise ValueError(f"{path.name} is within {fidelity:.1f} dB of the decoder, less than {LEAST_FIDELITY:.0f}")
    return fidelity
