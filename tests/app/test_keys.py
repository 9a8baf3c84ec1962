"""Keys and rate limits: who is let in, what it may ask for, and how it is told otherwise."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis.asyncio
from fakeredis import FakeAsyncRedis, FakeServer
from fastapi.testclient import TestClient
from pydantic import ValidationError

from app import keys
from app.__main__ import main
from app.core.parameters import MAX_VARIANTS
from app.errors import KeysInvalid
from app.keys import Keyring, RateLimiter, make_key, network_of, read_entries
from app.main import create_app
from app.settings import LARGEST_REQUEST, Settings, sentences

# Fixed, since tests are named after their parameters, and every process that runs them must find the same names.
DOOR, GATE = "lk_" + "d" * 43, "lk_" + "g" * 43
DOOR_LINE = f"door:{hashlib.sha256(DOOR.encode()).hexdigest()}"
GATE_LINE = f"gate:{hashlib.sha256(GATE.encode()).hexdigest()}"
JPEG = {"Content-Type": "image/jpeg"}
WITHOUT_MODELS = 503
"""What an application that was not started says to whom it lets in."""


def unstarted(**settings: object) -> TestClient:
    """The application without its models: enough to see who is let in."""
    return TestClient(create_app(Settings(**settings)), raise_server_exceptions=False)


@pytest.fixture
def keyed() -> TestClient:
    return unstarted(keys=(DOOR_LINE, GATE_LINE))


# Making and storing keys


def test_only_the_digest_of_a_key_is_stored() -> None:
    key, line = make_key("camera-7")
    assert line == f"camera-7:{hashlib.sha256(key.encode()).hexdigest()}"
    assert key not in line
    assert len(key) >= 43, "256 bits"
    assert key != make_key("camera-7")[0]


def test_the_command_prints_a_key_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "camera-7"]) == 0
    key, line = capsys.readouterr().out.splitlines()
    assert Keyring((line,)).name_of(key) == "camera-7"


def test_the_command_refuses_a_name_that_a_line_cannot_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "camera:7"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a name has 1 to 64 letters" in captured.err


@pytest.mark.parametrize("line", [DOOR, f"door:{DOOR}", "door:", f"do or:{'0' * 64}", f"door:{'0' * 63}"])
def test_what_is_no_entry_is_refused_and_never_quoted(line: str) -> None:
    with pytest.raises(KeysInvalid) as refused:
        Keyring((GATE_LINE, line))
    assert str(refused.value) == "entry 2 is not name:sha256, as `python -m app key NAME` prints it"


def test_empty_lines_and_comments_are_passed_over() -> None:
    entries, wrong = read_entries(["# the doors", "", f"  {DOOR_LINE} "])
    assert ([entry.name for entry in entries], wrong) == (["door"], [])


def test_one_key_has_one_name() -> None:
    with pytest.raises(KeysInvalid, match="entry 2 gives the key of door another name"):
        Keyring((DOOR_LINE, DOOR_LINE.replace("door", "gate")))


def test_a_key_is_compared_with_every_entry_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(one: str, other: str) -> bool:
        compared.append(one)
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(keys, "hmac", SimpleNamespace(compare_digest=compare))
    lines = tuple(make_key(f"key{i}")[1] for i in range(3))
    keyring = Keyring((DOOR_LINE, *lines))
    for key, name in ((DOOR, "door"), ("wrong", None)):
        compared.clear()
        assert keyring.name_of(key) == name
        assert len(compared) == 4


# Rotation: the keys file


@pytest.fixture
def keys_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the key `door`, looked at again each time."""
    monkeypatch.setattr(keys, "REREAD_SECONDS", 0)
    file = tmp_path / "keys"
    file.write_text(f"{DOOR_LINE}\n")
    return file


def test_a_key_is_replaced_without_a_restart(keys_file: Path) -> None:
    client = unstarted(keys_file=keys_file)

    def status(key: str) -> int:
        return client.get("/v1/model", headers={"X-API-Key": key}).status_code

    new, line = make_key("door")
    assert (status(DOOR), status(new)) == (WITHOUT_MODELS, 401)
    keys_file.write_text(f"{DOOR_LINE}\n{line}\n")
    assert (status(DOOR), status(new)) == (WITHOUT_MODELS, WITHOUT_MODELS)
    keys_file.write_text(f"{line}\n")
    assert (status(DOOR), status(new)) == (401, WITHOUT_MODELS)


