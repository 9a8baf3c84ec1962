"""Open Inference Protocol v2, by the client that Triton ships, against a running server."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from fastapi import FastAPI
from PIL import Image
from tritonclient.utils import InferenceServerException

from app.core.faces import Detector, align, similarity
from app.keys import make_key
from app.main import create_app
from app.settings import Settings
from tests.patience import PATIENCE

FACE = (128, 128, 3)
DATATYPES = {np.dtype("u1"): "UINT8", np.dtype("f4"): "FP32"}


@pytest.fixture(scope="module")
def address(running: Callable[[FastAPI], AbstractContextManager[str]]) -> Iterator[str]:
    app = create_app(Settings(device="cpu", threads=1, batch_sizes=(1, 2, 4), max_bytes=2**21, deadline=PATIENCE))
    with running(app) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(address, connection_timeout=PATIENCE, network_timeout=PATIENCE)
    yield client
    client.close()


@pytest.fixture(scope="module")
def face(portrait: Image.Image) -> np.ndarray:
    """The portrait's face in the face frame, [1, 128, 128, 3]."""
    return align(portrait, Detector(Settings().models, "cpu")(portrait)[0])[None]


def call(client: triton.InferenceServerClient, model: str, binary: bool, **tensors: np.ndarray) -> triton.InferResult:
    inputs = []
    for name, values in tensors.items():
        tensor = triton.InferInput(name, list(values.shape), DATATYPES[values.dtype])
        tensor.set_data_from_numpy(values, binary_data=binary)
        inputs.append(tensor)
    output = {"encoder": "identity", "decoder": "image", "recognizer": "embedding"}[model]
    return client.infer(
        model, inputs, outputs=[triton.InferRequestedOutput(output, binary_data=binary)], request_id="mine"
    )


def post(address: str, model: str, request: object, **headers: str) -> httpx.Response:
    content = request if isinstance(request, bytes) else json.dumps(request).encode()
    return httpx.post(f"http://{address}/v2/models/{model}/infer", content=content, headers=headers, timeout=PATIENCE)


def decoder_request(**changes: object) -> dict:
    control = {"name": "control", "datatype": "FP32", "shape": [1, 10], "data": [0.0] * 10} | changes
    return {"inputs": [{"name": "identity", "datatype": "FP32", "shape": [1, 70], "data": [0.5] * 70}, control]}


def test_server_and_models_describe_themselves(client: triton.InferenceServerClient):
    assert client.is_server_live()
    assert client.is_server_ready()
    server = client.get_server_metadata()
    assert server["name"] == "lookalike"
    assert server["extensions"] == ["binary_tensor_data"]
    for name in ("encoder", "decoder", "recognizer"):
        metadata = client.get_model_metadata(name)
        (version,) = metadata["versions"]
        assert client.get_model_metadata(name, version) == metadata
        assert client.is_model_ready(name)
        assert client.is_model_ready(name, version)
        assert not client.is_model_ready(name, "none")
    assert not client.is_model_ready("another")
    recognizer = client.get_model_metadata("recognizer")
    tensors = [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in recognizer["inputs"]]
    assert tensors == [("image", "UINT8", [-1, *FACE])]
    assert "face frame" in recognizer["inputs"][0]["parameters"]["description"]
    assert recognizer["outputs"][0]["shape"] == [-1, 192]


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_encode_decode_recognise(client: triton.InferenceServerClient, face: np.ndarray, binary: bool):
    identity = call(client, "encoder", binary, image=face).as_numpy("identity")
    assert identity.shape == (1, 70)
    controls = np.zeros((3, 10), np.float32)
    controls[1:] = np.random.default_rng(1).uniform(-1, 1, (2, 10))
    answer = call(client, "decoder", binary, identity=identity.repeat(3, 0), control=controls)
    images = answer.as_numpy("image")
    assert images.shape == (3, *FACE)
    assert images.dtype == np.uint8
    assert answer.get_response()["id"] == "mine"
    assert images[0].std() > 10
    assert not np.array_equal(images[1], images[2])
    embeddings = call(client, "recognizer", binary, image=np.concatenate([face, images])).as_numpy("embedding")
    assert embeddings.shape == (4, 192)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    scores = similarity(embeddings[1:], embeddings[0])
    assert scores[0] > max(scores[1:])


