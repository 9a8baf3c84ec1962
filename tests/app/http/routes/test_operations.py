"""Health, metrics, request ids, HEAD, CORS, load: what those who run the service rely on."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.core import subjects
from app.core.service import Service
from app.main import create_app
from app.settings import Settings


def service_of(client: TestClient) -> Service:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    return service


def test_health(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}


def test_until_the_models_are_loaded_it_is_alive_but_not_ready(photo: bytes) -> None:
    client = TestClient(create_app(Settings(device="cpu")))  # as long as it is not entered, nothing is loaded
    assert client.get("/health/live").status_code == 200
    for answer in (
        client.get("/health/ready"),
        client.get("/v1/model"),
        client.post("/v1/variants", files={"image": photo}),
    ):
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:lookalike:problem:not-ready")
        assert answer.headers["Retry-After"] == "1"


def test_readiness_turns_false_when_draining_and_liveness_does_not(new_client: Callable[..., TestClient]) -> None:
    client = new_client()
    client.app.state.readiness.draining = True  # type: ignore[attr-defined]
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:lookalike:problem:not-ready")
    assert answer.headers["Retry-After"] == "1"
    assert client.get("/health/live").status_code == 200


def test_metrics_say_whether_it_is_ready(new_client: Callable[..., TestClient]) -> None:
    client = new_client()
    assert "lookalike_ready 1.0" in client.get("/metrics").text.splitlines()
    client.app.state.readiness.draining = True  # type: ignore[attr-defined]
    assert "lookalike_ready 0.0" in client.get("/metrics").text.splitlines()


def test_a_full_queue_is_503_and_not_ready(new_client: Callable[..., TestClient], photo: bytes) -> None:
    client = new_client(queue_images=64)
    with service_of(client).gate.hold(64):
        assert client.get("/health/ready").status_code == 503
        answer = client.post("/v1/variants", files={"image": photo})
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:lookalike:problem:overloaded")
        assert int(answer.headers["Retry-After"]) >= 1
    assert client.get("/health/ready").status_code == 200
    assert client.post("/v1/variants?count=64", files={"image": photo}).status_code == 200


def test_past_the_deadline_is_504(new_client: Callable[..., TestClient], photo: bytes) -> None:
    client = new_client(deadline=0.05)
    answer = client.post("/v1/variants?count=64", files={"image": photo})
    assert (answer.status_code, answer.json()["type"]) == (504, "urn:lookalike:problem:deadline-exceeded")
    assert service_of(client).gate.held == 0


@pytest.mark.parametrize("network", ["encoder", "decoder"])
def test_a_network_that_fails_is_a_500_without_its_words(
    new_client: Callable[..., TestClient], photo: bytes, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    client = new_client()
    batcher = getattr(service_of(client).engine, network)

    def fail(*rows: object) -> None:
        raise RuntimeError("SECRET")

    with monkeypatch.context() as patch:
        patch.setattr(batcher, "_compute", fail)
        answer = client.post("/v1/variants", files={"image": photo})
        assert (answer.status_code, answer.json()["type"]) == (500, "urn:lookalike:problem:internal")
        assert "SECRET" not in answer.text
    assert client.post("/v1/variants", files={"image": photo}).status_code == 200, "the service lives on"


def test_a_failure_in_the_middle_of_a_stream_is_its_last_line(
    new_client: Callable[..., TestClient], photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = new_client(threads=1)  # one batch at a time, so that they are counted in their order
    batcher = service_of(client).engine.decoder
    compute, calls = batcher._compute, []

    def fail_later(*rows: np.ndarray) -> tuple[np.ndarray, ...]:
        calls.append(len(rows[0]))
        if len(calls) > 2:
            raise RuntimeError("broken")
        return compute(*rows)

    monkeypatch.setattr(batcher, "_compute", fail_later)
    answer = client.post("/v1/variants?count=20", files={"image": photo}, headers={"Accept": "application/x-ndjson"})
    *good, last = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["index"] for line in good] == list(range(sum(calls[:2]) - 1)), "the first row is the redrawing"
    assert 1 < len(good) < 20
    assert last["problem"]["type"] == "urn:lookalike:problem:internal"
    assert service_of(client).gate.held == 0


def test_an_unexpected_error_is_a_problem(
    new_client: Callable[..., TestClient], photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = new_client()

    def fail(*arguments: object) -> None:
        raise KeyError("SECRET")

    monkeypatch.setattr(subjects, "locate", fail)
    answer = client.post("/v1/variants", files={"image": photo})
    assert (answer.status_code, answer.headers["Content-Type"]) == (500, "application/problem+json")
    assert "SECRET" not in answer.text
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    "address", ["/health/live", "/health/ready", "/v1/model", "/metrics", "/openapi.json", "/docs"]
)
def test_head_is_get_without_the_body(client: TestClient, address: str) -> None:
    head, get = client.head(address), client.get(address)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    if address != "/metrics":
        assert head.headers["Content-Length"] == str(len(get.content))


def test_cors_is_off_unless_set(client: TestClient, new_client: Callable[..., TestClient]) -> None:
    headers = {"Origin": "https://a.example"}
    assert "Access-Control-Allow-Origin" not in client.get("/v1/model", headers=headers).headers
    open_client = new_client(cors_origins=("https://a.example",))
    allowed = open_client.get("/v1/model", headers=headers).headers
    assert allowed["Access-Control-Allow-Origin"] == "https://a.example"
    other = open_client.get("/v1/model", headers={"Origin": "https://b.example"}).headers
    assert "Access-Control-Allow-Origin" not in other


def test_a_set_origin_can_read_what_is_answered_in_place_of_the_application(
    new_client: Callable[..., TestClient], photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = new_client(cors_origins=("https://a.example",), max_requests=1)
    headers = {"Origin": "https://a.example"}
    with client.app.state.readiness.request():  # type: ignore[attr-defined]
        full = client.post("/v1/variants", files={"image": photo}, headers=headers)
    monkeypatch.setattr(service_of(client), "variants", None)
    failed = client.post("/v1/variants", files={"image": photo}, headers=headers)
    assert [answer.status_code for answer in (full, failed)] == [503, 500]
    assert full.headers["Retry-After"] == "1"
    for answer in (full, failed):
        assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
        assert answer.headers["X-Request-ID"] == answer.json()["request_id"]


def test_metrics_count_by_route_template(new_client: Callable[..., TestClient], photo: bytes, landscape: bytes) -> None:
    client = new_client()
    client.post("/v1/variants?count=3", files={"image": photo})
    client.post("/v1/variants", files={"image": landscape})
    client.get("/v1/SECRET")
    client.request("BREW", "/v1/model")
    text = client.get("/metrics").text
    for line in (
        'lookalike_http_requests_total{method="POST",route="/v1/variants",status="200"} 1.0',
        'lookalike_http_requests_total{method="POST",route="/v1/variants",status="422"} 1.0',
        'lookalike_rejected_total{reason="no-face"} 1.0',
        "lookalike_variants_total 3.0",
        "lookalike_similarity_count 3.0",
        'lookalike_queue_images{model="decoder"} 0.0',
    ):
        assert line in text.splitlines()
    for name in (
        "lookalike_http_request_seconds_bucket",
        "lookalike_stage_seconds_bucket",
        "lookalike_batch_images_sum",
    ):
        assert name in text
    model = client.get("/v1/model").json()
    assert f'lookalike_model_info{{device="cpu",name="lookalike",version="{model["version"]}"}} 1.0' in text
    assert "SECRET" not in text
    assert "BREW" not in text


def test_openapi_documents_every_address_and_its_errors(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for address in ("/v1/variants", "/v1/render", "/v1/sweep", "/v1/identities", "/v1/compare"):
        operation = document["paths"][address]["post"]
        assert operation["summary"]
        for status in ("200", "400", "406", "413", "422", "503", "504"):
            assert status in operation["responses"], (address, status)
        assert "application/problem+json" in operation["responses"]["422"]["content"]
    operation = document["paths"]["/v1/variants"]["post"]
    assert "image" in operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    names = {parameter["name"] for parameter in operation["parameters"]}
    assert names >= {"count", "controls", "seed", "strength", "format", "quality", "face", "rotate", "unlike"}
