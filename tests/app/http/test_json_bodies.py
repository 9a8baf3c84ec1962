"""Photographs in base64 within JSON."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.http.json_bodies import MAX_TEXT, read_json
from app.http.problems import ProblemError

BYTES = bytes(range(256)) * 40
STANDARD = base64.b64encode(BYTES).decode()


def refused(body: bytes) -> tuple[int, str]:
    with pytest.raises(ProblemError) as raised:
        read_json(body, ("image",))
    return raised.value.kind.status, raised.value.detail


@pytest.mark.parametrize("length", [0, 1, 2, 3, 383, 384, 385, 10_000])
def test_base64_of_any_length(length: int) -> None:
    body = json.dumps({"image": base64.b64encode(BYTES[:length]).decode(), "count": 2})
    assert read_json(body.encode(), ("image",)) == ({"image": BYTES[:length]}, {"count": 2})


@pytest.mark.parametrize(
    "text",
    [
        STANDARD,
        STANDARD.rstrip("="),
        base64.urlsafe_b64encode(BYTES).decode(),
        "data:image/jpeg;base64," + STANDARD,
        base64.encodebytes(BYTES).decode(),
        base64.encodebytes(BYTES).decode().replace("\n", "\r\n"),
    ],
    ids=["standard", "unpadded", "url-safe", "data-url", "lines", "crlf"],
)
@pytest.mark.parametrize("slashes", [False, True])
def test_ways_in_which_programs_write_base64(text: str, slashes: bool) -> None:
    body = json.dumps({"reference": text, "probe": text})
    body = body.replace("/", "\\/") if slashes else body
    photos, members = read_json(body.encode(), ("reference", "probe"))
    assert (photos, members) == ({"reference": BYTES, "probe": BYTES}, {})


@pytest.mark.parametrize("characters", ["+", "=", "/", "+/="])
def test_any_character_may_be_written_as_an_escape(characters: str) -> None:
    """Java's Gson writes `=` so, .NET's System.Text.Json `+`."""
    text = "data:image/jpeg;base64," + base64.b64encode(BYTES).decode()
    assert set(characters) <= set(text)
    for character in characters:
        text = text.replace(character, f"\\u{ord(character):04x}")
    photos, members = read_json(f'{{"image": "{text}", "count": 2}}'.encode(), ("image",))
    assert (photos, members) == ({"image": BYTES}, {"count": 2})


@pytest.mark.parametrize(
    "text",
    [
        "Dear Sir!",
        "abcde",
        "ab=c",
        "ä",
        "\ud800",
        "\0" + "0",
        "A" * 600 + "\t=A",
        "A" * 600 + "\\u002",
        "A" * 600 + "\ud800",
    ],
)
def test_what_is_not_base64(text: str) -> None:
    status, detail = refused(json.dumps({"image": text}).encode())
    assert status == 400
    assert "'image' is not base64" in detail


def test_nothing_but_photographs_may_be_long() -> None:
    assert refused(b'{"image": "' + b"A" * 400 + b'", "controls": [' + b"0," * MAX_TEXT + b"0]}")[0] == 413
    assert refused(b'"' * (MAX_TEXT + 1))[0] == 413


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "valid JSON"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"[" * 100_000, "valid JSON"),
        (b"[1]", "JSON object"),
        (b'{"count": 1, "count": 2}', "'count' is given more than once"),
    ],
)
def test_what_is_no_object(body: bytes, said: str) -> None:
    status, detail = refused(body)
    assert status == 422
    assert said in detail


def test_a_photograph_that_is_no_string() -> None:
    assert refused(b'{"image": [1, 2]}')[0] == 400


@pytest.mark.parametrize("path", ["/v1/variants", "/v1/sweep", "/v1/identities"])
def test_json_gives_what_a_form_gives(client: TestClient, photo: bytes, path: str) -> None:
    parameters: dict[str, Any] = {"/v1/variants": {"count": 1, "seed": 3}, "/v1/sweep": {"steps": 2}}.get(path, {})
    form = client.post(path, files={"image": photo}, data=parameters)
    body = {"image": base64.b64encode(photo).decode(), **parameters}
    assert client.post(path, json=body).json() == form.json()
    in_query = client.post(path, json={"image": body["image"]}, params=parameters)
    assert in_query.json() == form.json()


def test_compare_takes_json(client: TestClient, photo: bytes) -> None:
    encoded = base64.b64encode(photo).decode()
    answer = client.post("/v1/compare", json={"reference": encoded, "probe": encoded, "probe_face": 0})
    assert answer.json()["similarity"] == 1


def test_controls_are_lists_in_json(client: TestClient, photo: bytes) -> None:
    body = {"image": base64.b64encode(photo).decode(), "controls": [[0] * 10], "format": "png"}
    assert len(client.post("/v1/variants", json=body).json()["variants"]) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"count": True}, {"count": "2"}, {"count": 2.0}, {"strength": "1"}, {"face": True}, {"colour": 1}, {"face": "x"}],
)
def test_json_has_numbers_as_numbers(client: TestClient, photo: bytes, wrong: dict[str, object]) -> None:
    answer = client.post("/v1/variants", json={"image": base64.b64encode(photo).decode(), **wrong})
    assert answer.status_code == 422
    assert [error["name"] for error in answer.json()["errors"]] == list(wrong)


def test_a_parameter_in_json_and_in_the_query(client: TestClient, photo: bytes) -> None:
    body = {"image": base64.b64encode(photo).decode(), "count": 1}
    answer = client.post("/v1/variants", json=body, params={"count": "1"})
    assert (answer.status_code, answer.json()["errors"][0]["name"]) == (422, "count")
    wrong = client.post("/v1/variants", json={"image": body["image"], "count": 1}, params={"seed": "1_0"})
    assert (wrong.status_code, wrong.json()["errors"][0]["name"]) == (422, "seed")


def test_a_large_photograph_in_json(client: TestClient, portrait: Image.Image) -> None:
    file = io.BytesIO()
    portrait.resize((1200, 1200)).save(file, "PNG", compress_level=0)
    assert len(file.getvalue()) > 4 * 2**20
    answer = client.post("/v1/identities", json={"image": base64.b64encode(file.getvalue()).decode()})
    assert answer.status_code == 200


def test_a_photograph_that_is_missing_in_json(client: TestClient) -> None:
    answer = client.post("/v1/variants", json={"count": 1})
    assert answer.status_code == 400
    assert "'image' in base64" in answer.json()["detail"]
