"""A training run small enough for tests: narrow networks, small batches, the losses of a run from nothing."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper

from app.runtime.manifest import NETWORKS
from model_export.networks.generator import NetworkConfig
from model_export.preparing.dataset import FaceSet
from model_export.training.config import RECIPES, SHIPPED, TrainConfig
from model_export.training.trainer import Trainer

SMALL = NetworkConfig(
    encoder=(8, 8, 8, 8), decoder=(16, 16, 16, 8, 8), refine=4, style=16, critic=8, recover=(8, 8, 8, 8)
)
TRAINED, HELD_OUT = 48, 3
"""Faces of a prepared set. Every look at a run draws each that is held out nine times, and recognises what it drew."""
SIZES = TrainConfig.load(SHIPPED).networks
"""Of the networks that are shipped."""

TINY = TrainConfig.load(RECIPES / "from_nothing.json").model_copy(
    update={
        "batch": 8,
        "total_images": 160,
        "warm_up": 0.1,
        "perceptual_size": 64,
        "penalty_every": 2,
        "networks": SMALL,
    }
)


_FOLDER = tempfile.TemporaryDirectory()


@cache
def small_models() -> Path:
    """A folder with a recogniser that knows nobody: of the operators of the service's, which has eight times as many.

    More than half of a step of the tiny networks was spent in that one. The folder lasts as long as this process.
    """
    random = np.random.default_rng(2)
    sizes: dict[str, tuple[int, ...]] = {
        "w0": (16, 3, 3, 3), "b0": (16,), "s0": (16, 1, 1), "w1": (16, 1, 3, 3), "b1": (16,), "s1": (16, 1, 1),
        "w2": (16, 16, 1, 1), "b2": (16,), "w3": (32, 16, 3, 3), "b3": (32,), "s3": (32, 1, 1),
        "w4": (32, 1, 7, 7), "b4": (32,), "w5": (192, 32, 1, 1), "b5": (192,),
    }  # fmt: skip
    arrays: dict[str, np.ndarray] = {
        name: random.normal(0, np.prod(size[1:]) ** -0.5 if len(size) == 4 else 0.1, size).astype(np.float32)
        for name, size in sizes.items()
    }
    arrays |= {"flat": np.array([-1, 192]), "square": np.array([-1, 32, 1, 1])}
    down, node = {"strides": [2, 2], "pads": [0, 0, 1, 1]}, helper.make_node
    nodes = [
        node("Transpose", ["input"], ["planes"], perm=[0, 3, 1, 2]),
        node("Conv", ["planes", "w0", "b0"], ["c0"], strides=[4, 4], pads=[0, 0, 1, 1]),
        node("PRelu", ["c0", "s0"], ["p0"]),
        node("Conv", ["p0", "w1", "b1"], ["c1"], group=16, **down),
        node("PRelu", ["c1", "s1"], ["p1"]),
        node("Conv", ["p1", "w2", "b2"], ["c2"]),
        node("Add", ["p1", "c2"], ["sum"]),
        node("Conv", ["sum", "w3", "b3"], ["c3"], **down),
        node("PRelu", ["c3", "s3"], ["p3"]),
        node("Conv", ["p3", "w4", "b4"], ["c4"], group=32),
        node("Reshape", ["c4", "square"], ["r4"]),
        node("Conv", ["r4", "w5", "b5"], ["c5"]),
        node("Reshape", ["c5", "flat"], ["embeddings"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "recogniser",
        [value("input", onnx.TensorProto.FLOAT, ["n", 112, 112, 3])],
        [value("embeddings", onnx.TensorProto.FLOAT, ["n", 192])],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    folder = Path(_FOLDER.name)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / NETWORKS["recognizer"])
    return folder


def trainer(face_set: FaceSet, *settings: str, **recognizers: Path) -> Trainer:
    """A run of the tiny settings but for some `KEY=JSON`."""
    return Trainer(TINY.changed(list(settings)), face_set, small_models(), torch.device("cpu"), recognizers)


def save_prepared(face_set: FaceSet, folder: Path) -> None:
    """Write a part of a face set as `prepare` does."""
    for name in ("faces", "embeddings", "embeddings_mirrored"):
        np.save(folder / f"{name}.npy", getattr(face_set, name)[: TRAINED + HELD_OUT])
    lines = ["row,file,split,age,gender,group,cluster,grey"]
    for row, name in enumerate(face_set.names[: TRAINED + HELD_OUT]):
        split = "train" if row < TRAINED else "test"
        gender, group = face_set.gender_names[face_set.genders[row]], face_set.group_names[face_set.groups[row]]
        lines.append(f"{row},{name},{split},{face_set.ages[row]:.0f},{gender},{group},{row},0")
    (folder / "faces.csv").write_text("\n".join(lines) + "\n")
    (folder / "report.json").write_text("{}")
