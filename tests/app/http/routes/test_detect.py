"""`POST /v1/detect`, and that no picture leaves without its marks."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.core.provenance import SYNTHETIC
from tests.app.chain import Chain, make_chain

FORMATS = ("jpeg", "webp", "png")


def detect(client: TestClient, picture: bytes) -> dict[str, Any]:
    answer = client.post("/v1/detect", files={"image": picture})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def plain(picture: bytes, form: str = "JPEG", quality: int = 90) -> bytes:
    """The pixels alone, saved anew by another program."""
    file = io.BytesIO()
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    Image.fromarray(pixels).save(file, form, quality=quality)
    return file.getvalue()


@pytest.fixture(scope="module")
def drawn(client: TestClient, photo: bytes) -> bytes:
    """One look-alike, as it leaves."""
    answer = client.post("/v1/variants?count=1&seed=5", files={"image": photo}, headers={"Accept": "image/jpeg"})
    return answer.content


@pytest.fixture(scope="module")
def asked(client: TestClient, photo: bytes) -> dict[str, Callable[[str, str], Any]]:
    """Every route that answers with pictures: asks it for a format, in the form of Accept."""
    identity = client.post("/v1/identities", files={"image": photo}).json()["faces"][0]["identity"]

    def variants(form: str, accept: str) -> Any:
        url = f"/v1/variants?count=2&seed=3&format={form}"
        return client.post(url, files={"image": photo}, headers={"Accept": accept})

    def render(form: str, accept: str) -> Any:
        body = {"identity": identity, "count": 2, "seed": 3, "format": form}
        return client.post("/v1/render", json=body, headers={"Accept": accept})

    def sweep(form: str, accept: str) -> Any:
        url = f"/v1/sweep?control=1&steps=3&format={form}"
        return client.post(url, files={"image": photo}, headers={"Accept": accept})

    return {"variants": variants, "render": render, "sweep": sweep}


def pictures(answer: Any, accept: str) -> list[bytes]:
    """The pictures of an answer in any form."""
    assert answer.status_code == 200, answer.text
    if accept.startswith("image/"):
        return [answer.content]
    if accept == "application/zip":
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            return [archive.read(name) for name in archive.namelist() if name != "manifest.json"]
    lines = [json.loads(line) for line in answer.text.splitlines()]
    variants = lines if accept == "application/x-ndjson" else lines[0]["variants"]
    return [base64.b64decode(variant["image"]) for variant in variants]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("accept", ["application/json", "application/zip", "application/x-ndjson", "image/*"])
@pytest.mark.parametrize("route", ["variants", "render", "sweep"])
def test_no_picture_leaves_unmarked(
    route: str, accept: str, form: str, client: TestClient, asked: dict[str, Callable[[str, str], Any]]
) -> None:
    accept = f"image/{form}" if accept == "image/*" else accept
    made = pictures(asked[route](form, accept), accept)
    count = 3 if route == "sweep" else 2
    assert len(made) == (1 if accept.startswith("image/") else count)
    told = detect(client, made[-1])
    layers = told["layers"]
    assert told["verdict"] == "drawn-by-this-model"
    assert layers["metadata"]["digital_source_type"] == SYNTHETIC
    assert [mark["ours"] for mark in layers["pixels"]["marks"]] == [True] * (
        count if accept.startswith("image/") else 1
    )


def test_every_route_with_pictures_is_walked(client: TestClient) -> None:
    """A new one belongs into the test above."""
    paths = client.get("/openapi.json").json()["paths"]
    found = {
        path
        for path, methods in paths.items()
        for method in methods.values()
        if "image/png" in method["responses"].get("200", {}).get("content", {})
    }
    assert found == {"/v1/variants", "/v1/render", "/v1/sweep"}


def test_the_mark_outlives_what_removes_the_metadata(client: TestClient, drawn: bytes) -> None:
    told = detect(client, plain(drawn, quality=75))
    layers, model = told["layers"], told["model"]
    assert (told["verdict"], layers["metadata"]["present"]) == ("drawn-by-this-model", False)
    (mark,) = layers["pixels"]["marks"]
    assert (mark["version"], mark["installation"], mark["mirrored"]) == (model["version"], 0, False)
    assert mark["score"] >= layers["pixels"]["threshold"]
    assert layers["pixels"]["false_alarm_rate"] <= 1e-6
    assert f"version {model['version']} of the model drew it here" in told["statement"]


def test_another_program_saves_it_anew(
    client: TestClient, drawn: bytes, tmp_path: Path, program: Callable[[str], str]
) -> None:
    convert = program("imagemagick")
    (tmp_path / "drawn.jpg").write_bytes(drawn)
    for index, options in enumerate((["-quality", "75"], ["-resize", "96x96"], ["-resize", "300x300", "-strip"])):
        saved = tmp_path / f"{index}.jpg"
        subprocess.run([convert, tmp_path / "drawn.jpg", *options, "-quality", "75", saved], check=True)
        told = detect(client, saved.read_bytes())
        assert told["layers"]["pixels"]["marks"], options


def test_a_photograph_has_none(client: TestClient, photo: bytes, landscape: bytes, group: bytes) -> None:
    for picture, faces in ((photo, 1), (landscape, 0), (group, 2)):
        told = detect(client, picture)
        assert (told["verdict"], told["faces"]) == ("no-mark-found", faces)
        assert "no proof of a photograph" in told["statement"]
        layers = told["layers"]
        assert not any(layer["present"] for layer in layers.values())
        assert layers["pixels"]["score"] < layers["pixels"]["threshold"]


def test_metadata_alone_are_told_apart(client: TestClient, drawn: bytes, photo: bytes) -> None:
    xmp = Image.open(io.BytesIO(drawn)).info["xmp"]

    def with_xmp(packet: bytes) -> bytes:
        file = io.BytesIO()
        Image.open(io.BytesIO(photo)).save(file, "JPEG", xmp=packet)
        return file.getvalue()

    told = detect(client, with_xmp(xmp))
    assert told["verdict"] == "drawn-by-this-model"
    assert "Only its metadata say so" in told["statement"]
    other = detect(client, with_xmp(xmp.replace(b"AISystemUsed>lookalike<", b"AISystemUsed>another<")))
    assert (other["verdict"], other["layers"]["metadata"]["system"]) == ("no-mark-found", "another")
    assert "another system drew it" in other["statement"]
    broken = detect(client, with_xmp(b"<x:xmpmeta \xff\xfe&&&" + xmp[:200]))
    assert broken["verdict"] == "no-mark-found"


def test_another_installation_is_told_apart(
    client: TestClient, new_client: Callable[..., TestClient], photo: bytes, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("correct horse battery staple\n")
    numbered = new_client(installation=4711)
    keyed = new_client(installation=12, watermark_key_file=secret)
    pictures = {}
    for name, service in (("open", client), ("numbered", numbered), ("keyed", keyed)):
        answer = service.post("/v1/variants?count=1&seed=5", files={"image": photo}, headers={"Accept": "image/png"})
        pictures[name] = plain(answer.content)
    assert detect(numbered, pictures["numbered"])["verdict"] == "drawn-by-this-model"
    told = detect(client, pictures["numbered"])
    assert told["verdict"] == "drawn-by-another-installation"
    assert "4711" in told["statement"]
    assert detect(client, pictures["keyed"])["verdict"] == "no-mark-found"
    assert detect(keyed, pictures["keyed"])["verdict"] == "drawn-by-this-model"
    assert detect(keyed, pictures["open"])["verdict"] == "drawn-by-another-installation"


def test_the_layers_can_be_switched_off(new_client: Callable[..., TestClient], photo: bytes) -> None:
    bare = new_client(metadata=False, watermark=False)
    answer = bare.post("/v1/variants?count=1&seed=5", files={"image": photo}, headers={"Accept": "image/png"})
    assert detect(bare, answer.content)["verdict"] == "no-mark-found"
    assert "xmp" not in Image.open(io.BytesIO(answer.content)).info


def test_the_same_seed_gives_the_same_bytes(client: TestClient, drawn: bytes, photo: bytes) -> None:
    again = client.post("/v1/variants?count=1&seed=5", files={"image": photo}, headers={"Accept": "image/jpeg"})
    assert again.content == drawn


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return make_chain(tmp_path_factory.mktemp("chain"))


def test_content_credentials(
    client: TestClient, new_client: Callable[..., TestClient], photo: bytes, chain: Chain
) -> None:
    signing = new_client(c2pa_certificates=chain.certificates, c2pa_key=chain.key)
    for form in FORMATS:
        answer = signing.post(
            f"/v1/variants?count=1&format={form}", files={"image": photo}, headers={"Accept": f"image/{form}"}
        )
        layers = detect(signing, answer.content)["layers"]
        credentials = layers["credentials"]
        assert (credentials["state"], credentials["valid"]) == ("trusted", True)
        assert (credentials["generator"], credentials["digital_source_type"]) == ("lookalike", SYNTHETIC)
        assert layers["pixels"]["marks"]
        assert layers["metadata"]["present"]
        assert detect(client, answer.content)["layers"]["credentials"]["state"] == "valid", "whom it does not know"


def test_forged_credentials_are_an_answer(new_client: Callable[..., TestClient], photo: bytes, chain: Chain) -> None:
    """The manifest of one picture, in another: nothing is wrong with the file, and nothing holds."""
    signing = new_client(c2pa_certificates=chain.certificates, c2pa_key=chain.key)
    answer = signing.post("/v1/variants?count=1", files={"image": photo}, headers={"Accept": "image/jpeg"})
    signed = answer.content
    manifest = b"".join(segment for segment in segments(signed) if segment[1] == 0xEB)
    assert manifest, "C2PA stands in APP11 of a JPEG"
    told = detect(signing, photo[:2] + manifest + photo[2:])
    credentials = told["layers"]["credentials"]
    assert (told["verdict"], credentials["state"], credentials["valid"]) == ("no-mark-found", "invalid", False)
    assert credentials["why"]
    broken = detect(signing, photo[:2] + manifest[:30] + bytes(len(manifest) - 30) + photo[2:])
    assert not broken["layers"]["credentials"]["valid"]


def test_credentials_that_the_disk_broke_are_an_answer(
    new_client: Callable[..., TestClient], photo: bytes, chain: Chain
) -> None:
    """Their part of a PNG then has a checksum that is wrong."""
    signing = new_client(c2pa_certificates=chain.certificates, c2pa_key=chain.key)
    answer = signing.post("/v1/variants?count=1", files={"image": photo}, headers={"Accept": "image/png"})
    broken = bytearray(answer.content)
    broken[broken.index(b"trainedAlgorithmicMedia")] ^= 1
    told = detect(signing, bytes(broken))
    assert told["verdict"] == "drawn-by-this-model", "the pixels say so"
    assert told["layers"]["credentials"]["state"] == "invalid"


def segments(jpeg: bytes) -> list[bytes]:
    """The segments of a JPEG up to its pixels."""
    found, place = [], 2
    while jpeg[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4])
        found.append(jpeg[place:end])
        place = end
    return found


@pytest.mark.parametrize(
    ("picture", "status", "problem"),
    [(b"no picture", 400, "not-an-image"), (b"", 400, "bad-request"), (b"\xff\xd8\xff\xe0broken", 400, "not-an-image")],
)
def test_what_is_no_picture_is_refused(client: TestClient, picture: bytes, status: int, problem: str) -> None:
    answer = client.post("/v1/detect", files={"image": picture})
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (status, problem)


def test_there_are_no_parameters(client: TestClient, photo: bytes) -> None:
    answer = client.post("/v1/detect?face=0", files={"image": photo})
    assert (answer.status_code, "face" in answer.json()["detail"]) == (422, True)
