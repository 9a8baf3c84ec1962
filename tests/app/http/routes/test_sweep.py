from __future__ import annotations

import io

import pytest
from fastapi.testclient import TestClient
from PIL import Image


@pytest.mark.parametrize("control", [0, 9])
def test_one_control_is_walked(client: TestClient, photo: bytes, control: int) -> None:
    answer = client.post(f"/v1/sweep?control={control}&steps=5", files={"image": photo}).json()
    assert answer["control"] == control
    values = [variant["control"] for variant in answer["variants"]]
    assert [value.pop(control) for value in values] == [-1, -0.5, 0, 0.5, 1]
    assert not any(any(value) for value in values)


def test_a_control_can_be_named(client: TestClient, photo: bytes) -> None:
    name = client.get("/v1/model").json()["controls"][4]["name"]
    named = client.post("/v1/sweep", params={"control": name}, files={"image": photo}).json()
    assert named["control"] == 4
    assert len(named["variants"]) == 9


@pytest.mark.parametrize("control", ["0", "9"])
def test_an_index_may_stand_in_a_form(client: TestClient, photo: bytes, control: str) -> None:
    answer = client.post("/v1/sweep", data={"control": control, "steps": "3"}, files={"image": photo}).json()
    assert answer["control"] == int(control)


def test_as_an_image_it_is_one_row(client: TestClient, photo: bytes) -> None:
    answer = client.post("/v1/sweep?steps=7", files={"image": photo}, headers={"Accept": "image/jpeg"})
    assert Image.open(io.BytesIO(answer.content)).size == (7 * 128, 128)


@pytest.mark.parametrize(
    ("control", "slug"), [("beard", "unknown-control"), ("10", "unknown-control"), ("-1", "unknown-control")]
)
def test_a_control_that_is_not_there(client: TestClient, photo: bytes, control: str, slug: str) -> None:
    answer = client.post("/v1/sweep", params={"control": control}, files={"image": photo})
    assert (answer.status_code, answer.json()["type"]) == (422, f"urn:lookalike:problem:{slug}")
