from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.conftest import encoded


def compare(client: TestClient, reference: bytes, probe: bytes, **parameters: object) -> Any:
    return client.post("/v1/compare", params=parameters, files={"reference": reference, "probe": probe})


def test_a_face_is_like_itself(client: TestClient, photo: bytes) -> None:
    answer = compare(client, photo, photo).json()
    assert answer["similarity"] == 1
    assert [verdict["match"] for verdict in answer["verdicts"]] == [True] * 3
    assert [verdict["fmr"] for verdict in answer["verdicts"]] == [1e-2, 1e-3, 1e-4]


def test_verdicts_follow_the_models_thresholds(client: TestClient, photo: bytes, group: bytes) -> None:
    thresholds = client.get("/v1/model").json()["thresholds"]
    answer = compare(client, photo, group, probe_face=1).json()
    assert 0.3 < answer["similarity"] < 1, "the same woman, mirrored, brightened and smaller"
    for verdict, name in zip(answer["verdicts"], ("fmr_1e-2", "fmr_1e-3", "fmr_1e-4"), strict=True):
        assert verdict["threshold"] == thresholds[name]
        assert verdict["match"] == (answer["similarity"] >= thresholds[name])


def test_order_does_not_matter(client: TestClient, photo: bytes, group: bytes) -> None:
    there = compare(client, photo, group, probe_face=1).json()
    back = compare(client, group, photo, reference_face=1).json()
    assert there["similarity"] == back["similarity"]
    assert there["reference"] == back["probe"]


def test_both_photographs_are_needed(client: TestClient, photo: bytes) -> None:
    answer = client.post("/v1/compare", files={"reference": photo})
    assert (answer.status_code, "'probe'" in answer.json()["detail"]) == (400, True)
    raw = client.post("/v1/compare", content=photo, headers={"Content-Type": "image/jpeg"})
    assert raw.status_code == 415


def test_a_photograph_without_a_face(client: TestClient, photo: bytes, landscape: bytes) -> None:
    assert compare(client, photo, landscape).json()["type"] == "urn:lookalike:problem:no-face"


@pytest.mark.parametrize("which", ["reference", "probe"])
@pytest.mark.parametrize("kind", ["no-face", "not-an-image", "face-not-found", "face-too-small"])
def test_a_problem_says_with_which_photograph(
    client: TestClient, photo: bytes, landscape: bytes, portrait: Image.Image, which: str, kind: str
) -> None:
    bad = {
        "no-face": landscape,
        "not-an-image": b"no picture",
        "face-not-found": photo,
        "face-too-small": encoded(portrait.resize((160, 160)), "PNG"),
    }[kind]
    other = {"reference": "probe", "probe": "reference"}[which]
    parameters = {f"{which}_face": "3"} if kind == "face-not-found" else {}
    problem = client.post("/v1/compare", files={which: bad, other: photo}, data=parameters).json()
    assert problem["type"] == f"urn:lookalike:problem:{kind}"
    assert which in problem["detail"]
    assert other not in problem["detail"]
