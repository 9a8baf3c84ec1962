"""Servers of recognisers, as far as they are spoken to: stand-ins with the documented addresses, fields and answers.

CompreFace: docs/Rest-API-description.md of its repository, "Face Verification Service". InsightFace-REST: its
if_rest/schemas.py, `POST /extract`. deepface: its deepface/api/src/modules/core/routes.py, `POST /represent`.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from fastapi import FastAPI, File, Header, Request, Response, UploadFile
from fastapi.responses import JSONResponse, RedirectResponse
from PIL import Image
from pydantic import BaseModel, ConfigDict

from app.audit.remote import Server, from_address, key_from
from app.errors import RecogniserFailed

Report = Callable[..., int]
KEY = "00000000-0000-0000-0000-000000000003"


def vector(data: bytes) -> list[float]:
    """What all of them see in a picture."""
    small = np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((4, 4)), float)
    return (small.ravel() - 128).tolist()


class Images(BaseModel):
    model_config = ConfigDict(extra="forbid")
    data: list[str] | None = None
    urls: list[str] | None = None


class Extract(BaseModel):
    model_config = ConfigDict(extra="forbid")
    images: Images
    extract_embedding: bool = True
    extract_ga: bool = False
    return_face_data: bool = False


def application() -> FastAPI:
    app = FastAPI()

    @app.post("/embed")
    async def embed(request: Request) -> dict[str, Any]:
        images = (await request.json())["images"]
        return {"embeddings": [vector(base64.b64decode(image)) for image in images]}

    @app.post("/extract")
    def extract(body: Extract) -> dict[str, Any]:
        data = []
        for image in body.images.data or []:
            seen = vector(base64.b64decode(image, validate=True))
            small = {"prob": 0.7, "bbox": [0, 0, 9, 9], "vec": [1.0] * 48}
            data.append({"status": "ok", "faces": [small, {"prob": 0.9, "bbox": [0, 0, 99, 99], "vec": seen}]})
        return {"data": data, "took_ms": 1.0}

    @app.post("/represent")
    async def represent(request: Request) -> Response:
        asked = await request.json()
        head, _, image = asked["img"].partition(",")
        assert head == "data:image/png;base64"
        if asked.get("model_name") != "ArcFace":
            return JSONResponse(
                {"error": "Exception while representing: Face could not be detected in numpy array."}, 400
            )
        area = {"x": 0, "y": 0, "w": 9, "h": 9}
        found = {"embedding": vector(base64.b64decode(image)), "facial_area": area, "face_confidence": 0.9}
        return JSONResponse({"results": [found]})

    @app.post("/api/v1/verification/verify")
    def verify(
        source_image: UploadFile = File(),  # noqa: B008
        target_image: UploadFile = File(),  # noqa: B008
        x_api_key: str = Header(),
    ) -> Response:
        if x_api_key != KEY:
            return JSONResponse({"message": "Unauthorized", "code": 3}, 401)
        first, second = (np.array(vector(file.file.read())) for file in (source_image, target_image))
        if np.allclose(first, 127):
            return JSONResponse({"message": "No face is found in the given image", "code": 28}, 400)
        alike = float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))
        box = {"probability": 0.99, "x_min": 0, "y_min": 0, "x_max": 9, "y_max": 9}
        face = {"box": box, "similarity": (alike + 1) / 2}
        return JSONResponse({"result": [{"source_image_face": {"box": box}, "face_matches": [face]}]})

    @app.post("/moved")
    def moved() -> Response:
        return RedirectResponse("/embed", 307)

    return app


@pytest.fixture(scope="module")
def address(running: Callable[[FastAPI], AbstractContextManager[str]]) -> Iterator[str]:
    with running(application()) as where:
        yield where


@pytest.fixture
def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [np.repeat(np.repeat(random.integers(0, 255, (4, 4, 3), np.uint8), 16, 0), 16, 1) for _ in range(3)]


@pytest.mark.parametrize("kind", ["{}/embed", "insightface-rest:{}", "deepface:{}?model_name=ArcFace"])
def test_embeddings_come_as_each_server_gives_them(address: str, pictures: list[np.ndarray], kind: str) -> None:
    recogniser = from_address(kind.format(f"http://{address}"), None, [], "")
    assert recogniser.embed
    found = recogniser.embed(pictures)
    small = [np.asarray(Image.fromarray(one).resize((4, 4)), float).ravel() - 128 for one in pictures]
    assert np.array(found) == pytest.approx(np.array(small))
    assert recogniser.crop == "portrait"


def test_compreface_scores_pairs(address: str, pictures: list[np.ndarray]) -> None:
    recogniser = from_address(f"compreface:http://{address}", None, [], KEY)
    assert recogniser.score
    same, other = recogniser.score([pictures[0], pictures[0]], [pictures[0], pictures[1]])
    assert same == pytest.approx(1)
    assert other < 0.9
    assert recogniser.score([np.full((8, 8, 3), 255, np.uint8)], [pictures[0]]) == [None]


def test_deepface_that_sees_no_face_says_so(address: str, pictures: list[np.ndarray]) -> None:
    recogniser = from_address(f"deepface:http://{address}?model_name=VGG-Face", None, [], "")
    assert recogniser.embed
    assert recogniser.embed(pictures) == [None] * 3


@pytest.mark.parametrize("path", ["embed", ""])
def test_a_server_is_audited(address: str, report: Report, tmp_path: Path, path: str) -> None:
    kind = f"http://{address}/embed" if path else f"insightface-rest:http://{address}"
    assert report("--recogniser", kind) == 0
    assert json.loads((tmp_path / "OUT" / "report.json").read_text())["recogniser"] == kind


def test_compreface_is_audited(
    address: str, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("VERIFICATION_KEY", KEY)
    asked = ["--recogniser", f"compreface:http://{address}", "--pairs", "30", "--look-alikes", "1"]
    assert report(*asked, "--key-from", "VERIFICATION_KEY") == 0
    assert json.loads((tmp_path / "OUT" / "report.json").read_text())["pairs"]["impostor"] == 30
    for file in (tmp_path / "OUT").iterdir():
        assert KEY.encode() not in file.read_bytes()
    monkeypatch.setenv("VERIFICATION_KEY", "another")
    assert report(*asked, "--key-from", "VERIFICATION_KEY", "--seed", "1") == 2
    error = capsys.readouterr().err
    assert "answered 401: Unauthorized" in error
    assert "p0" in error  # and of which pair


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("http://example.org/embed", "allow that with --allow example.org"),
        ("insightface-rest:http://10.0.0.7:18080", "allow that with --allow 10.0.0.7"),
        ("magic:http://127.0.0.1", "is no address"),
        ("ftp://127.0.0.1", "is no address"),
        ("http://[::1", "is no address"),
        ("deepface:http://127.0.0.1:port", "is no address"),
        ("http://me:secret@127.0.0.1/", "an address holds no password"),
    ],
)
def test_faces_go_nowhere_that_was_not_allowed(which: str, says: str) -> None:
    with pytest.raises(RecogniserFailed, match=says):
        from_address(which, None, [], "")


@pytest.mark.parametrize("held", ["", " \n", "sec\nret", "secr\u00e9t", "sec\x7fret"])
def test_a_key_that_no_header_can_hold_is_told_and_not_shown(
    report: Report, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    monkeypatch.setenv("MY_KEY", held)
    assert report("--recogniser", "http://127.0.0.1:9/embed", "--key-from", "MY_KEY") == 2
    error = capsys.readouterr().err
    assert "--key-from: MY_KEY holds no key" in error
    assert "sec" not in error
    assert report("--recogniser", "http://127.0.0.1:9/embed", "--key-from", "NO_KEY") == 2
    assert "there is no variable NO_KEY" in capsys.readouterr().err


def test_the_end_of_a_line_is_no_part_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f"{KEY}\n")
    assert key_from("MY_KEY") == KEY
    assert KEY not in repr(Server(urlsplit("http://127.0.0.1"), KEY))


def test_a_host_that_was_allowed_may_be_asked() -> None:
    assert from_address("deepface:https://faces.lan:5005", None, ["faces.lan:5005"], "").embed


def test_a_redirect_is_not_followed(address: str, report: Report, capsys: pytest.CaptureFixture) -> None:
    assert report("--recogniser", f"http://{address}/moved") == 2
    assert "answered 307" in capsys.readouterr().err


def test_nobody_answering_is_told(report: Report, capsys: pytest.CaptureFixture) -> None:
    assert report("--recogniser", "http://127.0.0.1:9/embed") == 2
    assert "does not answer" in capsys.readouterr().err