def test_json_and_binary_agree(client: triton.InferenceServerClient, face: np.ndarray):
    first, second = (call(client, "encoder", binary, image=face).as_numpy("identity") for binary in (True, False))
    np.testing.assert_array_equal(first, second)


def test_the_same_as_the_service_itself(
    client: triton.InferenceServerClient, address: str, photo: bytes, portrait: Image.Image
):
    answer = httpx.post(
        f"http://{address}/v1/variants",
        content=photo,
        headers={"Content-Type": "image/jpeg"},
        params={"controls": json.dumps([[0.5] * 10]), "format": "png"},
        timeout=PATIENCE,
    ).json()
    own = align(Image.open(io.BytesIO(photo)), Detector(Settings().models, "cpu")(portrait)[0])[None]
    identity = call(client, "encoder", True, image=own).as_numpy("identity")
    # The service finds the face in the JPEG, this test in the original: nearly the same place.
    np.testing.assert_allclose(answer["source"]["identity"], identity[0], atol=0.35)
    given = np.array([answer["source"]["identity"]], np.float32)
    image = call(client, "decoder", True, identity=given, control=np.full((1, 10), 0.5, np.float32)).as_numpy("image")
    embeddings = call(client, "recognizer", True, image=np.concatenate([own, image])).as_numpy("embedding")
    assert similarity(embeddings[1:], embeddings[0])[0] == pytest.approx(answer["variants"][0]["similarity"], abs=0.02)


