"""Keys, names and headers, as an attacker would have them."""

from __future__ import annotations

import contextlib
import gzip
import hmac
import http.client
import io
import json
import lzma
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.batch.archives import open_source
from app.errors import Refused, SourceUnreadable
from app.keys import Keyring, make_key
from tests.patience import PATIENCE
from tests.server import Server
from tests.torture.conftest import Record
from tests.torture.pictures import ORIGINALS

ROOT = Path(__file__).parents[2]
KEY, LINE = make_key("tester")
OTHER, OTHER_LINE = make_key("other")


@pytest.fixture(scope="module")
def locked() -> Iterator[Server]:
    """A server for which a key is needed; another key may administer it."""
    server = Server(fork=True, keys=f"{LINE},{OTHER_LINE}", admin_keys="other", protect="metrics,docs")
    yield server.until_ready()
    server.stop()


PATHS = [
    "/v1/model",
    "/v1/variants",
    "/v1/model:reload",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/v2/models/decoder",
    "//v1/model",
    "/v1//model",
    "/./v1/model",
    "/page/../v1/model",
    "/page/%2e%2e/v1/model",
    "/page/..%2fv1%2fmodel",
    "/health/live/../../v1/model",
    "/health/ready/..;/v1/model",
    "/v1/model/",
    "/V1/MODEL",
    "/v1/model%00",
    "/v1%2fmodel",
    "/%76%31/model",
    "/v1/model;/page/x",
    "/v1/model?/page/x",
    "/v1/model#/page/x",
    "http://x/v1/model",
    "*",
    "/page/../metrics",
    "/page/%2e%2e%2fmetrics",
    "/health/live%2f..%2f..%2fmetrics",
    "\\v1\\model",
    "/v1/model%20",
    "/v1/%6dodel",
]

TRICKS: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": "Bearer null"},
    {"Authorization": "Bearer " + KEY[:-1]},
    {"Authorization": "Bearer " + KEY.upper()},
    {"Authorization": "Bearer " + KEY + " x"},
    {"Authorization": "Basic " + KEY},
    {"Authorization": KEY},
    {"Authorization": "Bearer " + LINE.partition(":")[2]},
    {"Authorization": "Bearer tester"},
    {"X-API-Key": LINE},
    {"X-API-Key": "*"},
    {"X-API-Key": "x" * 8000},
    {"X-API-Key": "tester,other"},
    {"X-API-Key": "\xff\xfe"},
    {"X-API-Key": "undefined", "Authorization": "Bearer " + KEY},
    {"X-Api_Key": KEY},
    {"Cookie": f"key={KEY}; X-API-Key={KEY}"},
    {"X-Original-URL": "/health/live"},
    {"X-Rewrite-URL": "/health/live"},
    {"X-Forwarded-Prefix": "/page"},
    {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "Forwarded": "for=127.0.0.1"},
    {"X-HTTP-Method-Override": "HEAD"},
    {"X-Forwarded-Host": "localhost", "X-Forwarded-Proto": "https"},
    {"Host": "localhost/page/"},
    {"Connection": "X-API-Key, Authorization"},
    {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"},
    {"Origin": "null", "Access-Control-Request-Method": "POST"},
]

METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "TRACE", "get", "DEBUG")
SECRETS = (b"lookalike_band", b"fmr", b"lookalike_http", b"openapi", b"variants", b"swagger", b"versions", b"previous")


def test_no_trick_passes_for_a_key(locked: Server, amount: Callable[[int, int], int], record: Record) -> None:
    attempts = list(product(PATHS, TRICKS, METHODS))[:: amount(7, 1)]
    connection = http.client.HTTPConnection("127.0.0.1", locked.port, timeout=PATIENCE)
    refused = 0
    for path, headers, method in attempts:
        try:
            connection.putrequest(method, path, skip_host="Host" in headers)
            for name, value in headers.items():
                connection.putheader(name, value.encode("latin-1"))
            connection.putheader("Content-Length", "0")
            connection.endheaders()
            answer = connection.getresponse()
            body = answer.read()
        except http.client.HTTPException:
            connection.close()
            continue
        # What is open stays open, and says nothing: the page, health, and that something is not there.
        assert answer.status in (400, 401, 403, 404, 405), (method, path, headers, answer.status)
        assert not any(secret in body for secret in SECRETS) or answer.status in (401, 403), (method, path, headers)
        refused += 1
        if answer.will_close:
            connection.close()
    assert refused > len(attempts) * 0.9
    assert locked.post("/v1/model:reload", b"", **{"X-API-Key": KEY}).status_code == 403
    assert locked.post("/v1/identities", ORIGINALS["jpeg"], **{"X-API-Key": KEY}).status_code == 200
    record("ways around a key: paths, headers and methods", f"{len(attempts):,} requests", "0 passed")


