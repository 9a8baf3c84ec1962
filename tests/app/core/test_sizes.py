"""A model of other sizes is served without a change of code: what it sees, what it draws, and the recogniser's crop."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from app.core.models import Engine
from app.errors import ModelsInvalid
from app.runtime.manifest import NETWORKS
from app.settings import Settings
from app.telemetry.metrics import Metrics

SHIPPED = Path(__file__).parents[3] / "app" / "models"
DETECTORS = ("detector_near", "detector_far")
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
    """A model directory with tiny networks of any sizes, and the detectors that are shipped."""

    def make(frame: int, image: int, crop: int, **said: object) -> Path:
        folder = tmp_path / f"{frame}-{image}-{crop}"
        folder.mkdir()
        encoder(folder / NETWORKS["encoder"], frame)
        decoder(folder / NETWORKS["decoder"], image)
        recognizer(folder / NETWORKS["recognizer"], crop)
        for role in DETECTORS:
            (folder / NETWORKS[role]).write_bytes((SHIPPED / NETWORKS[role]).read_bytes())
        manifest = json.loads((SHIPPED / "manifest.json").read_text())
        del manifest["files"]["decoder_int8"]
        for role, entry in manifest["files"].items():
            entry["sha256"] = hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest()
            if role not in DETECTORS:
                del entry["inputs"], entry["outputs"]
        sizes = {"frame_size": frame, "image_size": image, "crop_size": crop}
        (folder / "manifest.json").write_text(json.dumps(manifest | {"name": "tiny"} | sizes | said))
        return folder

    return make


@pytest.mark.parametrize(("frame", "image", "crop"), [(128, 192, 112), (96, 160, 64)])
def test_a_model_of_other_sizes_is_served(
    tiny: Callable[..., Path], new_client: Callable[..., TestClient], photo: bytes, frame: int, image: int, crop: int
) -> None:
    client = new_client(models=tiny(frame, image, crop), batch_sizes=(1, 4))
    answer = client.post("/v1/variants?count=3&seed=1&format=png", files={"image": photo})
    assert answer.status_code == 200, answer.text
    assert {(variant["width"], variant["height"]) for variant in answer.json()["variants"]} == {(image, image)}

    sheet = client.post("/v1/variants?count=4&seed=1", files={"image": photo}, headers={"Accept": "image/png"})
    assert Image.open(io.BytesIO(sheet.content)).size == (2 * image, 2 * image)

    model = client.get("/v1/model").json()
    assert (model["frame_size"], model["image_size"], model["crop_size"]) == (frame, image, crop)

    shapes = {name: client.get(f"/v2/models/{name}").json() for name in ("encoder", "decoder", "recognizer")}
    assert shapes["encoder"]["inputs"][0]["shape"] == [-1, frame, frame, 3]
    assert shapes["recognizer"]["inputs"][0]["shape"] == [-1, frame, frame, 3]
    assert shapes["decoder"]["outputs"][0]["shape"] == [-1, image, image, 3]
    body = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, frame, frame, 3]}]}
    body["inputs"][0]["data"] = [0] * (frame * frame * 3)
    inferred = client.post("/v2/models/encoder/infer", json=body)
    assert inferred.status_code == 200, inferred.text
    assert inferred.json()["outputs"][0]["shape"] == [1, 70]


def test_the_identity_is_that_of_the_face_at_the_frame_of_the_model(
    tiny: Callable[..., Path], new_client: Callable[..., TestClient], photo: bytes
) -> None:
    """The tiny encoder tells the mean colour, which the size of the frame hardly changes."""
    found = []
    for frame in (96, 128):
        client = new_client(models=tiny(frame, 128, 112), batch_sizes=(1,))
        found.append(client.post("/v1/identities", files={"image": photo}).json()["faces"][0]["identity"])
    assert np.allclose(*found, atol=0.03)
    assert np.abs(found[0]).max() > 0.5


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"image_size": 128}, r"decoder\.onnx: its outputs are .*192, 192, 3.*by the sizes .*128, 128, 3"),
        ({"frame_size": 64}, r"encoder\.onnx: its inputs are .*128, 128, 3.*by the sizes .*64, 64, 3"),
        ({"crop_size": 96}, r"face_recognizer\.onnx: its inputs are .*112, 112, 3.*by the sizes .*96, 96, 3"),
        ({"identity_size": 64}, "identity_size is 64, but the API has 70"),
    ],
)
def test_a_graph_of_another_size_than_the_manifest_says_is_refused(
    tiny: Callable[..., Path], said: dict[str, int], words: str
) -> None:
    with pytest.raises(ModelsInvalid, match=words):
        Engine(Settings(models=tiny(128, 192, 112, **said), device="cpu", batch_sizes=(1,)), Metrics())


def test_a_graph_that_is_not_as_the_manifest_describes_it_is_refused(tiny: Callable[..., Path]) -> None:
    folder = tiny(128, 192, 112)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["detector_far"]["outputs"]["reshaped_regressor_face_4"] = ["n", 2304, 18]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelsInvalid, match=r"face_detector_full_range\.onnx: its outputs are .*manifest\.json says"):
        Engine(Settings(models=folder, device="cpu", batch_sizes=(1,)), Metrics())


def test_a_manifest_without_sizes_means_those_of_the_first_models(tiny: Callable[..., Path]) -> None:
    folder = tiny(128, 128, 112)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("frame_size", "image_size", "crop_size"):
        del manifest[name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    engine = Engine(Settings(models=folder, device="cpu", batch_sizes=(1,)), Metrics())
    assert tuple(engine.sizes) == (128, 128, 112)