def test_all_outputs_come_in_binary_when_none_is_named(client: triton.InferenceServerClient, face: np.ndarray):
    tensor = triton.InferInput("image", [1, *FACE], "UINT8")
    tensor.set_data_from_numpy(face)
    answer = client.infer("recognizer", [tensor])
    assert answer.as_numpy("embedding").shape == (1, 192)
    assert "binary_data_size" in answer.get_output("embedding")["parameters"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_requests(client: triton.InferenceServerClient, face: np.ndarray, encoding: str):
    tensor = triton.InferInput("image", [1, *FACE], "UINT8")
    tensor.set_data_from_numpy(face)
    plain = client.infer("encoder", [tensor]).as_numpy("identity")
    packed = client.infer("encoder", [tensor], request_compression_algorithm=encoding).as_numpy("identity")
    np.testing.assert_array_equal(plain, packed)


def test_nested_data(address: str):
    flat = post(address, "decoder", decoder_request())
    nested = post(address, "decoder", decoder_request(data=[[0] * 10]))
    assert flat.status_code == 200
    assert flat.headers["content-type"] == "application/json"
    assert flat.json()["outputs"] == nested.json()["outputs"]


@pytest.mark.parametrize(
    ("model", "tensors", "message"),
    [
        ("another", {"image": np.zeros((1, *FACE), np.uint8)}, "no model of this name"),
        ("encoder", {"image": np.zeros((1, *FACE), np.float32)}, "UINT8, not FP32"),
        ("encoder", {"image": np.zeros((1, 64, 64, 3), np.uint8)}, "has shape"),
        ("encoder", {"image": np.zeros((0, *FACE), np.uint8)}, "1 to 64 rows"),
        ("encoder", {"picture": np.zeros((1, *FACE), np.uint8)}, "no input 'picture'"),
        ("decoder", {"identity": np.zeros((1, 70), np.float32)}, "'control' is missing"),
        (
            "decoder",
            {"identity": np.zeros((2, 70), np.float32), "control": np.zeros((1, 10), np.float32)},
            "same number of rows",
        ),
        (
            "decoder",
            {"identity": np.full((1, 70), np.nan, np.float32), "control": np.zeros((1, 10), np.float32)},
            "finite",
        ),
        (
            "decoder",
            {"identity": np.zeros((1, 70), np.float32), "control": np.full((1, 10), 2, np.float32)},
            r"\[-1, 1\]",
        ),
    ],
)
def test_triton_reads_the_errors(
    client: triton.InferenceServerClient, model: str, tensors: dict[str, np.ndarray], message: str
):
    inputs = []
    for name, values in tensors.items():
        tensor = triton.InferInput(name, list(values.shape), DATATYPES[values.dtype])
        tensor.set_data_from_numpy(values)
        inputs.append(tensor)
    with pytest.raises(InferenceServerException, match=message) as caught:
        client.infer(model, inputs)
    assert caught.value.status() == ("404" if model == "another" else "400")


def test_an_unknown_version_and_output(client: triton.InferenceServerClient, face: np.ndarray):
    tensor = triton.InferInput("image", [1, *FACE], "UINT8")
    tensor.set_data_from_numpy(face)
    with pytest.raises(InferenceServerException, match="no such version"):
        client.infer("encoder", [tensor], model_version="99")
    with pytest.raises(InferenceServerException, match="no output 'mood'"):
        client.infer("encoder", [tensor], outputs=[triton.InferRequestedOutput("mood")])


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"not JSON",
        b"[" * 100_000,
        b'{"inputs": [NaN]}',
        {"inputs": []},
        {},
        [],
        decoder_request(data=None),
        decoder_request(data=[0.0] * 9),
        decoder_request(data=[[0.0] * 5, [0.0] * 5]),
        decoder_request(data=[[0.0] * 9 + [[0.0]]]),
        decoder_request(data=["0"] * 10),
        decoder_request(data=[True] * 10),
        decoder_request(data=[None] * 10),
        decoder_request(data=[1e300] * 10),
        decoder_request(data=[10**30] * 10),
        decoder_request(data=[1.5] * 10),
        decoder_request(shape=[1, -10]),
        decoder_request(shape=[10]),
        decoder_request(shape=[2**31, 10]),
        decoder_request(shape=[65, 10], data=[0.0] * 650),
        decoder_request(name="identity"),
        decoder_request(datatype="FP64"),
        decoder_request(parameters={"binary_data_size": 40}),
        decoder_request(data=None, parameters={"binary_data_size": 40}),
        decoder_request(data=None, parameters={"binary_data_size": -1}),
        decoder_request(data=None, parameters={"shared_memory_region": "mine"}),
        decoder_request() | {"outputs": [{"name": "image", "parameters": {"classification": 3}}]},
        decoder_request() | {"outputs": [{"name": "image"}, {"name": "image"}]},
    ],
)
def test_what_is_malformed_is_refused(address: str, request_: object):
    answer = post(address, "decoder", request_)
    assert answer.status_code == 400, answer.text[:300]
    assert list(answer.json()) == ["error"]
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("value", [-1, 256, 0.5])
def test_pixels_that_are_none(address: str, value: float):
    data = [value] + [0] * (128 * 128 * 3 - 1)
    request = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, *FACE], "data": data}]}
    assert post(address, "encoder", request).status_code == 400


@pytest.mark.parametrize("length", ["0", "-1", "many", "99999999", "1e3", "²"])
def test_a_header_length_that_lies(address: str, length: str):
    answer = httpx.post(
        f"http://{address}/v2/models/decoder/infer",
        content=json.dumps(decoder_request()),
        headers=[(b"Inference-Header-Content-Length", length.encode())],
        timeout=PATIENCE,
    )
    assert answer.status_code == 400
    assert "Inference-Header-Content-Length" in answer.json()["error"]


@pytest.mark.parametrize("number", [2, 300_000])
def test_outputs_that_nobody_has_are_refused_however_many(address: str, number: int):
    """Counting each name among all others would take an hour."""
    outputs = [{"name": str(one % 200_000)} for one in range(number)]
    answer = post(address, "decoder", json.dumps(decoder_request() | {"outputs": outputs}).encode())
    assert answer.status_code in (400, 413)


