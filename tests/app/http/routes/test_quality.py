"""Photographs that are not as they should be: turned, told of, or refused with the reason."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from tests.conftest import encoded

ZERO = str([[0] * 10])


def made(client: TestClient, image: Image.Image, **parameters: str) -> Any:
    """The most faithful redrawing."""
    data = {"controls": ZERO, "format": "png"} | parameters
    return client.post("/v1/variants", data=data, files={"image": encoded(image, quality=95)})


def redrawing(answer: Any) -> np.ndarray:
    file = base64.b64decode(answer.json()["variants"][0]["image"])
    return np.asarray(Image.open(io.BytesIO(file))).astype(int)


@pytest.fixture(scope="module")
def bust(portrait: Image.Image) -> Image.Image:
    return portrait.crop((75, 0, 375, 300))


@pytest.mark.parametrize(("turn", "rotation"), [(90, 90), (180, 180), (270, 270)])
def test_a_photograph_that_lies_is_turned(client: TestClient, bust: Image.Image, turn: int, rotation: int) -> None:
    upright, lying = made(client, bust), made(client, bust.rotate(turn))
    source = lying.json()["source"]
    # Pillow turns counterclockwise, and so it is turned back clockwise.
    assert (upright.json()["source"]["rotation"], source["rotation"]) == (0, rotation)
    assert lying.headers["X-Lookalike-Rotation"] == str(rotation)
    assert np.abs(redrawing(upright) - redrawing(lying)).mean() < 8
    # In pixels of what was sent: where the eyes of the lying portrait are.
    x, y = upright.json()["source"]["landmarks"]["left_eye"]
    expected = {90: (y, 300 - x), 180: (300 - x, 300 - y), 270: (300 - y, x)}[turn]
    assert np.abs(np.subtract(source["landmarks"]["left_eye"], expected)).max() < 5
    left, top, right, bottom = source["box"]
    assert left < expected[0] < right
    assert top < expected[1] < bottom


def test_a_photograph_is_not_turned_where_that_is_not_wanted(client: TestClient, bust: Image.Image) -> None:
    answer = made(client, bust.rotate(180), rotate="none")
    assert answer.status_code == 422
    assert answer.json()["type"].rpartition(":")[2] in ("unlike-a-face", "no-face")


@pytest.mark.parametrize("kind", ["colour", "grey"])
def test_a_negative_is_refused(client: TestClient, bust: Image.Image, kind: str) -> None:
    negative = ImageOps.invert(bust if kind == "colour" else bust.convert("L").convert("RGB"))
    answer = made(client, negative)
    assert answer.json()["type"].rpartition(":")[2] in ("unlike-a-face", "no-face")


def test_what_is_unlike_a_face_is_answered_on_request(client: TestClient, bust: Image.Image) -> None:
    wanted = {"rotate": "none", "unlike": "answer"}
    answer = made(client, bust.rotate(180), **wanted)
    assert answer.status_code == 200, answer.text
    quality = answer.json()["source"]["face_quality"]
    assert quality["doubts"][0]["component"] == "face-likeness"
    assert "face-likeness" in answer.headers["X-Lookalike-Doubts"]


def test_a_good_photograph_leaves_no_doubt(client: TestClient, bust: Image.Image) -> None:
    answer = made(client, bust)
    quality = answer.json()["source"]["face_quality"]
    assert quality["doubts"] == []
    assert "X-Lookalike-Doubts" not in answer.headers
    assert quality["fidelity"] == pytest.approx(answer.json()["variants"][0]["similarity"], abs=0.02)
    assert 40 < quality["inter_eye_distance"] < 48
    assert abs(quality["head_pose_yaw"]) < 15
    assert abs(quality["head_pose_roll"]) < 10


@pytest.mark.parametrize("reason", ["sharpness", "inter-eye-distance", "mouth-visible"])
def test_the_reason_is_named(client: TestClient, bust: Image.Image, reason: str) -> None:
    spoilt = bust.copy()
    if reason == "sharpness":
        spoilt = bust.filter(ImageFilter.GaussianBlur(4))
    elif reason == "inter-eye-distance":
        spoilt = bust.resize((150, 150))
    else:
        ImageDraw.Draw(spoilt).rectangle([118, 128, 178, 190], fill=(150, 190, 210))
    answer = made(client, spoilt, unlike="answer")
    doubts = {doubt["component"]: doubt["detail"] for doubt in answer.json()["source"]["face_quality"]["doubts"]}
    assert reason in doubts
    assert doubts[reason].endswith((".", "?"))


def test_identities_and_comparisons_are_judged_too(client: TestClient, bust: Image.Image) -> None:
    lying = encoded(bust.rotate(180), quality=95)
    (face,) = client.post("/v1/identities", files={"image": lying}).json()["faces"]
    assert face["rotation"] == 180
    assert face["face_quality"]["fidelity"] > 0.5
    upright = encoded(bust, quality=95)
    compared = client.post("/v1/compare", files={"reference": upright, "probe": lying}).json()
    assert compared["similarity"] > 0.9
    assert (compared["reference"]["rotation"], compared["probe"]["rotation"]) == (0, 180)
    assert compared["probe"]["face_quality"]["fidelity"] is None
    negative = encoded(ImageOps.invert(bust), quality=95)
    problem = client.post("/v1/compare", files={"reference": upright, "probe": negative}).json()
    assert problem["detail"].startswith("The probe: ")


def test_a_profile_is_told_of_its_pose(client: TestClient, bust: Image.Image) -> None:
    """Half a face: eyes that lie together in a face that is large enough."""
    narrow = bust.crop((75, 0, 225, 300)).resize((40, 240)).resize((44, 240))
    canvas = Image.new("RGB", (240, 240), (120, 120, 120))
    canvas.paste(narrow, (98, 0))
    answer = made(client, canvas, unlike="answer")
    if answer.status_code == 422:
        assert "Send a larger" not in answer.json()["detail"]


def test_a_refusal_names_the_reason(client: TestClient, bust: Image.Image) -> None:
    answer = made(client, bust.filter(ImageFilter.GaussianBlur(6)))
    assert answer.json()["type"] == "urn:lookalike:problem:unlike-a-face"
    assert "blurred" in answer.json()["detail"]


def test_what_a_source_says_of_itself_can_be_sent_back(client: TestClient, bust: Image.Image) -> None:
    """No member of a source means something else to `/v1/render`."""
    schema = client.get("/openapi.json").json()["components"]["schemas"]
    common = set(schema["Source"]["properties"]) & set(schema["RenderRequest"]["properties"])
    assert common == {"identity", "reference"}
