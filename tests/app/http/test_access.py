"""Who is let in, what each key may do, which pages of other origins may, and what OpenAPI says of it."""

from __future__ import annotations

import asyncio

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.app.keyed import DOOR, DOOR_LINE, GATE, GATE_LINE, WITHOUT_MODELS, unstarted


@pytest.fixture
def keyed() -> TestClient:
    return unstarted(keys=(DOOR_LINE, GATE_LINE))


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {DOOR}"},
        {"Authorization": f"bearer  {DOOR} "},
        {"X-API-Key": DOOR},
        {"X-API-Key": GATE},
        {"X-API-Key": DOOR, "Authorization": "Bearer of-a-gateway"},
    ],
)
def test_a_key_is_let_in(keyed: TestClient, headers: dict[str, str]) -> None:
    assert keyed.get("/v1/model", headers=headers).status_code == WITHOUT_MODELS


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, 'Bearer realm="lookalike"'),
        ({"Authorization": DOOR}, 'Bearer realm="lookalike"'),
        ({"Authorization": f"Basic {DOOR}"}, 'Bearer realm="lookalike"'),
        ({"X-API-Key": " "}, 'Bearer realm="lookalike"'),
        ({"Authorization": "Bearer wrong"}, 'Bearer realm="lookalike", error="invalid_token"'),
        ({"X-API-Key": DOOR[:-1]}, 'Bearer realm="lookalike", error="invalid_token"'),
        ({"X-API-Key": DOOR_LINE.partition(":")[2]}, 'Bearer realm="lookalike", error="invalid_token"'),
        ({"X-API-Key": b"\xff\xfe"}, 'Bearer realm="lookalike", error="invalid_token"'),
    ],
)
def test_without_a_known_key_the_answer_is_401(
    keyed: TestClient, headers: dict[str, str | bytes], challenge: str
) -> None:
    answer = keyed.get("/v1/model", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == challenge
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:lookalike:problem:unauthorized"
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


def test_a_key_in_the_query_is_not_taken(keyed: TestClient) -> None:
    assert keyed.get("/v1/model", params={"api_key": DOOR, "X-API-Key": DOOR}).status_code == 401


@pytest.mark.parametrize("path", ["/v1/variants", "/v1/anything", "/v2", "/v2/models/decoder", "/metrics/", "/pages"])
def test_whatever_is_not_open_needs_a_key(keyed: TestClient, path: str) -> None:
    assert keyed.get(path).status_code == 401


def test_every_operation_of_the_api_needs_a_key(keyed: TestClient) -> None:
    for path, operations in keyed.get("/openapi.json").json()["paths"].items():
        for method in operations:
            expected = path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics")
            assert (keyed.request(method, path).status_code != 401) is expected, f"{method} {path}"


def test_the_inference_protocol_says_so_in_its_own_form(keyed: TestClient) -> None:
    answer = keyed.get("/v2/models/decoder")
    assert answer.status_code == 401
    assert answer.json() == {"error": "Send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`."}
    assert "WWW-Authenticate" in answer.headers


def test_a_stranger_is_refused_before_its_body_is_read() -> None:
    app = create_app(Settings(keys=(DOOR_LINE,)))
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/render",
        "raw_path": b"/v1/render",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": ("192.0.2.1", 1),
    }
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        raise AssertionError("the body was read")

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 401


OPEN = {
    "health": ("/health/live", "/health/ready", "/v2/health/live"),
    "metrics": ("/metrics",),
    "docs": ("/docs", "/openapi.json"),
}


@pytest.mark.parametrize("area", OPEN)
def test_an_area_needs_a_key_only_where_it_is_protected(keyed: TestClient, area: str) -> None:
    protected = unstarted(keys=(DOOR_LINE,), protect=(area,))
    for other, paths in OPEN.items():
        for path in paths:
            assert keyed.get(path).status_code != 401
            assert (protected.get(path).status_code == 401) is (other == area), path
            assert protected.get(path, headers={"X-API-Key": DOOR}).status_code != 401


def test_the_page_is_open_so_that_a_key_can_be_typed_into_it() -> None:
    client = unstarted(keys=(DOOR_LINE,), protect="health,metrics,docs")
    assert client.get("/").status_code == 200
    assert client.get("/page/style.css").status_code == 200


def test_without_keys_everybody_is_let_in() -> None:
    assert unstarted().get("/v1/model").status_code == WITHOUT_MODELS


@pytest.mark.parametrize(
    ("settings", "key", "status"),
    [
        ({}, DOOR, 403),
        ({"keys": (DOOR_LINE, GATE_LINE)}, "", 401),
        ({"keys": (DOOR_LINE, GATE_LINE), "admin_keys": "gate"}, DOOR, 403),
    ],
)
def test_administration_is_for_keys_that_may(settings: dict[str, object], key: str, status: int) -> None:
    answer = unstarted(**settings).post("/v1/model:reload", headers={"X-API-Key": key})
    assert answer.status_code == status
    assert answer.json()["type"].rpartition(":")[2] == {401: "unauthorized", 403: "forbidden"}[status]


@pytest.mark.parametrize(("admins", "key"), [("", DOOR), ("gate", GATE), ("door,gate", DOOR)])
def test_an_administrator_is_let_through(admins: str, key: str) -> None:
    client = unstarted(keys=(DOOR_LINE, GATE_LINE), admin_keys=admins)
    assert client.post("/v1/model:reload", headers={"X-API-Key": key}).status_code not in (401, 403)


# CORS


def test_no_other_origin_may_read_answers_unless_it_is_set(keyed: TestClient) -> None:
    answer = keyed.get("/health/live", headers={"Origin": "https://a.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert keyed.options("/v1/variants", headers={"Origin": "https://a.example"}).status_code == 401


def test_a_set_origin_asks_first_without_a_key_and_can_read_that_one_is_missing() -> None:
    client = unstarted(keys=(DOOR_LINE,), cors_origins="https://a.example")
    asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "x-api-key"
    preflight = client.options("/v1/variants", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "https://a.example"
    refused = client.post("/v1/variants", headers={"Origin": "https://a.example"})
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"] == "https://a.example"
    other = client.post("/v1/variants", headers={"Origin": "https://b.example"})
    assert "Access-Control-Allow-Origin" not in other.headers


# What OpenAPI says


@pytest.mark.parametrize("keys", [(), (DOOR_LINE,)])
def test_openapi_declares_keys_and_what_is_answered_without(keys: tuple[str, ...]) -> None:
    schema = unstarted(keys=keys).get("/openapi.json").json()
    schemes = schema["components"]["securitySchemes"]
    assert schemes["bearer"] | {"description": ""} == {"type": "http", "scheme": "bearer", "description": ""}
    assert schemes["key"] | {"description": ""} == {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "",
    }
    variants = schema["paths"]["/v1/variants"]["post"]
    assert variants["security"] == ([] if keys else [{}]) + [{"bearer": []}, {"key": []}]
    assert {"401", "429"} <= set(variants["responses"])
    assert "Retry-After" in variants["responses"]["429"]["headers"]
    model = schema["paths"]["/v1/model"]["get"]
    assert "401" in model["responses"]
    assert "429" not in model["responses"]
    assert "security" not in schema["paths"]["/health/live"]["get"]


def test_openapi_marks_what_is_protected() -> None:
    client = unstarted(keys=(DOOR_LINE,), protect="metrics")
    paths = client.get("/openapi.json").json()["paths"]
    assert "401" in paths["/metrics"]["get"]["responses"]
    assert "401" not in paths["/health/live"]["get"]["responses"]
