from __future__ import annotations

import numpy as np
from fastapi.testclient import TestClient


def faces(client: TestClient, photo: bytes, **parameters: object) -> list[dict[str, object]]:
    answer = client.post("/v1/identities", params=parameters, files={"image": photo})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json()["faces"]
    return found


def test_all_faces(client: TestClient, group: bytes) -> None:
    first, second = faces(client, group, face="all")
    assert (first["index"], second["index"]) == (0, 1)
    assert not np.allclose(first["identity"], second["identity"])


def test_one_of_them(client: TestClient, group: bytes) -> None:
    every = faces(client, group, face="all")
    assert faces(client, group) == [every[0]]
    assert faces(client, group, face="largest") == [every[0]]
    assert faces(client, group, face=1) == [every[1]]


def test_landmarks_lie_in_the_box_of_the_face(client: TestClient, photo: bytes) -> None:
    (face,) = faces(client, photo)
    left, top, right, bottom = face["box"]
    for point in ("right_eye", "left_eye", "nose_tip", "mouth_centre"):
        x, y = face["landmarks"][point]
        assert left < x < right
        assert top < y < bottom
    assert face["landmarks"]["right_eye"][0] < face["landmarks"]["left_eye"][0]
