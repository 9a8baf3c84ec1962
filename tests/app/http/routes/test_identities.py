from __future__ import annotations

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from tests.conftest import encoded


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


def test_faces_that_are_left_out_are_told_of(client: TestClient, portrait: Image.Image) -> None:
    head = portrait.crop((125, 0, 325, 200)).resize((120, 120))
    crowd = Image.new("RGB", (1080, 960))
    for place in range(72):
        crowd.paste(head, (place % 9 * 120, place // 9 * 120))
    answer = client.post("/v1/identities", params={"face": "all"}, files={"image": encoded(crowd, quality=95)}).json()
    assert len(answer["faces"]) == 64
    assert answer["found"] >= 70
    assert answer["left_out"] == answer["found"] - 64


def test_none_is_left_out_of_what_was_asked_for(client: TestClient, group: bytes) -> None:
    every = client.post("/v1/identities", params={"face": "all"}, files={"image": group}).json()
    one = client.post("/v1/identities", files={"image": group}).json()
    assert (every["found"], every["left_out"], one["left_out"]) == (2, 0, 0)


def test_a_small_face_is_found_however_it_is_asked_for(client: TestClient, portrait: Image.Image) -> None:
    small = portrait.crop((75, 0, 375, 300)).resize((143, 143), Image.Resampling.LANCZOS)
    for place in ((100, 900), (1300, 200), (700, 500)):
        picture = Image.new("RGB", (1600, 1200), (120, 130, 140))
        picture.paste(small, place)
        data = encoded(picture, quality=95)
        largest, first, *others = (faces(client, data, face=face) for face in ("largest", 0, "all"))
        assert largest == first == others[0]
        assert abs(largest[0]["box"][0] - place[0]) < 100
