"""The command line itself: options of `serve`, a port that is taken, pipes that close, JSON for programs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app.__main__ import main
from app.keys import Keyring
from app.ops import listen
from app.settings import Settings
from app.telemetry.metrics import SHARED
from tests.patience import PATIENCE, until
from tests.ports import Port

ROOT = Path(__file__).parents[2]


def start(*arguments: str, **streams: object) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOKALIKE_")}
    environment |= {"LOOKALIKE_DEVICE": "cpu", "LOOKALIKE_BATCH_SIZES": "1", "LOOKALIKE_PORT": "1"}
    command = [sys.executable, "-m", "app", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, start_new_session=True, **streams)  # type: ignore[call-overload]


def test_options_of_serve_come_before_the_environment():
    kept = Port()
    port = kept.number
    process = start("serve", "--host", "127.0.0.1", "--port", str(port), "--workers", "2", stderr=subprocess.DEVNULL)

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def alive() -> None:
        assert process.poll() is None

    try:
        until(ready, "it was ready", alive)
        assert len(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()) >= 2
    finally:
        os.killpg(process.pid, 15)
        assert process.wait(PATIENCE) == 0
        kept.release()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--port", "70000"], "--port: Input should be less than or equal to 65535"),
        (["--port", "x"], "--port: Input should be a valid integer"),
        (["--workers", "0"], "--workers: Input should be greater than or equal to 1"),
        (["--host", "192.0.2.1", "--port", "0"], "192.0.2.1:0: this machine has no address 192.0.2.1"),
        (
            ["--host", "no.such.invalid", "--port", "0"],
            "no.such.invalid:0: this machine has no address no.such.invalid",
        ),
        (["--host", "\u00fc" * 70, "--port", "0"], "\u00fc" * 70 + ":0: this machine has no address"),
    ],
    ids=["port", "no-port", "workers", "address", "name", "no-name"],
)
def test_what_serve_cannot_do_is_said_of_the_option(
    options: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in ("HOST", "PORT", "WORKERS"):
        monkeypatch.setenv(f"LOOKALIKE_{name}", {"HOST": "127.0.0.1", "PORT": "0", "WORKERS": "1"}[name])
    assert main(["serve", *options]) == 2
    assert f"lookalike: {sentence}" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["file", "file/below", "file/below/deeper"])
def test_a_folder_for_jobs_that_cannot_be_is_named(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    for name, value in {"PORT": "0", "JOBS": str(tmp_path / place)}.items():
        monkeypatch.setenv(f"LOOKALIKE_{name}", value)
    assert main(["serve"]) == 2
    assert f"lookalike: {tmp_path / place}: jobs cannot be kept there (Not a directory)" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_is_named(workers: str):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start("serve", "--port", str(port), "--workers", workers, stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert said == (
        f"lookalike: 127.0.0.1:{port}: port {port} is taken by another program; end that one, or give another port "
        "with --port (LOOKALIKE_PORT), 0 for a free one.\n"
    )


def test_a_file_that_cannot_be_written_is_not_taken_for_the_address(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SHARED, "/nowhere")
    process = start("serve", "--port", "0", stderr=subprocess.PIPE)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert said.splitlines()[-1] == f"lookalike: /nowhere/counter_{process.pid}.db: No such file or directory."


def test_other_reasons_have_words_too():
    assert "above 1023" in listen.explained("127.0.0.1", 80, PermissionError(13, "Permission denied"))
    assert listen.explained("::1", 1, OSError(5, "Input/output error")) == "[::1]:1: Input/output error"


@pytest.mark.parametrize("arguments", [["settings"], ["openapi"], ["augment", "--help"], ["key", "camera"]])
def test_a_pipe_that_closes_leaves_no_traceback(arguments: list[str]):
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*arguments, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == (0 if "--help" in arguments else 141)
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full device")
def test_a_full_disk_is_said_in_a_line():
    with open("/dev/full", "w") as full:
        process = start("settings", stdout=full, stderr=subprocess.PIPE)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert said == "lookalike: No space left on device.\n"


def test_settings_and_keys_for_programs(capsys: pytest.CaptureFixture[str]):
    assert main(["settings", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["variable"] for row in rows] == [f"LOOKALIKE_{name.upper()}" for name in Settings.model_fields]
    assert main(["key", "camera-7", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert Keyring([made["line"]]).name_of(made["key"]) == made["name"] == "camera-7"


def test_doctor_for_programs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOOKALIKE_MODELS", "/nowhere")
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["models"]["directory"] == "/nowhere"
    assert any("/nowhere" in item["what"] and item["hint"] for item in found["wrong"])