def test_bytes_after_the_last_tensor(address: str):
    text = json.dumps(decoder_request()).encode()
    answer = post(address, "decoder", text + b"more", **{"Inference-Header-Content-Length": str(len(text))})
    assert answer.status_code == 400
    assert "4 bytes follow" in answer.json()["error"]


def test_bodies_that_are_too_large_or_badly_packed(address: str):
    assert post(address, "decoder", b" " * (2**21 + 1)).status_code == 413
    bomb = gzip.compress(b" " * 2**24)
    answer = post(address, "decoder", bomb, **{"Content-Encoding": "gzip"})
    assert answer.status_code == 413
    assert list(answer.json()) == ["error"]
    assert post(address, "decoder", bomb[:-9], **{"Content-Encoding": "gzip"}).status_code in (400, 413)
    half = gzip.compress(json.dumps(decoder_request()).encode())[:-9]
    assert post(address, "decoder", half, **{"Content-Encoding": "gzip"}).status_code == 400
    assert post(address, "decoder", b"plain", **{"Content-Encoding": "gzip"}).status_code == 400
    assert post(address, "decoder", b"plain", **{"Content-Encoding": "br"}).status_code == 415


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/another", 404),
        ("GET", "/v2/models/encoder/versions/99", 404),
        ("GET", "/v2/models/encoder/infer", 405),
        ("POST", "/v2/models/encoder", 405),
    ],
)
def test_errors_have_the_protocols_form(address: str, method: str, path: str, status: int):
    answer = httpx.request(method, f"http://{address}{path}", timeout=PATIENCE)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert answer.headers["x-request-id"]
    head = httpx.head(f"http://{address}/v2/nothing", timeout=PATIENCE)
    assert head.status_code == 404
    assert head.content == b""


def test_other_addresses_keep_their_problems(address: str):
    assert httpx.get(f"http://{address}/v2x", timeout=PATIENCE).json()["type"].endswith("not-found")


def test_a_full_queue_is_a_503_in_the_protocols_form(new_client):
    client = new_client(batch_sizes=(1,))
    service = client.app.state.service
    with service.gate.hold(service.gate.limit):
        answer = client.post("/v2/models/decoder/infer", json=decoder_request())
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert list(answer.json()) == ["error"]
        ready = client.get("/v2/health/ready")
        assert (ready.status_code, list(ready.json())) == (503, ["error"])
    assert client.get("/v2/health/ready").status_code == 200


def test_keys_and_limits_speak_the_protocol_too(new_client):
    key, entry = make_key("triton")
    client = new_client(batch_sizes=(1,), keys=(entry,), rate_limit="64/day")
    assert client.get("/v2/health/ready").status_code == 200
    for headers, status in (({}, 401), ({"X-API-Key": "wrong"}, 401), ({"X-API-Key": key}, 200)):
        answer = client.post("/v2/models/decoder/infer", json=decoder_request(), headers=headers)
        assert answer.status_code == status
        assert (list(answer.json()) == ["error"]) == (status != 200)
    assert answer.headers["ratelimit-remaining"] == "63"
    many = {
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [64, *FACE], "data": [0] * (64 * 128 * 128 * 3)}]
    }
    answer = client.post("/v2/models/encoder/infer", json=many, headers={"X-API-Key": key})
    assert answer.status_code == 429
    assert list(answer.json()) == ["error"]
    assert int(answer.headers["retry-after"]) > 0


def test_it_is_documented(address: str):
    paths = httpx.get(f"http://{address}/openapi.json", timeout=PATIENCE).json()["paths"]
    assert {path for path in paths if path.startswith("/v2")} == {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        *(
            f"/v2/models/{{model_name}}{version}{what}"
            for version in ("", "/versions/{model_version}")
            for what in ("", "/ready", "/infer")
        ),
    }
    for path, operations in paths.items():
        for operation in operations.values():
            answers = operation["responses"] if path.startswith("/v2") else {}
            assert "422" not in answers
            assert "Problem" not in json.dumps([answer.get("content") for answer in answers.values()])
    body = paths["/v2/models/{model_name}/infer"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "$ref" not in json.dumps(body)
