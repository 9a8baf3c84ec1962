"""Models of tiny networks, of any sizes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from app.runtime.manifest import NETWORKS, OPTIONAL
from tests.detail import BYTES, FLOAT, SHIPPED, detail_stage, network

DETECTORS = ("detector_near", "detector_far")


def encoder(path: Path, side: int) -> None:
    """Mean colour to identity."""
    nodes = [
        helper.make_node("Cast", ["image"], ["levels"], to=FLOAT),
        helper.make_node("ReduceMean", ["levels", "plane"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["identity"]),
    ]
    weights = np.random.default_rng(0).normal(size=(3, 70)).astype(np.float32) / 255
    taken, given = {"image": (BYTES, [side, side, 3])}, {"identity": (FLOAT, [70])}
    network(path, nodes, taken, given, plane=np.array([1, 2]), weights=weights)


def decoder(path: Path, side: int) -> None:
    """A ramp from left to right, in a colour that follows from identity and control."""
    nodes = [
        helper.make_node("Concat", ["identity", "control"], ["both"], axis=1),
        helper.make_node("MatMul", ["both", "weights"], ["mixed"]),
        helper.make_node("Sigmoid", ["mixed"], ["colour"]),
        helper.make_node("Unsqueeze", ["colour", "plane"], ["dot"]),
        helper.make_node("Mul", ["dot", "ramp"], ["levels"]),
        helper.make_node("Cast", ["levels"], ["image"], to=BYTES),
    ]
    weights = np.random.default_rng(1).normal(size=(80, 3)).astype(np.float32)
    ramp = np.broadcast_to(np.linspace(60, 255, side, dtype=np.float32)[:, None], (1, side, side, 1)).copy()
    taken = {"identity": (FLOAT, [70]), "control": (FLOAT, [10])}
    given = {"image": (BYTES, [side, side, 3])}
    network(path, nodes, taken, given, plane=np.array([1, 2]), weights=weights, ramp=ramp)


def recognizer(path: Path, side: int) -> None:
    """Mean colour to embedding."""
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "plane"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["vectors"]),
    ]
    weights = np.random.default_rng(2).normal(size=(3, 192)).astype(np.float32)
    taken, given = {"pixels": (FLOAT, [side, side, 3])}, {"vectors": (FLOAT, [192])}
    network(path, nodes, taken, given, plane=np.array([1, 2]), weights=weights)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Path]:
    """A model directory with tiny networks of any sizes, and the detectors that are shipped.

    With `detail` it has a stage that draws pictures of that side.
    """

    def make(frame: int, image: int, crop: int, detail: int = 0, **said: object) -> Path:
        folder = tmp_path / f"{frame}-{image}-{crop}-{detail}"
        folder.mkdir()
        encoder(folder / NETWORKS["encoder"], frame)
        decoder(folder / NETWORKS["decoder"], image)
        recognizer(folder / NETWORKS["recognizer"], crop)
        for role in DETECTORS:
            (folder / NETWORKS[role]).write_bytes((SHIPPED / NETWORKS[role]).read_bytes())
        manifest = json.loads((SHIPPED / "manifest.json").read_text())
        manifest["files"] = {role: entry for role, entry in manifest["files"].items() if role not in OPTIONAL}
        if detail:
            detail_stage(folder / NETWORKS["detail"], image, detail)
            manifest["files"]["detail"] = {"file": NETWORKS["detail"], "inputs": {}, "outputs": {}}
        for role, entry in manifest["files"].items():
            entry["sha256"] = hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest()
            if role not in DETECTORS:
                del entry["inputs"], entry["outputs"]
        sizes = {"frame_size": frame, "image_size": image, "crop_size": crop}
        (folder / "manifest.json").write_text(json.dumps(manifest | {"name": "tiny"} | sizes | said))
        return folder

    return make
