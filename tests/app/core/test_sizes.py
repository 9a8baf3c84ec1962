"""A model of other sizes is served without a change of code: what it sees, what it draws, and the recogniser's crop."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.core.models import Engine
from app.core.selftest import try_out
from app.core.service import Service
from app.errors import ModelsInvalid
from app.runtime.manifest import NETWORKS
from app.runtime.sessions import Network
from app.settings import Settings
from app.telemetry.metrics import Metrics


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


@pytest.mark.parametrize("image", [128, 192])
def test_every_network_is_run_before_the_first_request_and_when_in_doubt(
    tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, image: int
) -> None:
    """Where pictures are larger than faces there are two recognisers."""
    ran: set[tuple[str, int]] = set()
    genuine = Network.__call__

    def noted(network: Network, *given: np.ndarray) -> list[np.ndarray]:
        ran.add((network.path.name, given[0].shape[1]))
        return genuine(network, *given)

    monkeypatch.setattr(Network, "__call__", noted)
    service = Service(Settings(models=tiny(128, image, 112, 2 * image), batch_sizes=(1,), device="cpu"), Metrics())
    names = {"recognizer": {128, image}, "encoder": {128}, "decoder": {70}, "detail": {image}}
    every = {(NETWORKS[name], width) for name, widths in names.items() for width in widths}

    async def tried() -> None:
        await service.start()
        assert every <= ran
        ran.clear()
        await try_out(service._begin())
        await service.close()
        assert every <= ran

    asyncio.run(tried())