def test_the_file_is_read_at_most_once_a_second(keys_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "REREAD_SECONDS", 1.0)
    now = 100.0
    monkeypatch.setattr(keys.time, "monotonic", lambda: now)
    keyring = Keyring((), keys_file)
    keys_file.write_text(f"{GATE_LINE}\n")
    now = 100.9
    assert keyring.name_of(GATE) is None
    now = 101.0
    assert keyring.name_of(GATE) == "gate"


def test_a_replaced_file_is_noticed_as_kubernetes_replaces_it(keys_file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(keys_file)
    keyring = Keyring((), link)
    (tmp_path / "next").write_text(GATE_LINE)
    (tmp_path / "swap").symlink_to(tmp_path / "next")
    (tmp_path / "swap").replace(link)
    assert (keyring.name_of(DOOR), keyring.name_of(GATE)) == (None, "gate")


def test_a_wrong_line_is_left_out_and_logged_once_without_its_text(
    keys_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keyring = Keyring((), keys_file)
    keys_file.write_text(f"{GATE_LINE}\n{DOOR}\n")
    for _ in range(3):
        assert (keyring.name_of(DOOR), keyring.name_of(GATE)) == (None, "gate")
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "line 2 is not name:sha256" in record.detail
    assert DOOR not in str(vars(record))


def test_an_unreadable_file_leaves_its_keys_in_force(keys_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    keyring = Keyring((), keys_file)
    keys_file.unlink()
    assert keyring.name_of(DOOR) == "door"
    assert keyring.name_of(DOOR) == "door"
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "cannot be read" in record.detail


def test_an_emptied_file_lets_nobody_in(keys_file: Path) -> None:
    keyring = Keyring((GATE_LINE,), keys_file)
    keys_file.write_text("")
    assert (keyring.name_of(DOOR), keyring.name_of(GATE)) == (None, "gate")


# Who is let in


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


# Rate limits


@pytest.fixture
def post(new_client: Callable[..., TestClient], photo: bytes) -> Callable[..., object]:
    client = new_client(keys=(DOOR_LINE, GATE_LINE), rate_limit="64/hour;100/day")

    def send(path: str, key: str = DOOR, content: bytes = photo, **query: object) -> object:
        return client.post(path, content=content, headers=JPEG | {"X-API-Key": key}, params=query)

    return send


def test_each_image_is_charged_to_its_key(post: Callable[..., object]) -> None:
    first = post("/v1/variants", count=10)
    assert first.status_code == 200
    assert first.headers["RateLimit-Policy"] == "64;w=3600, 100;w=86400"
    assert first.headers["RateLimit-Limit"] == "64"
    assert first.headers["RateLimit-Remaining"] == "54"
    assert 3590 <= int(first.headers["RateLimit-Reset"]) <= 3600
    assert post("/v1/identities").headers["RateLimit-Remaining"] == "53"
    assert post("/v1/sweep", steps=5).headers["RateLimit-Remaining"] == "48"
    assert post("/v1/variants", count=1, key=GATE).headers["RateLimit-Remaining"] == "63"


def test_beyond_the_limit_the_answer_is_429_and_nothing_is_charged(post: Callable[..., object]) -> None:
    assert post("/v1/sweep", steps=30, quality=50).headers["RateLimit-Remaining"] == "34"
    refused = post("/v1/sweep", steps=35, quality=50)
    assert refused.status_code == 429
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:lookalike:problem:too-many-requests"
    assert "35 images were asked for, and 34 of 64" in refused.json()["detail"]
    assert refused.headers["RateLimit-Remaining"] == "34"
    assert refused.headers["Retry-After"] == refused.headers["RateLimit-Reset"]
    assert 3590 <= int(refused.headers["Retry-After"]) <= 3600
    assert post("/v1/sweep", steps=34, quality=50).headers["RateLimit-Remaining"] == "0"
    assert post("/v1/variants", count=1, key=GATE).status_code == 200


def test_what_asks_for_no_image_is_free(post: Callable[..., object]) -> None:
    assert "RateLimit-Limit" not in post("/v1/variants", count=0).headers
    assert post("/v1/identities").headers["RateLimit-Remaining"] == "63"


def test_rows_of_the_inference_protocol_are_charged(new_client: Callable[..., TestClient]) -> None:
    client = new_client(rate_limit="64/hour")
    inputs = [
        {"name": name, "datatype": "FP32", "shape": [3, size], "data": [0.0] * 3 * size}
        for name, size in (("identity", 70), ("control", 10))
    ]
    answer = client.post("/v2/models/decoder/infer", json={"inputs": inputs})
    assert answer.status_code == 200
    assert answer.headers["RateLimit-Remaining"] == "61"


def test_without_keys_each_address_is_charged() -> None:
    app = create_app(Settings(rate_limit="64/hour"))
    identity = {"identity": [0.0] * 70, "count": 60}

    def status(host: str) -> int:
        client = TestClient(app, raise_server_exceptions=False, client=(host, 1))
        return client.post("/v1/render", json=identity).status_code

    assert [status("192.0.2.1"), status("192.0.2.1"), status("192.0.2.2")] == [WITHOUT_MODELS, 429, WITHOUT_MODELS]


def test_one_subscriber_of_ipv6_is_one_caller() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8::1")
    assert network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("testclient") == "testclient"


def test_a_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)

    async def charge() -> list[bool]:
        nonlocal now
        limiter = RateLimiter("64/second")
        granted = [(await limiter.charge("a", 64)).granted]
        refused = await limiter.charge("a", 1)
        assert refused.reset == 1
        now += refused.reset
        return [*granted, refused.granted, (await limiter.charge("a", 64)).granted]

    assert asyncio.run(charge()) == [True, False, True]


def test_of_several_limits_the_longest_wait_is_told() -> None:
    async def charge() -> tuple[bool, int, int]:
        limiter = RateLimiter("64/minute;100/day")
        await limiter.charge("a", 64)
        refused = await limiter.charge("a", 64)
        return refused.granted, refused.limit, refused.reset

    granted, limit, reset = asyncio.run(charge())
    assert (granted, limit) == (False, 100)
    assert reset > 80_000


def test_replicas_share_what_redis_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer()
    monkeypatch.setattr(redis.asyncio.Redis, "from_url", lambda *_, **__: FakeAsyncRedis(server=server))
    address = "redis://cache:6379/0"

    async def charge() -> list[tuple[bool, int]]:
        replicas = [RateLimiter("64/hour", address) for _ in range(2)]
        allowances = [await replicas[i % 2].charge("a", 30) for i in range(3)]
        return [(allowance.granted, allowance.remaining) for allowance in allowances]

    assert asyncio.run(charge()) == [(True, 34), (True, 4), (False, 4)]


def test_without_redis_the_service_goes_on_and_counts_itself(caplog: pytest.LogCaptureFixture) -> None:
    async def charge() -> tuple[list[bool], float]:
        limiter = RateLimiter("64/hour", "redis://:secret@127.0.0.1:1/0")
        start = time.monotonic()
        granted = [(await limiter.charge("a", 60)).granted for _ in range(2)]
        return granted, time.monotonic() - start

    granted, seconds = asyncio.run(charge())
    assert granted == [True, False]
    assert seconds < 60, "it is not waited for each time"
    (record,) = [record for record in caplog.records if record.name == "app.keys"]
    assert record.getMessage() == "rate limits are counted in this process"
    assert "secret" not in str(vars(record))


# Settings that cannot be


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"protect": "metrics"}, "protect is set, but there are no keys"),
        ({"admin_keys": "door"}, "admin_keys is set, but there are no keys"),
        ({"keys": DOOR_LINE, "admin_keys": "gate"}, "admin_keys names gate, but keys has no such name"),
        ({"keys": DOOR_LINE, "protect": "metric"}, "LOOKALIKE_PROTECT"),
        ({"keys": DOOR}, "entry 1 is not name:sha256"),
        ({"keys_file": "/nowhere/keys"}, "the keys file cannot be read (No such file or directory)"),
        ({"rate_limit": "many"}, "must be like 600/minute"),
        ({"rate_limit": "10/second"}, "rate_limit must leave room for one request, which may ask for 64 images"),
        ({"rate_limit": "600/minute", "workers": 2}, "2 workers would each count images on their own"),
        ({"rate_store": "redis://cache:6379/0"}, "there is nothing to count: set rate_limit as well"),
        ({"rate_limit": "600/minute", "rate_store": "memcached://a"}, "LOOKALIKE_RATE_STORE"),
    ],
)
def test_impossible_settings_are_refused_with_a_sentence(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**settings)
    said = "\n".join(sentences(refused.value))
    assert sentence in said
    assert DOOR not in said


def test_a_file_without_keys_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# none yet\n")
    with pytest.raises(ValidationError, match="there is no key"):
        Settings(keys_file=tmp_path / "keys")


def test_redis_without_its_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.settings.importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValidationError, match=r"pip install 'lookalike\[redis\]'"):
        Settings(rate_limit="600/minute", rate_store="redis://cache:6379/0")


def test_workers_may_share_a_limit_through_redis() -> None:
    assert Settings(rate_limit="600/minute", rate_store="redis://cache:6379/0", workers=2).workers == 2


def test_the_largest_request_is_what_the_schemas_allow() -> None:
    assert LARGEST_REQUEST == MAX_VARIANTS
