from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.conftest import encoded


@pytest.fixture(scope="module")
def identity(client: TestClient, photo: bytes) -> list[float]:
    faces = client.post("/v1/identities", files={"image": photo}).json()["faces"]
    values: list[float] = faces[0]["identity"]
    return values


def pixels(variant: dict[str, str]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(variant["image"]))).convert("RGB"))


def test_an_identity_gives_the_images_that_its_photograph_gave(
    client: TestClient, photo: bytes, identity: list[float]
) -> None:
    by_photo = client.post("/v1/variants?count=5&seed=8&format=png", files={"image": photo}).json()
    rendered = client.post("/v1/render", json={"identity": identity, "count": 5, "seed": 8, "format": "png"}).json()
    assert rendered["seed"] == 8
    for a, b in zip(by_photo["variants"], rendered["variants"], strict=True):
        assert a["control"] == b["control"]
        assert np.array_equal(pixels(a), pixels(b))


def test_parameters_in_the_query_are_not_passed_over(client: TestClient, identity: list[float]) -> None:
    answer = client.post("/v1/render?format=png&seed=1", json={"identity": identity})
    assert answer.status_code == 422
    assert [error["name"] for error in answer.json()["errors"]] == ["format", "seed"]
    assert "stands in the body here" in answer.json()["detail"]


def test_similarity_is_to_control_zero(client: TestClient, identity: list[float]) -> None:
    body = {"identity": identity, "controls": [[0.0] * 10]}
    (variant,) = client.post("/v1/render", json=body).json()["variants"]
    assert variant["similarity"] == pytest.approx(1, abs=1e-5)


def test_all_forms_of_answer(client: TestClient, identity: list[float]) -> None:
    for accept in ("application/zip", "application/x-ndjson", "image/png"):
        answer = client.post("/v1/render", json={"identity": identity}, headers={"Accept": accept})
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, accept)


def test_a_band_is_searched(client: TestClient, identity: list[float]) -> None:
    body = {"identity": identity, "count": 4, "seed": 1, "similarity_max": 1.0}
    search = client.post("/v1/render", json=body).json()["search"]
    assert (search["found"], search["tries"]) == (4, 4)


@pytest.mark.parametrize(
    "change", [{"identity": [0.0] * 69}, {"identity": None}, {"identity": [1e30] * 70}, {"count": 65}, {"kount": 1}]
)
def test_an_invalid_body_is_refused(client: TestClient, identity: list[float], change: dict[str, object]) -> None:
    answer = client.post("/v1/render", json={"identity": identity} | change)
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:lookalike:problem:invalid-parameters"
    assert next(iter(change)) in answer.json()["detail"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"identity": [NaN]}', b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_such_json_is_refused(client: TestClient, content: bytes) -> None:
    answer = client.post("/v1/render", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("form", ["jpeg", "webp", "png"])
@pytest.mark.parametrize("grey", [False, True])
def test_one_picture_has_one_similarity(client: TestClient, portrait: Image.Image, form: str, grey: bool) -> None:
    data = encoded(portrait.convert("L") if grey else portrait, quality=95)
    made = client.post(f"/v1/variants?count=6&seed=8&format={form}", files={"image": data}).json()
    source = made["source"]
    kept = {name: source[name] for name in ("identity", "reference")}
    controls = [variant["control"] for variant in made["variants"]]
    rendered = client.post("/v1/render", json=kept | {"controls": controls, "format": form}).json()
    assert made["measured_against"] == rendered["measured_against"] == "photograph"
    assert source["grey"] is grey
    for a, b in zip(made["variants"], rendered["variants"], strict=True):
        assert np.array_equal(pixels(a), pixels(b))
        assert (a["similarity"], a["in_band"]) == (b["similarity"], b["in_band"])
        # WebP's own conversion of colours rounds grey by a level.
        assert bool(np.ptp(pixels(a), axis=-1).max() <= (form == "webp")) is grey


def test_the_reference_of_both_addresses_is_the_same(client: TestClient, photo: bytes) -> None:
    encoded_face = client.post("/v1/identities", files={"image": photo}).json()["faces"][0]
    made = client.post("/v1/variants?count=1", files={"image": photo}).json()["source"]
    assert encoded_face["reference"] == made["reference"]


def test_a_band_is_searched_around_the_photograph(client: TestClient, photo: bytes) -> None:
    face = client.post("/v1/identities", files={"image": photo}).json()["faces"][0]
    kept = {name: face[name] for name in ("identity", "reference")}
    asked = {"count": 4, "seed": 3, "band": "lookalike"}
    made = client.post("/v1/variants", data=asked, files={"image": photo}).json()
    rendered = client.post("/v1/render", json=kept | asked).json()
    assert rendered["search"] == made["search"]
    assert [v["control"] for v in rendered["variants"]] == [v["control"] for v in made["variants"]]


def test_without_a_reference_it_is_said_so(client: TestClient, identity: list[float]) -> None:
    answer = client.post("/v1/render", json={"identity": identity, "count": 1}).json()
    assert answer["measured_against"] == "redrawing"


@pytest.mark.parametrize("reference", ["", "nonsense", "AQ" * 500, 7, ["x"], "x" * 5000])
def test_a_reference_that_is_none(client: TestClient, identity: list[float], reference: object) -> None:
    answer = client.post("/v1/render", json={"identity": identity, "reference": reference, "count": 1})
    assert answer.status_code == 422
    assert "reference" in answer.text
