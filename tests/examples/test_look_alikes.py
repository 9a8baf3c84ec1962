"""The clients that are there to be copied, where a service does not do what it should; docs/clients.md has the rest."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.look_alikes import AsyncClient, Client, Comparison, Refused, main
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
COMPARISON = {"similarity": 0.5, "verdicts": [{"fmr": 0.01, "threshold": 0.4, "match": True}], "news": 1}
NO_FACE = {"type": "urn:lookalike:problem:no-face", "detail": 'No face was found in "it".', "request_id": "abc"}

Answer = tuple[int, dict[str, str], bytes]


def answer(status: int, content: Any = None, **headers: str) -> Answer:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body


class Script(http.server.ThreadingHTTPServer):
    """Answers with what the test says, one after the other; the last one for good."""

    answers: list[Answer]
    asked: list[tuple[str, str | None]]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Script

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Authorization"]))
        answers = self.server.answers
        status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def script() -> Iterator[Script]:
    server = Script(("127.0.0.1", 0), Handler)
    server.answers, server.asked = [], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def compare(kind: str, address: str, key: str = "") -> Comparison:
    if kind == "sync":
        with Client(address, key) as client:
            return client.compare(b"a", b"b")

    async def ask() -> Comparison:
        async with AsyncClient(address, key) as client:
            return await client.compare(b"a", b"b")

    return asyncio.run(ask())


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_busy_service_is_asked_again(script: Script, kind: str) -> None:
    script.answers = [answer(503, {}, Retry_After="0"), answer(429, {}, Retry_After="0.01"), answer(200, COMPARISON)]
    assert compare(kind, script.address, "secret").verdicts[0].match
    assert script.asked == [("/v1/compare", "Bearer secret")] * 3


@pytest.mark.parametrize("wait", ["0", "3600", "tomorrow"])
def test_it_gives_up_in_the_end_and_does_not_wait_for_an_hour(script: Script, kind: str, wait: str) -> None:
    problem = {"type": "urn:lookalike:problem:rate-limited", "detail": "Later."}
    script.answers = [answer(429, problem, Retry_After=wait)] if wait != "tomorrow" else [answer(422, problem)]
    with pytest.raises(Refused, match=r"Later\.") as raised:
        compare(kind, script.address)
    assert raised.value.type == "rate-limited"
    assert len(script.asked) == (3 if wait == "0" else 1)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"title": "x"}'])
def test_what_is_no_problem_document_is_a_refusal_as_well(script: Script, kind: str, body: bytes) -> None:
    script.answers = [answer(502, body)]
    with pytest.raises(Refused, match="status 502"):
        compare(kind, script.address)


@pytest.mark.parametrize(
    ("folder", "address", "says"),
    [
        ("taken", "", "taken: File exists"),
        ("taken/within", "", "taken/within: Not a directory"),
        ("full", "", "face-00.jpg: Is a directory"),
        ("new", "http://host:port", "face.jpg: Invalid port: 'port'"),
        ("new", "other", "/other: this is no answer of the service"),
    ],
)
def test_the_program_says_in_a_line_what_it_cannot_do(
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: str,
    address: str,
    says: str,
) -> None:
    (tmp_path / "face.jpg").write_bytes(b"x")
    (tmp_path / "taken").write_bytes(b"")
    (tmp_path / "full" / "face-00.jpg").mkdir(parents=True)
    variant = {"index": 0, "control": [], "similarity": 0.5, "in_band": True, "media_type": "image/jpeg", "image": ""}
    made = {"id": "1", "seed": 1, "variants": [variant]}
    script.answers = [answer(200, [] if address == "other" else made)]
    asked = address if ":" in address else f"{script.address}/{address}"
    monkeypatch.setenv("KEY", "secret")
    monkeypatch.setattr("sys.argv", ["", str(tmp_path / "face.jpg"), str(tmp_path / folder), "--address", asked])
    assert main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(says)
    assert all(key == "Bearer secret" for _, key in script.asked)


def run_script(script: Script, folder: Path, *photographs: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"ADDRESS": script.address, "KEY": "secret"}
    command = [str(ROOT / "examples" / "look-alikes.sh"), str(folder), *map(str, photographs)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_the_shell_script_tells_what_was_refused_and_goes_on(script: Script, tmp_path: Path) -> None:
    photographs = [tmp_path / "it; is, strange.jpg", tmp_path / "b.jpg"]
    for photograph in photographs:
        photograph.write_bytes(b"x")
    script.answers = [answer(422, NO_FACE), answer(200, b"PK")]
    done = run_script(script, tmp_path / "zips", *photographs)
    assert done.returncode == 1
    assert "it; is, strange.jpg: 422 No face was found in" in done.stderr
    assert [path.name for path in (tmp_path / "zips").iterdir()] == ["b.zip"]
    assert script.asked[0][1] == "Bearer secret"


def test_the_shell_script_writes_a_zip_for_each_photograph(script: Script, tmp_path: Path) -> None:
    names = ["a/face.jpg", "b/face.jpg", "b/face.png", 'b/"quoted" \\.jpg', "b/at the end\\"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    script.answers = [answer(200, name.encode()) for name in names]
    done = run_script(script, tmp_path / "zips", *(tmp_path / name for name in names))
    assert (done.returncode, done.stderr) == (0, "")
    made = {path.name: path.read_text() for path in (tmp_path / "zips").iterdir()}
    zips = ["face.zip", "face-2.zip", "face-3.zip", '"quoted" \\.zip', "at the end\\.zip"]
    assert made == dict(zip(zips, names, strict=True))


def test_the_shell_script_takes_names_that_begin_with_a_dash(script: Script, tmp_path: Path) -> None:
    (tmp_path / "-s.jpg").write_bytes(b"x")
    script.answers = [answer(200, b"PK")]
    command = [str(ROOT / "examples" / "look-alikes.sh"), "zips", "-s.jpg"]
    environment = os.environ | {"ADDRESS": script.address}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, "zips/-s.zip\n"), done.stderr


def test_the_shell_script_says_how_it_is_called(script: Script, tmp_path: Path) -> None:
    assert run_script(script, tmp_path).returncode == 2
    script.answers = [answer(200, b"PK")]
    done = run_script(script, tmp_path, tmp_path / "missing.jpg")
    assert done.returncode == 1
    assert "missing.jpg: there is no answer" in done.stderr
