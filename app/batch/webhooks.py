"""Telling somebody that a job has ended: a signed request to an origin that the operator allows, and nowhere else.

Signed as https://www.standardwebhooks.com has it, so that there are libraries to verify it. The address is looked up
once and connected to as it was checked, a redirect is not followed, and no proxy of the environment is asked: the
request goes where it was allowed to go.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ipaddress
import json
import socket
import ssl
import time
from typing import Any
from urllib.parse import SplitResult, urlsplit

from app.errors import WebhookRefused
from app.settings import Settings, signing_key

SECONDS = 10.0
"""How long the receiver has to answer."""
WAITS = (10.0, 60.0, 300.0, 1800.0)
"""Seconds between one attempt and the next."""
URL_CHARACTERS = 2048
TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""Where networks without IPv4 find its addresses."""


def allowed(url: str, settings: Settings) -> str:
    """The address, where it may be told of a job's end.

    Raises:
        WebhookRefused: it may not, or is none.
    """
    if not settings.webhook_origins:
        raise WebhookRefused("Webhooks are off here: the operator would have to allow origins for them.")
    parts = _split(url)
    if parts is None or parts.username is not None or parts.fragment or len(url) > URL_CHARACTERS:
        raise WebhookRefused("The webhook is no address like https://hooks.example.org/lookalike.")
    if _origin(parts) not in {_origin(urlsplit(origin)) for origin in settings.webhook_origins}:
        raise WebhookRefused(
            f"Webhooks may not go to {parts.scheme}://{parts.netloc}; ask the operator, who allows origins one by one."
        )
    return url


def sign(key: bytes, message: str, timestamp: int, body: bytes) -> str:
    """The signature of a message: HMAC-SHA256 over its id, the time in seconds, and the body, joined by dots."""
    signed = f"{message}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def deliver(url: str, message: str, content: dict[str, Any], settings: Settings) -> int:
    """Send a message once; returns the status of the answer, whatever it is.

    Args:
        url: where to.
        message: its id, the same in each attempt.
        content: its JSON.
        settings: the secret, and whether the address may be private.

    Raises:
        OSError: it could not be sent, or was not answered in time.
        WebhookRefused: its host has an address that it may not go to.
    """
    parts = urlsplit(allowed(url, settings))
    host, port = parts.hostname or "", _port(parts)
    body, timestamp = json.dumps(content).encode(), int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "lookalike",
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(signing_key(settings.webhook_secret.get_secret_value()), message, timestamp, body),
    }
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    connection.sock = _connected(host, port, parts.scheme == "https", settings.webhook_private)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {**headers, "Host": parts.netloc})
        return connection.getresponse().status
    except http.client.HTTPException as error:
        raise ConnectionError(f"no HTTP was answered ({type(error).__name__})") from error
    finally:
        connection.close()


def _connected(host: str, port: int, secure: bool, private: bool) -> socket.socket:
    """A connection to the address that was checked; a name is not looked up again, for it might then lead elsewhere."""
    addresses = [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not private and (inside := [text for text in addresses if not _is_global(text)]):
        raise WebhookRefused(f"{host} has the private address {inside[0]}.")
    sock = socket.create_connection((addresses[0], port), SECONDS)
    if not secure:
        return sock
    try:
        return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
    except OSError:
        sock.close()
        raise


def _is_global(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        # Addresses that carry one of IPv4 lead where that leads.
        found = found.ipv4_mapped or found.sixtofour or _translated(found) or found
    return found.is_global and not found.is_multicast


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The address of IPv4 that a translator (RFC 6052) makes of it; None where it is no such."""
    return ipaddress.IPv4Address(address.packed[-4:]) if address in TRANSLATED else None


def _split(url: str) -> SplitResult | None:
    if not url.isascii() or not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and _port(parts) > 0
    except ValueError:
        return None
    return parts if known else None


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", _port(parts)


def _port(parts: SplitResult) -> int:
    return parts.port or {"https": 443, "http": 80}[parts.scheme]
