"""Bodies and parameters that will not do: each gets its clear answer, and never a 5xx."""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.core import located
from app.core.images import Photo, read_photo

ADDRESSES = ["/v1/variants", "/v1/sweep", "/v1/identities"]


def problem(answer: Any, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"urn:lookalike:problem:{slug}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert "Traceback" not in answer.text
    return body


def small_face(portrait: Image.Image, side: int) -> bytes:
    output = io.BytesIO()
    portrait.resize((side, side)).save(output, "PNG")
    return output.getvalue()


def vast_png() -> bytes:
    """30,000 x 30,000 pixels in a few bytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("address", ADDRESSES)
class TestPhotographs:
    def test_no_face(self, client: TestClient, landscape: bytes, address: str) -> None:
        body = problem(client.post(address, files={"image": landscape}), 422, "no-face")
        assert "photograph" in body["detail"]

    def test_it_is_decoded_once_however_often_it_is_turned(
        self, client: TestClient, landscape: bytes, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decoded: list[bool] = []

        def counted(*arguments: Any, **options: Any) -> Photo:
            decoded.append(True)
            return read_photo(*arguments, **options)

        monkeypatch.setattr(located, "read_photo", counted)
        problem(client.post(address, files={"image": landscape}), 422, "no-face")
        assert len(decoded) == 1

    def test_a_face_too_small(self, client: TestClient, portrait: Image.Image, address: str) -> None:
        answer = client.post(address, files={"image": small_face(portrait, 160)})
        assert "pixels apart" in problem(answer, 422, "face-too-small")["detail"]

    @pytest.mark.parametrize("form", [True, False])
    def test_a_text_file(self, client: TestClient, address: str, form: bool) -> None:
        text = b"Dear Sir or Madam"
        if form:
            answer = client.post(address, files={"image": ("face.jpg", text, "image/jpeg")})
        else:
            answer = client.post(address, content=text, headers={"Content-Type": "image/jpeg"})
        problem(answer, 400, "not-an-image")

    def test_an_empty_body(self, client: TestClient, address: str) -> None:
        assert "empty" in problem(client.post(address), 400, "bad-request")["detail"]
        for media_type in ("image/jpeg", "image/png", "image/webp"):
            answer = client.post(address, content=b"", headers={"Content-Type": media_type})
            assert "empty" in problem(answer, 400, "bad-request")["detail"]
        assert "'image'" in problem(client.post(address, files={"image": b""}), 400, "bad-request")["detail"]

    @pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
    def test_a_truncated_jpeg(self, client: TestClient, photo: bytes, address: str, share: float) -> None:
        answer = client.post(address, files={"image": photo[: int(len(photo) * share)]})
        assert "incomplete" in problem(answer, 400, "not-an-image")["detail"]

    def test_more_pixels_than_are_accepted(self, client: TestClient, address: str) -> None:
        body = problem(client.post(address, files={"image": vast_png()}), 413, "too-many-pixels")
        assert "30000 x 30000" in body["detail"]

    @pytest.mark.parametrize("media_type", ["text/plain", "image/gif", "application/octet-stream"])
    def test_another_media_type(self, client: TestClient, photo: bytes, address: str, media_type: str) -> None:
        answer = client.post(address, content=photo, headers={"Content-Type": media_type})
        assert media_type in problem(answer, 415, "unsupported-media-type")["detail"]
        assert "multipart/form-data" in answer.headers["Accept"]
        assert "application/json" in answer.headers["Accept"]

    def test_no_media_type(self, client: TestClient, photo: bytes, address: str) -> None:
        answer = client.post(address, content=photo)
        assert "multipart/form-data" in problem(answer, 415, "unsupported-media-type")["detail"]

    @pytest.mark.parametrize("face", ["x", "1.5", "[]", "", "-1", "null", "0_1", "9" * 5000])
    def test_what_a_face_may_be_is_told_without_internals(
        self, client: TestClient, photo: bytes, address: str, face: str
    ) -> None:
        answer = client.post(address, data={"face": face}, files={"image": photo})
        (error,) = problem(answer, 422, "invalid-parameters")["errors"]
        assert error["name"] == "face"
        assert re.fullmatch(r"must be 'largest'( or 'all')?, or the index of a face .*", error["message"])

    def test_a_face_that_is_not_there(self, client: TestClient, photo: bytes, address: str) -> None:
        problem(client.post(f"{address}?face=1", files={"image": photo}), 422, "face-not-found")

    def test_text_in_place_of_the_file(self, client: TestClient, address: str) -> None:
        answer = client.post(address, data={"image": "/etc/passwd"}, files={"other": b"x"})
        problem(answer, 400, "bad-request")

    def test_a_form_without_boundary(self, client: TestClient, photo: bytes, address: str) -> None:
        answer = client.post(address, content=photo, headers={"Content-Type": "multipart/form-data"})
        problem(answer, 400, "bad-request")

    def test_an_unknown_file(self, client: TestClient, photo: bytes, address: str) -> None:
        answer = client.post(address, files={"picture": photo})
        assert problem(answer, 422, "invalid-parameters")["errors"][0]["name"] == "picture"

    def test_an_unknown_parameter(self, client: TestClient, photo: bytes, address: str) -> None:
        answer = client.post(f"{address}?colour=red", files={"image": photo})
        errors = problem(answer, 422, "invalid-parameters")["errors"]
        assert errors == [{"name": "colour", "message": "is not a parameter of this address"}]

    def test_a_parameter_given_twice(self, client: TestClient, photo: bytes, address: str) -> None:
        answer = client.post(f"{address}?face=0", data={"face": "0"}, files={"image": photo})
        assert problem(answer, 422, "invalid-parameters")["errors"][0]["name"] == "face"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", "0"),
        ("count", "65"),
        ("count", "many"),
        ("count", "1.5"),
        ("seed", "-1"),
        ("seed", "4294967296"),
        ("strength", "1.1"),
        ("strength", "nan"),
        ("strength", "inf"),
        ("similarity_min", "2"),
        ("similarity_min", "nan"),
        ("band", "twin"),
        ("format", "gif"),
        ("quality", "0"),
        ("face", "-1"),
        ("face", "all"),
        ("controls", "[]"),
        ("controls", "[[1,2]]"),
        ("controls", "[[0,0,0,0,0,0,0,0,0,2]]"),
        ("controls", "[[0,0,0,0,0,0,0,0,0,NaN]]"),
        ("controls", "[" * 5000),
        ("controls", "0"),
        *(("controls", f"[[{', '.join([number] * 10)}]]") for number in ("true", '"0.5"', "1_0", '" 0.5 "', "null")),
        ("count", "1_0"),
        ("count", " 1"),
        ("count", "true"),
        ("seed", "1_0"),
        ("strength", "0_1"),
        ("strength", "true"),
        ("quality", "9_5"),
        ("similarity_min", "0_1"),
        ("similarity_max", "\u0661"),
    ],
)
def test_a_parameter_out_of_range_is_named(client: TestClient, photo: bytes, name: str, value: str) -> None:
    answer = client.post("/v1/variants", data={name: value}, files={"image": photo})
    errors = problem(answer, 422, "invalid-parameters")["errors"]
    assert all(error["name"].split(".")[0] == name for error in errors)


@pytest.mark.parametrize(
    "parameters",
    [
        {"controls": str([[0] * 10]), "count": 2},
        {"controls": str([[0] * 10]), "strength": 0.5},
        {"controls": str([[0] * 10]), "band": "lookalike"},
        {"band": "lookalike", "similarity_min": 0.1},
        {"similarity_min": 0.5, "similarity_max": 0.4},
    ],
)
def test_parameters_that_contradict_each_other(client: TestClient, photo: bytes, parameters: dict[str, object]) -> None:
    problem(client.post("/v1/variants", params=parameters, files={"image": photo}), 422, "invalid-parameters")


def test_too_many_bytes(new_client: Callable[..., TestClient], photo: bytes) -> None:
    client = new_client(max_bytes=len(photo) - 1)
    headers = {"Content-Type": "image/jpeg"}
    problem(client.post("/v1/variants", content=photo, headers=headers), 413, "too-many-bytes")
    problem(client.post("/v1/variants", content=iter([photo]), headers=headers), 413, "too-many-bytes")
    problem(client.post("/v1/variants", files={"image": photo}), 413, "too-many-bytes")
    problem(
        client.post("/v1/render", content=photo, headers={"Content-Type": "application/json"}), 413, "too-many-bytes"
    )


def test_json_is_bounded_more_tightly(client: TestClient) -> None:
    answer = client.post("/v1/render", content=b"[" * 300_000, headers={"Content-Type": "application/json"})
    problem(answer, 413, "too-many-bytes")


def test_an_unknown_address(client: TestClient) -> None:
    problem(client.get("/v1/nothing"), 404, "not-found")


def test_a_method_that_an_address_does_not_take(client: TestClient) -> None:
    answer = client.get("/v1/variants")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "POST"


def test_a_large_upload_is_not_spooled_to_disk(
    client: TestClient, portrait: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.BytesIO()
    portrait.resize((2000, 2000)).save(output, "PNG", compress_level=0)
    assert len(output.getvalue()) > 10 * 2**20

    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("a temporary file was made")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    answer = client.post("/v1/identities", files={"image": output.getvalue()})
    assert answer.status_code == 200


@pytest.mark.parametrize("charset", ["punycode", "utf-7", "unicode_escape", "utf-16"])
def test_a_form_is_in_no_charset_that_takes_long_or_gives_no_text(
    client: TestClient, photo: bytes, charset: str
) -> None:
    """A quarter of a megabyte of punycode takes most of a minute; two of these bytes are half a letter in UTF-7."""
    fields = [b'name="image"; filename="a"\r\n\r\n' + photo, b'name="+2AA-"\r\n\r\n' + "\U00010000".encode("punycode")]
    body = b"".join(b"--B\r\nContent-Disposition: form-data; " + field + b"\r\n" for field in fields) + b"--B--\r\n"
    media_type = f"multipart/form-data; boundary=B; charset={charset}"
    answer = client.post("/v1/sweep", content=body, headers={"Content-Type": media_type})
    problem(answer, 400, "bad-request")
    assert "send its text in UTF-8" in answer.json()["detail"]


@pytest.mark.parametrize("charset", ["undefined", "punycode", "a\0b", "utf-16", "unicode_escape", "hex", "latin-1"])
@pytest.mark.parametrize("name", ["control", "colour"])
def test_a_form_in_a_charset_that_cannot_be_read(client: TestClient, photo: bytes, charset: str, name: str) -> None:
    parts = [b'name="image"; filename="a"\r\n\r\n' + photo, f'name="{name}"\r\n\r\n\\ud800'.encode()]
    body = b"".join(b"--B\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--B--\r\n"
    media_type = f"multipart/form-data; boundary=B; charset={charset}"
    answer = client.post("/v1/sweep", content=body, headers={"Content-Type": media_type})
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/variants/", "/v1/model/", "/health/ready/"])
def test_a_slash_too_many_is_not_redirected(client: TestClient, path: str) -> None:
    answer = client.get(path, follow_redirects=False, headers={"Host": "elsewhere.example"})
    problem(answer, 404, "not-found")


@pytest.mark.parametrize("face", ["+0", "-0", " 0", "0.0", "0_0", "\u0660"])
def test_a_face_is_counted_in_plain_digits(client: TestClient, photo: bytes, face: str) -> None:
    answer = client.post("/v1/identities", params={"face": face}, files={"image": photo})
    problem(answer, 422, "invalid-parameters")


@pytest.mark.parametrize(
    "wrong",
    [{"count": True}, {"count": "2"}, {"controls": "[[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]"}, {"controls": [[True] * 10]}],
)
def test_json_has_numbers_as_numbers(client: TestClient, wrong: dict[str, object]) -> None:
    answer = client.post("/v1/render", json={"identity": [0.0] * 70} | wrong)
    problem(answer, 422, "invalid-parameters")


DISPOSITIONS = ["filename*=UTF-8''face.jpg", "filename*=UTF-8''f%C3%A4ce.jpg", "FileName* = utf-8'de'f%C3%A4ce.jpg"]


@pytest.mark.parametrize("extra", [*(f"; {name}" for name in DISPOSITIONS), "\r\nContent-Type: image/jpeg"])
def test_a_file_without_a_plain_name_is_a_file(client: TestClient, photo: bytes, extra: str) -> None:
    head = f'--B\r\nContent-Disposition: form-data; name="image"{extra}\r\n\r\n'.encode()
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    answer = client.post("/v1/identities", content=head + photo + b"\r\n--B--\r\n", headers=headers)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "deflate"])
def test_a_compressed_body(client: TestClient, photo: bytes, encoding: str) -> None:
    body = zlib.compress(photo) if encoding == "deflate" else gzip.compress(photo)
    headers = {"Content-Type": "image/jpeg", "Content-Encoding": encoding}
    assert client.post("/v1/identities", content=body, headers=headers).status_code == 200


def test_compressed_json_and_a_compressed_form(client: TestClient, photo: bytes) -> None:
    def send(path: str, like: httpx.Request) -> httpx.Response:
        headers = {"Content-Type": like.headers["Content-Type"], "Content-Encoding": "gzip"}
        return client.post(path, content=gzip.compress(like.read()), headers=headers)

    rendered = send("/v1/render", client.build_request("POST", "/", json={"identity": [0.0] * 70, "count": 1}))
    assert rendered.status_code == 200, rendered.text
    form = send("/v1/identities", client.build_request("POST", "/", files={"image": photo}))
    assert form.status_code == 200, form.text


@pytest.mark.parametrize("path", ["/v1/render", "/v1/variants"])
@pytest.mark.parametrize(
    ("encoding", "body", "status", "slug"),
    [
        ("br", b"x", 415, "unsupported-media-type"),
        ("gzip", b"plain", 400, "bad-request"),
        ("gzip", gzip.compress(b"x" * 1000)[:-9], 400, "bad-request"),
        ("gzip", gzip.compress(bytes(2**25)), 413, "too-many-bytes"),
    ],
    # Named, since gzip's header holds the time and each of the runner's processes must collect the same names.
    ids=["unknown", "not gzip", "cut short", "a bomb"],
)
def test_a_body_that_cannot_be_decompressed(
    client: TestClient, path: str, encoding: str, body: bytes, status: int, slug: str
) -> None:
    kind = "application/json" if path == "/v1/render" else "image/jpeg"
    answer = client.post(path, content=body, headers={"Content-Type": kind, "Content-Encoding": encoding})
    problem(answer, status, slug)
    if status == 415:
        assert answer.headers["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize("media_type", [None, "application/x-www-form-urlencoded", "text/plain"])
def test_json_by_another_name_is_told_its_type(client: TestClient, media_type: str | None) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    answer = client.post("/v1/render", content=json.dumps({"identity": [0.0] * 70, "count": 1}), headers=headers)
    assert "Send application/json" in problem(answer, 415, "unsupported-media-type")["detail"]
    assert answer.headers["Accept"] == "application/json"
