"""Where a webhook may go: to origins that were named, and never inside."""

from __future__ import annotations

import os
from typing import Any

import pytest

from app.batch import webhooks
from app.errors import WebhookRefused
from app.settings import Settings

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def hooked(*origins: str, private: bool = False) -> Settings:
    return Settings(webhook_origins=origins, webhook_secret=SECRET, webhook_private=private)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org.evil.org/", "https://evil.org/?https://hooks.example.org", "http://hooks.example.org/",
        "https://hooks.example.org:8443/", "https://user:word@hooks.example.org/", "https://hooks.example.org@evil.org/",
        "https://hooks.example.org\\@evil.org/", "file:///etc/passwd", "//hooks.example.org/", "hooks.example.org", "",
        "https://hooks.example.org/a b", "https://hooks.example.org/\r\nHost: evil.org", "https://hooks.example.org:99999/",
        "https://hooks.example.org/#x", "https://hooks.example.org/" + "x" * 3000,
    ],
)  # fmt: skip
def test_addresses_that_nobody_allowed(url: str):
    with pytest.raises(WebhookRefused):
        webhooks.allowed(url, hooked("https://hooks.example.org"))
    for good in ("https://hooks.example.org", "https://HOOKS.example.org:443/a?b=c"):
        assert webhooks.allowed(good, hooked("https://hooks.example.org")) == good
    with pytest.raises(WebhookRefused, match="off here"):
        webhooks.allowed("https://hooks.example.org/", Settings())


INSIDE = "127.0.0.1 10.0.0.7 169.254.169.254 0.0.0.0 ::1 fe80::1%2 ::ffff:10.0.0.1 224.0.0.1 2002:7f00:1:: 100.64.0.1"
INSIDE += " 64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.7"


@pytest.mark.parametrize("address", INSIDE.split())
def test_a_name_that_leads_inside_is_not_gone_to(address: str, monkeypatch: pytest.MonkeyPatch):
    def looked_up(*asked: object, **more: object) -> list[Any]:
        return [(None, 1, 6, "", (found, 443)) for found in ("93.184.215.14", address)]

    def connected(*asked: object) -> None:
        pytest.fail("it was connected to")

    monkeypatch.setattr(webhooks.socket, "getaddrinfo", looked_up)
    monkeypatch.setattr(webhooks.socket, "create_connection", connected)
    with pytest.raises(WebhookRefused, match="private address"):
        webhooks.deliver("https://hooks.example.org/", "id", {}, hooked("https://hooks.example.org"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"webhook_origins": ("https://a.org/path",), "webhook_secret": SECRET}, "is no origin"),
        ({"webhook_origins": ("http://a.org",), "webhook_secret": SECRET}, "must begin with https"),
        ({"webhook_origins": ("https://a.org",)}, "webhook_secret must be"),
        ({"webhook_origins": ("https://a.org",), "webhook_secret": "whsec_c2hvcnQ="}, "webhook_secret must be"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], sentence: str):
    with pytest.raises(ValueError, match=sentence):
        Settings(**settings)


def test_the_secret_is_never_shown(capsys: pytest.CaptureFixture[str]):
    assert SECRET not in repr(hooked("https://a.org"))
    assert os.environ.get("LOOKALIKE_WEBHOOK_SECRET") is None


def test_an_address_outside_stays_so_where_it_is_translated():
    assert webhooks._is_global("64:ff9b::93.184.215.14")