def test_every_key_costs_the_same_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Structure, not time: each key is digested once, and its digest compared with every other by the same function."""
    made = [make_key(f"key{number}") for number in range(20)]
    ring = Keyring([line for _, line in made])
    compared: list[tuple[int, int]] = []
    genuine = hmac.compare_digest

    def counted(a: str, b: str) -> bool:
        compared.append((len(a), len(b)))
        return genuine(a, b)

    monkeypatch.setattr("app.keys.hmac.compare_digest", counted)
    first, last = made[0][0], made[-1][0]
    for key in (first, last, "", "x", first[:-1], first[:-1] + "A", "lk_" + "A" * 43, "\udc80", "y" * 100_000):
        compared.clear()
        ring.name_of(key)
        assert compared == [(64, 64)] * len(made), "a digest tells nothing of how much of a key was right"


@pytest.mark.parametrize("name", ["X-Request-ID", "Accept", "Content-Type", "X-API-Key", "Origin", "traceparent"])
@pytest.mark.parametrize(
    "value", ["a\tSet-Cookie: b=c", "%0d%0aSet-Cookie:%20b=c", "\xe5\x98\x8a\xe5\x98\x8dSet-Cookie: b"]
)
def test_nothing_sent_becomes_a_header(server: Server, name: str, value: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    for path in ("/v1/variants?count=1", "/%0d%0aSet-Cookie:%20b=c", "/v1/model/?x=%0d%0aSet-Cookie:b"):
        connection.putrequest("POST", path)
        connection.putheader(name, value.encode("latin-1"))
        connection.putheader("Content-Length", "1")
        connection.endheaders(b"x")
        answer = connection.getresponse()
        answer.read()
        assert answer.status < 500
        assert "Set-Cookie" not in str(answer.headers)
        assert "Location" not in answer.headers
    connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "/page/../main.py",
        "/page/%2e%2e%2fmain.py",
        "/page/..%5cmain.py",
        "/page//etc/passwd",
        "/page/%00",
        "/page/app.js/..",
        "/page/....//....//etc/passwd",
        "/v2/models/..%2f..%2fetc/infer",
        "/v2/models/%2e%2e/ready",
        "/docs/../main.py",
        "/docs/%2e%2e%2f%2e%2e%2fmain.py",
        "/static/../main.py",
    ],
)
def test_no_path_leads_to_a_file(server: Server, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status in (400, 404, 405)
    assert b"import" not in body
    assert b"root:" not in body


names = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(["..", ".", "", "a", "b.jpg", "/", "\\", "C:", "\0", "~", "con", "x" * 300]), max_size=6
    ).map("/".join),
).map(lambda name: name + ".jpg")


def zipped(entries: list[str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in entries:
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, b"x")
    return file.getvalue()


def tarred(entries: list[str]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number, name in enumerate(entries):
            info = tarfile.TarInfo(name)
            info.type = (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE)[number % 3]
            info.linkname = "/etc/passwd"
            archive.addfile(info)
    return file.getvalue()


@pytest.mark.parametrize("packed", [zipped, tarred])
@settings(max_examples=2000 if os.environ.get("TORTURE") == "long" else 60, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip
@given(entries=st.lists(names, min_size=1, max_size=6))
def test_no_name_in_an_archive_leads_out_of_it(
    tmp_path: Path, packed: Callable[[list[str]], bytes], entries: list[str]
) -> None:
    source, out = tmp_path / "archive", tmp_path / "out" / "images"
    try:
        source.write_bytes(packed(entries))
    except (UnicodeError, ValueError):
        return  # not even an attacker can pack that
    with open_source(source) as photographs:
        for photograph in photographs:
            try:
                photograph.read(100)
            except Refused:
                continue
            # As `augment` makes the folder of a photograph.
            place = Path(os.path.normpath(out.joinpath(*photograph.name.split("/"))))
            assert place.is_relative_to(out)
            assert place != out
            assert len(os.fsencode(place.name)) < 255


DAMAGED = 20_000 if os.environ.get("TORTURE") == "long" else 400


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_damaged_archive_is_refused_with_a_sentence(tmp_path: Path, record: Record) -> None:
    source = tmp_path / "archive"
    entries = ["a.jpg", "b/c.png", "d.webp", "a.jpg"]
    whole = [zipped(entries), tarred(entries), gzip.compress(tarred(entries)), lzma.compress(tarred(entries))]
    for number in range(DAMAGED):
        chance = random.Random(number)
        damaged = bytearray(chance.choice(whole))
        for _ in range(chance.choice((1, 3, 10))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        source.write_bytes(damaged[: chance.randrange(len(damaged))] if chance.random() < 0.2 else damaged)
        with contextlib.suppress(SourceUnreadable), open_source(source) as photographs:
            for photograph in photographs:
                with contextlib.suppress(Refused):
                    assert len(photograph.read(100)) <= 100
    record("damaged zip and tar archives for `augment`", f"{DAMAGED:,}", "0 but read or refused with a sentence")


def test_bandit_finds_nothing_unexplained(record: Record) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-c", "pyproject.toml", "-r", "app", "-f", "json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    report = json.loads(run.stdout)
    found = [f"{item['filename']}:{item['line_number']} {item['test_id']}" for item in report["results"]]
    assert not found
    assert not report["errors"]
    lines = report["metrics"]["_totals"]["loc"]
    record("bandit over app/", f"{lines:,} lines", "0 findings, of low severity or above")


@pytest.mark.long_only
def test_no_dependency_has_a_known_vulnerability(record: Record) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner=off", "--format=json"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    packages = json.loads(run.stdout)["dependencies"]
    found = [f"{item['name']}: {[each['id'] for each in item['vulns']]}" for item in packages if item.get("vulns")]
    assert not found
    audited = sum("vulns" in item for item in packages)
    # A mirror of the index may have packages, but no advisories: then there is nothing to say.
    came = "0 with known vulnerabilities" if audited else "the index in use has no advisories: nothing to say"
    record("pip-audit of every installed package", f"{audited} of {len(packages)} packages", came)
