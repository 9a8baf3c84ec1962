"""Pictures of twice the side, where a model has a stage that adds the detail: the same everywhere, only larger."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.core.models import Engine
from app.errors import ModelsInvalid
from app.settings import Settings
from app.telemetry.metrics import Metrics

Tiny = Callable[..., Path]


@pytest.fixture
def client(tiny: Tiny, new_client: Callable[..., TestClient]) -> TestClient:
    """Of a model that draws 128 pixels, and 256 where they are asked for; unmarked, so that pixels can be compared."""
    return new_client(models=tiny(128, 128, 112, detail=256), batch_sizes=(1, 4), watermark=False)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.int16)


def drawn(answer: httpx.Response) -> list[np.ndarray]:
    assert answer.status_code == 200, answer.text
    return [pixels(base64.b64decode(variant["image"])) for variant in answer.json()["variants"]]


def asked(client: TestClient, photo: bytes, query: str, path: str = "variants", **headers: str) -> httpx.Response:
    return client.post(f"/v1/{path}?format=png&{query}", files={"image": photo}, headers=headers)


def test_a_picture_comes_in_the_size_that_is_asked_for(client: TestClient, photo: bytes) -> None:
    small, large = (asked(client, photo, f"count=3&seed=1{size}") for size in ("", "&size=256"))
    for before, after in zip(drawn(small), drawn(large), strict=True):
        assert (before.shape, after.shape) == ((128, 128, 3), (256, 256, 3))
        assert np.array_equal(after, np.minimum(before.repeat(2, 0).repeat(2, 1) + np.array([5, 0, 0]), 255))
    told = [{key: variant[key] for key in ("control", "similarity", "in_band")} for variant in small.json()["variants"]]
    assert told == [{key: variant[key] for key in told[0]} for variant in large.json()["variants"]]
    assert {(variant["width"], variant["height"]) for variant in large.json()["variants"]} == {(256, 256)}
    assert client.get("/v1/model").json()["picture_sizes"] == [128, 256]


def test_the_size_that_is_drawn_anyway_changes_nothing(client: TestClient, photo: bytes) -> None:
    """Neither the bytes nor the name of the answer: it is as it was before there were sizes."""
    plain, said, large = (asked(client, photo, f"count=2&seed=1{size}") for size in ("", "&size=128", "&size=256"))
    assert plain.json()["variants"] == said.json()["variants"]
    assert plain.json()["id"] == said.json()["id"] != large.json()["id"]
    assert large.content == asked(client, photo, "count=2&seed=1&size=256").content


def test_every_form_of_an_answer_has_the_size(client: TestClient, photo: bytes) -> None:
    sheet = asked(client, photo, "count=4&seed=1&size=256", accept="image/png")
    assert pixels(sheet.content).shape == (512, 512, 3)
    lines = asked(client, photo, "count=2&seed=1&size=256", accept="application/x-ndjson").text.splitlines()
    assert {json.loads(line)["width"] for line in lines} == {256}
    sweep = asked(client, photo, "control=1&steps=3&size=256", "sweep").json()
    assert [variant["width"] for variant in sweep["variants"]] == [256] * 3
    identity = client.post("/v1/identities", files={"image": photo}).json()["faces"][0]["identity"]
    rendered = client.post("/v1/render", json={"identity": identity, "count": 1, "seed": 1, "size": 256}).json()
    assert rendered["variants"][0]["width"] == 256


def test_a_search_gives_larger_pictures_too(client: TestClient, photo: bytes) -> None:
    found = asked(client, photo, "count=2&seed=1&size=256&similarity_min=-1&similarity_max=1")
    assert [picture.shape for picture in drawn(found)] == [(256, 256, 3)] * 2


def test_grey_stays_grey(client: TestClient, photo: bytes) -> None:
    """The stage adds red to everything."""
    grey = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("L").save(grey, "PNG")
    for picture in drawn(asked(client, grey.getvalue(), "count=2&seed=1&size=256")):
        assert np.ptp(picture, axis=2).max() == 0


@pytest.mark.parametrize("path", ["variants", "sweep", "jobs"])
def test_a_size_that_there_is_not_is_refused(
    tiny: Tiny, new_client: Callable[..., TestClient], photo: bytes, tmp_path: Path, path: str
) -> None:
    for detail, sizes in ((256, "128 or 256"), (0, "128")):
        client = new_client(models=tiny(128, 128, 112, detail=detail), batch_sizes=(1,), jobs=tmp_path / "jobs")
        answer = client.post(f"/v1/{path}?size=512", files={"image": ("a.jpg", photo)})
        assert answer.status_code == 422, answer.text
        assert answer.json()["type"] == "urn:lookalike:problem:unknown-size"
        assert answer.json()["detail"] == f"There are no pictures of 512 pixels, only of {sizes}."


@pytest.mark.parametrize("size", ["0", "1e9", "large", "-256", "128.5", ""])
def test_a_size_that_is_no_size_is_refused(client: TestClient, photo: bytes, size: str) -> None:
    answer = asked(client, photo, f"size={size}")
    assert (answer.status_code, answer.json()["errors"][0]["name"]) == (422, "size")


@pytest.mark.parametrize(("image", "detail"), [(128, 384), (192, 256)])
def test_a_stage_of_another_size_than_the_manifest_says_is_refused(tiny: Tiny, image: int, detail: int) -> None:
    with pytest.raises(ModelsInvalid, match=rf"detail\.onnx: its outputs are .*{detail}.*must be.*{2 * image}"):
        Engine(Settings(models=tiny(128, image, 112, detail=detail), device="cpu", batch_sizes=(1,)), Metrics())


def test_the_networks_time_of_it_is_told(client: TestClient, photo: bytes) -> None:
    asked(client, photo, "count=1&seed=1&size=256")
    metrics = client.get("/metrics").text
    assert 'stage="detail"' in metrics
    assert 'model="detail"' in metrics
