"""Rate limits: what is charged to whom, how a caller is told, and what is counted where."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import pytest
import redis.asyncio
from fakeredis import FakeAsyncRedis, FakeServer
from fastapi.testclient import TestClient

from app.keys import RateLimiter, network_of
from app.main import create_app
from app.settings import Settings
from tests.app.keyed import DOOR, DOOR_LINE, GATE, GATE_LINE, WITHOUT_MODELS
from tests.patience import PATIENCE

JPEG = {"Content-Type": "image/jpeg"}


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
    assert 3600 - PATIENCE <= int(first.headers["RateLimit-Reset"]) <= 3600
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
    assert 3600 - PATIENCE <= int(refused.headers["Retry-After"]) <= 3600
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
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1", "as a listener on :: is told of it"
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

    caplog.set_level(logging.WARNING, "app.keys")  # whatever a service that ran in this process has set
    granted, seconds = asyncio.run(charge())
    assert granted == [True, False]
    assert seconds < 60, "it is not waited for each time"
    (record,) = [record for record in caplog.records if record.name == "app.keys"]
    assert record.getMessage() == "rate limits are counted in this process"
    assert "secret" not in str(vars(record))
