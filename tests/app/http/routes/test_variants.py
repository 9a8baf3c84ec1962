"""The main job, through HTTP, on the shipped models."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

CONTROLS = [[0.0] * 10, [0.5, -0.25] + [0.1] * 8, [1.0, -1.0] * 5]


def ask(client: TestClient, photo: bytes, accept: str = "application/json", **parameters: object) -> Any:
    answer = client.post(
        "/v1/variants", params=parameters, files={"image": ("face.jpg", photo)}, headers={"Accept": accept}
    )
    assert answer.status_code == 200, answer.text
    return answer.json() if accept == "application/json" else answer


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def images(answer: Any) -> list[bytes]:
    return [base64.b64decode(variant["image"], validate=True) for variant in answer["variants"]]


@pytest.mark.parametrize("count", [1, 7, 64])
def test_a_photograph_gives_as_many_images_as_asked_for(client: TestClient, photo: bytes, count: int) -> None:
    answer = ask(client, photo, count=count)
    assert len(answer["variants"]) == count
    for index, (variant, data) in enumerate(zip(answer["variants"], images(answer), strict=True)):
        assert variant["index"] == index
        assert variant["media_type"] == "image/jpeg"
        image = Image.open(io.BytesIO(data))
        image.load()
        assert (image.format, image.size) == ("JPEG", (128, 128))
        assert (variant["width"], variant["height"]) == (128, 128)
        assert len(variant["control"]) == 10
        assert -1 <= variant["similarity"] <= 1


def test_the_answer_says_where_the_face_was(client: TestClient, photo: bytes) -> None:
    source = ask(client, photo, count=1)["source"]
    assert np.allclose(source["landmarks"]["right_eye"], (203, 101), atol=6)
    assert np.allclose(source["landmarks"]["left_eye"], (248, 103), atol=6)
    left, top, right, bottom = source["box"]
    assert left < 203 < right
    assert top < 101 < bottom
    assert 0.5 < source["detection_score"] <= 1
    assert len(source["identity"]) == 70


def test_raw_bytes_will_do(client: TestClient, photo: bytes) -> None:
    raw = client.post("/v1/variants?count=2&seed=3", content=photo, headers={"Content-Type": "image/jpeg"})
    assert raw.json() == ask(client, photo, count=2, seed=3)


def test_parameters_may_stand_in_the_form(client: TestClient, photo: bytes) -> None:
    form = client.post("/v1/variants", data={"count": "2", "seed": "3"}, files={"image": photo})
    assert form.json() == ask(client, photo, count=2, seed=3)


def test_given_controls_come_back_as_given(client: TestClient, photo: bytes) -> None:
    answer = ask(client, photo, controls=json.dumps(CONTROLS))
    assert [variant["control"] for variant in answer["variants"]] == CONTROLS
    assert answer["seed"] is None


def test_returned_random_controls_make_the_same_images_again(client: TestClient, photo: bytes) -> None:
    first = ask(client, photo, count=3, seed=5, format="png")
    again = ask(client, photo, controls=json.dumps([v["control"] for v in first["variants"]]), format="png")
    for a, b in zip(images(first), images(again), strict=True):
        assert np.array_equal(pixels(a), pixels(b))


def test_two_controls_give_different_images(client: TestClient, photo: bytes) -> None:
    first, second, third = (
        pixels(data).astype(int) for data in images(ask(client, photo, controls=json.dumps(CONTROLS)))
    )
    assert np.abs(first - second).mean() > 1
    assert np.abs(first - third).mean() > 1
    assert np.abs(second - third).mean() > 1


def test_the_same_seed_gives_the_same_bytes(client: TestClient, photo: bytes) -> None:
    first, second = (ask(client, photo, count=5, seed=42) for _ in range(2))
    assert first == second


def test_without_a_seed_each_answer_is_another_and_can_be_had_again(client: TestClient, photo: bytes) -> None:
    first, second = (ask(client, photo, count=2) for _ in range(2))
    assert first["seed"] != second["seed"]
    assert first["id"] != second["id"]
    assert ask(client, photo, count=2, seed=first["seed"]) == first


def test_the_first_variants_do_not_depend_on_how_many_follow(client: TestClient, photo: bytes) -> None:
    few, many = (ask(client, photo, count=count, seed=1, format="png") for count in (3, 20))
    for a, b in zip(few["variants"], many["variants"], strict=False):
        assert (a["control"], a["similarity"]) == (b["control"], b["similarity"])
    for a, b in zip(images(few), images(many), strict=False):
        assert np.array_equal(pixels(a), pixels(b))


def test_strength_zero_is_control_zero(client: TestClient, photo: bytes) -> None:
    answer = ask(client, photo, count=2, strength=0, seed=1)
    assert all(not any(variant["control"]) for variant in answer["variants"])


def test_control_zero_is_closer_to_the_source_than_random_controls(client: TestClient, photo: bytes) -> None:
    (faithful,) = ask(client, photo, controls=json.dumps([[0.0] * 10]))["variants"]
    others = [variant["similarity"] for variant in ask(client, photo, count=32, seed=1)["variants"]]
    assert faithful["similarity"] > np.median(others)
    assert faithful["similarity"] > np.quantile(others, 0.8)


def test_likeness_falls_with_strength(client: TestClient, photo: bytes) -> None:
    medians = [
        np.median([v["similarity"] for v in ask(client, photo, count=16, seed=1, strength=strength)["variants"]])
        for strength in (0, 0.5, 1)
    ]
    assert medians[0] > medians[1] > medians[2]


def test_the_metadata_of_an_image_names_its_answer(client: TestClient, photo: bytes) -> None:
    for form in ("jpeg", "webp", "png"):
        answer = ask(client, photo, count=1, seed=9, format=form)
        xmp = Image.open(io.BytesIO(images(answer)[0])).info["xmp"]
        text = xmp.decode() if isinstance(xmp, bytes) else xmp
        assert f"<xmpMM:DocumentID>{answer['id']}<" in text
        assert "trainedAlgorithmicMedia" in text
        assert answer["model"]["version"] in text


def test_nothing_of_the_photographs_metadata_survives(client: TestClient, portrait: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SECRETCAMERA"
    exif[0x8825] = {1: "N", 2: (1.0, 2.0, 3.0)}
    output = io.BytesIO()
    portrait.save(output, "JPEG", exif=exif, comment="SECRETCOMMENT", quality=95)
    for form in ("jpeg", "webp", "png"):
        (data,) = images(ask(client, output.getvalue(), count=1, format=form))
        assert b"SECRET" not in data
        assert 0x8825 not in Image.open(io.BytesIO(data)).getexif()


def test_a_turned_photograph_gives_the_same_face(client: TestClient, photo: bytes, portrait: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    output = io.BytesIO()
    portrait.rotate(90, expand=True).save(output, "JPEG", exif=exif, quality=95)
    turned, upright = ask(client, output.getvalue(), count=1)["source"], ask(client, photo, count=1)["source"]
    assert np.allclose(turned["box"], upright["box"], atol=4)


def test_a_face_can_be_chosen(client: TestClient, group: bytes) -> None:
    left = ask(client, group, count=1, face=0)["source"]
    right = ask(client, group, count=1, face=1)["source"]
    assert left["box"] == ask(client, group, count=1)["source"]["box"]
    assert left["box"][2] < 512 < right["box"][0]


# Forms of answer


def test_a_zip_holds_images_and_a_manifest(client: TestClient, photo: bytes) -> None:
    answer = ask(client, photo, "application/zip", count=3, seed=4)
    plain = ask(client, photo, count=3, seed=4)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["0000.jpg", "0001.jpg", "0002.jpg", "manifest.json"]
        manifest = json.loads(archive.read("manifest.json"))
        assert [archive.read(entry["file"]) for entry in manifest["variants"]] == images(plain)
    assert (manifest["id"], manifest["source"]) == (plain["id"], plain["source"])
    assert ask(client, photo, "application/zip", count=3, seed=4).content == answer.content


def test_ndjson_has_a_line_a_variant(client: TestClient, photo: bytes) -> None:
    answer = ask(client, photo, "application/x-ndjson", count=9, seed=4)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines == ask(client, photo, count=9, seed=4)["variants"]
    assert answer.headers["X-Lookalike-Seed"] == "4"


@pytest.mark.parametrize(("count", "size"), [(1, (128, 128)), (4, (256, 256)), (5, (384, 256))])
def test_an_image_is_one_variant_or_a_contact_sheet(
    client: TestClient, photo: bytes, count: int, size: tuple[int, int]
) -> None:
    answer = ask(client, photo, "image/png", count=count, seed=4)
    sheet = pixels(answer.content)
    assert (sheet.shape[1], sheet.shape[0]) == size
    first = pixels(images(ask(client, photo, count=count, seed=4, format="png"))[0])
    assert np.array_equal(sheet[:128, :128], first)
    assert len(answer.headers["X-Lookalike-Similarity"].split(",")) == count


@pytest.mark.parametrize(
    ("accept", "parameters", "media_type"),
    [
        ("*/*", {}, "application/json"),
        ("application/*", {}, "application/json"),
        ("image/*", {}, "image/jpeg"),
        ("image/*", {"format": "webp"}, "image/webp"),
        ("image/webp", {}, "image/webp"),
        ("image/png;q=0.2, image/webp;q=0.9", {}, "image/webp"),
        ("text/html, application/zip;q=0.9, */*;q=0.1", {}, "application/zip"),
        ("application/json;q=0, */*;q=0.5", {}, "application/zip"),
        ("application/json;q=0.1, application/x-ndjson", {}, "application/x-ndjson"),
    ],
)
def test_accept_chooses_the_form(
    client: TestClient, photo: bytes, accept: str, parameters: dict[str, str], media_type: str
) -> None:
    answer = ask(client, photo, accept, count=1, **parameters) if accept != "application/json" else None
    assert answer is not None
    assert answer.headers["Content-Type"] == media_type
    assert "Accept" in answer.headers["Vary"]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("IMAGE/PNG", "image/png"),
        ("Image/*", "image/jpeg"),
        ("Application/ZIP", "application/zip"),
        ("*/*;Q=1", "application/json"),
    ],
)
def test_media_types_may_be_in_capitals(client: TestClient, photo: bytes, accept: str, media_type: str) -> None:
    answer = client.post("/v1/variants", params={"count": 1}, files={"image": photo}, headers={"Accept": accept})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type)


@pytest.mark.parametrize(
    ("accept", "parameters"),
    [("text/html", {}), ("image/gif", {}), ("image/png", {"format": "jpeg"}), ("nonsense", {})],
)
def test_what_cannot_be_accepted_is_406(
    client: TestClient, photo: bytes, accept: str, parameters: dict[str, str]
) -> None:
    answer = client.post("/v1/variants", params=parameters, files={"image": photo}, headers={"Accept": accept})
    assert answer.status_code == 406
    assert "application/json" in answer.json()["detail"]


# Search of a band


def spread(client: TestClient, photo: bytes) -> tuple[float, float]:
    """A band that holds about half of what random controls give."""
    scores = [variant["similarity"] for variant in ask(client, photo, count=32, seed=77)["variants"]]
    return tuple(round(float(value), 3) for value in np.quantile(scores, [0.4, 0.9]))  # type: ignore[return-value]


def test_a_band_is_searched(client: TestClient, photo: bytes) -> None:
    low, high = spread(client, photo)
    answer = ask(client, photo, count=12, seed=1, similarity_min=low, similarity_max=high)
    search = answer["search"]
    assert (search["similarity_min"], search["similarity_max"], search["wanted"]) == (low, high, 12)
    assert search["found"] == len(answer["variants"]) == 12
    assert 12 <= search["tries"] <= 5 * 12
    assert all(low <= variant["similarity"] <= high and variant["in_band"] for variant in answer["variants"])
    assert [variant["index"] for variant in answer["variants"]] == list(range(12))
    assert answer == ask(client, photo, count=12, seed=1, similarity_min=low, similarity_max=high)


def test_the_lookalike_band_is_the_models_own(client: TestClient, photo: bytes) -> None:
    band = client.get("/v1/model").json()["lookalike_band"]
    search = ask(client, photo, count=8, seed=1, band="lookalike")["search"]
    assert [search["similarity_min"], search["similarity_max"]] == band


def test_most_of_a_lookalike_band_search_succeeds(client: TestClient, photo: bytes) -> None:
    search = ask(client, photo, count=16, seed=1, band="lookalike")["search"]
    assert search["found"] == 16
    assert search["tries"] <= 48


def test_a_band_that_cannot_be_reached_ends_with_fewer(client: TestClient, photo: bytes) -> None:
    answer = ask(client, photo, count=2, similarity_min=0.9999)
    assert answer["variants"] == []
    assert (answer["search"]["found"], answer["search"]["wanted"]) == (0, 2)
    assert answer["search"]["tries"] <= 16
    sheet = client.post(
        "/v1/variants?count=2&similarity_min=0.9999", files={"image": photo}, headers={"Accept": "image/jpeg"}
    )
    assert (sheet.status_code, sheet.json()["type"]) == (422, "urn:lookalike:problem:band-empty")


def test_in_band_without_a_search_is_the_lookalike_band(client: TestClient, photo: bytes) -> None:
    low, high = client.get("/v1/model").json()["lookalike_band"]
    for variant in ask(client, photo, count=16, seed=2)["variants"]:
        assert variant["in_band"] == (low <= variant["similarity"] <= high)


def test_a_visible_mark_is_a_setting(client: TestClient, new_client: Callable[..., TestClient], photo: bytes) -> None:
    plain = ask(client, photo, count=1, seed=1, format="png")
    marked = ask(new_client(mark=True), photo, count=1, seed=1, format="png")
    assert plain["id"] != marked["id"]
    changed = (pixels(images(plain)[0]) != pixels(images(marked)[0])).any(axis=2)
    assert changed[96:, 96:].any()
    assert not changed[:96].any()
