"""A stage that draws larger pictures, so small that one sees what it does; and the shipped models with it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from app.runtime.manifest import DETAIL_SCALE, NETWORKS
from app.settings import PACKAGE

SHIPPED = PACKAGE / "models"
FLOAT, BYTES = TensorProto.FLOAT, TensorProto.UINT8


def network(path: Path, nodes: list[onnx.NodeProto], inputs: dict, outputs: dict, **stored: np.ndarray) -> None:
    """Write a network; inputs and outputs are name -> (type, shape without the batch)."""
    values = [
        [helper.make_tensor_value_info(name, kind, ["n", *shape]) for name, (kind, shape) in tensors.items()]
        for tensors in (inputs, outputs)
    ]
    weights = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "tiny", *values, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def detail_stage(path: Path, side: int, larger: int) -> None:
    """Every pixel repeated, and a little red added to it."""
    nodes = [
        helper.make_node("Cast", ["image"], ["levels"], to=FLOAT),
        helper.make_node("Resize", ["levels", "", "scales"], ["enlarged"], mode="nearest"),
        helper.make_node("Add", ["enlarged", "red"], ["redder"]),
        helper.make_node("Min", ["redder", "most"], ["bounded"]),
        helper.make_node("Cast", ["bounded"], ["larger"], to=BYTES),
    ]
    factor = larger / side
    scales, red = np.array([1, factor, factor, 1], np.float32), np.array([5, 0, 0], np.float32)
    taken, given = {"image": (BYTES, [side, side, 3])}, {"larger": (BYTES, [larger, larger, 3])}
    network(path, nodes, taken, given, scales=scales, red=red, most=np.float32(255))


def with_detail(folder: Path) -> Path:
    """A copy of the shipped models in a new folder, with this stage; larger pictures are 256 pixels wide."""
    shutil.copytree(SHIPPED, folder)
    name, manifest = NETWORKS["detail"], json.loads((folder / "manifest.json").read_text())
    side = manifest["image_size"]
    detail_stage(folder / name, side, DETAIL_SCALE * side)
    digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    manifest["files"]["detail"] = {"file": name, "sha256": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
