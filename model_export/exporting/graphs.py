"""Networks as ONNX files: written with a free batch dimension, stored as float16, compared with PyTorch, described."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

OPSET = 18
MAX_BYTES = 16 * 2**20
BATCHES = (1, 2, 5, 16)
"""Sizes at which PyTorch and ONNX Runtime are compared."""


def to_onnx(module: nn.Module, examples: dict[str, Tensor], outputs: list[str]) -> onnx.ModelProto:
    """A module as a graph with a free batch dimension."""
    batch = torch.export.Dim("n", min=1, max=4096)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            tuple(examples.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(examples),
            output_names=outputs,
            dynamic_shapes=[{0: batch} for _ in examples],
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def behind(recognizer: onnx.ModelProto, network: onnx.ModelProto) -> onnx.ModelProto:
    """A network that takes faces and their embedding, joined to the recogniser, whose graph stays as it is.

    Args:
        recognizer: image -> embedding; see `recognizer_of_frames`.
        network: image, embedding -> anything; changed in place.

    Returns:
        image -> what the network gives, embedding.
    """
    graph, first = network.graph, recognizer.graph
    nodes = [*first.node, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.initializer.extend(first.initializer)
    graph.input.extend(first.input)
    graph.output.extend(first.output)
    return network


def save(model: onnx.ModelProto, path: Path, trained: str | tuple[str, ...] = "") -> None:
    """Write a graph with a free batch dimension; `trained` begins the names of the weights that are stored as float16.

    Raises:
        ValueError: the file is over 16 MiB.
    """
    store_as_half(model, trained)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    # Source locations of the exporting machine have no place in a file that is shipped.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    if model.ByteSize() > MAX_BYTES:
        raise ValueError(
            f"{path.name} would take {model.ByteSize() / 2**20:.1f} MiB, more than {MAX_BYTES / 2**20:.0f}"
        )
    path.write_bytes(model.SerializeToString())


def store_as_half(model: onnx.ModelProto, trained: str | tuple[str, ...] = "", minimum: int = 64) -> None:
    """Store large float32 constants as float16, with a cast behind each that is folded away at load.

    Only those whose names begin with `trained`.
    """
    casts = []
    for item in model.graph.initializer:
        name, large = item.name, int(np.prod(item.dims)) >= minimum
        if large and item.data_type == TensorProto.FLOAT and name.startswith(trained):
            half = numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float16), name + "_half")
            item.CopyFrom(half)
            casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT, name=name + "_widen"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def round_to_half(module: nn.Module, minimum: int = 64) -> None:
    """Round weights as `store_as_half` does, so that PyTorch and ONNX compute with the same numbers."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point() and tensor.numel() >= minimum:
                tensor.copy_(tensor.half().float())


def check_parity(module: nn.Module, path: Path, make: dict[str, Any], tolerance: float) -> float:
    """Compare PyTorch with ONNX Runtime at several batch sizes; returns the largest difference.

    Raises:
        ValueError: they differ by more than the tolerance, or a result is not finite.
    """
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in BATCHES:
        inputs = {name: build(count) for name, build in make.items()}
        with torch.no_grad():
            given = [tensor.numpy() for tensor in module(*map(torch.from_numpy, inputs.values()))]
        for served, own in zip(session.run(None, inputs), given, strict=True):
            if served.shape != own.shape or served.dtype != own.dtype:
                raise ValueError(f"{path.name}: {served.dtype}{served.shape} served, {own.dtype}{own.shape} in PyTorch")
            if not (np.isfinite(served).all() and np.isfinite(own).all()):
                raise ValueError(f"{path.name}: it computes what is no number")
            worst = max(worst, float(np.abs(served.astype(np.float64) - own.astype(np.float64)).max()))
    if worst > tolerance:
        raise ValueError(f"{path.name} differs from PyTorch by {worst:.3g}, more than {tolerance:.3g}")
    return worst


def describe(path: Path) -> dict[str, Any]:
    """An entry of the manifest's `files`: name, checksum, inputs and outputs."""
    graph = onnx.load(path).graph

    def shapes(values: Any) -> dict[str, list[int | str]]:
        return {value.name: [dim.dim_value or "n" for dim in value.type.tensor_type.shape.dim] for value in values}

    return {
        "file": path.name,
        "sha256": digest(path),
        "inputs": shapes(graph.input),
        "outputs": shapes(graph.output),
    }


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
