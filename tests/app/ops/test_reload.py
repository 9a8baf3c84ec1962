"""Another model without a restart: by SIGHUP and by POST, under load, and when the new one cannot be served."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest

from app.core.service import Service
from app.errors import ModelsInvalid
from app.keys import make_key
from app.settings import PACKAGE, Settings
from app.telemetry.metrics import Metrics
from tests.crowd import Crowd
from tests.patience import PATIENCE, until
from tests.server import Server

ROOT = PACKAGE.parent
KEY, ENTRY = make_key("operator")
ADMIN = {"X-API-Key": KEY}
DECODE = {
    "inputs": [
        {"name": "identity", "datatype": "FP32", "shape": [1, 70], "data": [0.0] * 70},
        {"name": "control", "datatype": "FP32", "shape": [1, 10], "data": [0.0] * 10},
    ]
}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped models, held still."""
    return shutil.copytree(PACKAGE / "models", tmp_path_factory.mktemp("shipped") / "models")


@pytest.fixture
def models(shipped: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes model directories of a given version, with networks exchanged."""

    def make(version: str, **exchanged: bytes) -> Path:
        folder = tmp_path / version
        folder.mkdir()
        manifest = json.loads((shipped / "manifest.json").read_text())
        manifest["version"] = version
        for role, file in manifest["files"].items():
            target = folder / file["file"]
            if role in exchanged:
                target.write_bytes(exchanged[role])
                file["sha256"] = hashlib.sha256(exchanged[role]).hexdigest()
            else:
                os.link(shipped / file["file"], target)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return make


@pytest.fixture
def link(tmp_path: Path) -> Callable[[Path], Path]:
    """Turns the link that is served to a directory, at one stroke, as a deployment does."""

    def turn(folder: Path) -> Path:
        new = tmp_path / "new"
        new.symlink_to(folder)
        return new.replace(tmp_path / "current")

    return turn


@pytest.fixture
def serving(serve: Callable[..., Server]) -> Callable[..., Server]:
    """Starts servers of a model directory that the operator's key may reload."""
    own = {"keys": ENTRY, "threads": 1, "batch_sizes": "1,2", "log_level": "warning"}
    return lambda models, **settings: serve(models=models, **(own | settings)).until_ready()


def version(server: Server) -> str:
    return httpx.get(f"{server.address}/v1/model", headers=ADMIN, timeout=PATIENCE).json()["version"]


def reload(server: Server) -> httpx.Response:
    return httpx.post(f"{server.address}/v1/model:reload", headers=ADMIN, timeout=PATIENCE)


class Clients(Crowd):
    """Four clients, of which two want variants and two have tensors decoded, and what they got."""

    def __init__(self, server: Server, photo: bytes) -> None:
        super().__init__([self._variants, self._tensors] * 2)
        self.answers: list[tuple[float, str]] = []
        """When each was asked, and the version of the model that answered."""
        self.failures: list[str] = []
        self._photo = photo
        self._client = httpx.Client(base_url=server.address, headers=ADMIN, timeout=PATIENCE)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._client.close()

    def _variants(self) -> None:
        def ask() -> str:
            answer = self._client.post(
                "/v1/variants", params={"count": 2}, content=self._photo, headers={"Content-Type": "image/jpeg"}
            )
            answer.raise_for_status()
            assert len(answer.json()["variants"]) == 2
            return answer.json()["model"]["version"]

        self._note(ask)

    def _tensors(self) -> None:
        def ask() -> str:
            answer = self._client.post("/v2/models/decoder/infer", json=DECODE)
            answer.raise_for_status()
            return answer.json()["model_version"]

        self._note(ask)

    def _note(self, ask: Callable[[], str]) -> None:
        asked = time.monotonic()
        try:
            self.answers.append((asked, ask()))
        except (httpx.HTTPError, AssertionError, KeyError) as error:
            self.failures.append(repr(error))


def test_no_request_fails_while_models_change(models, link, serving, photo: bytes):
    first, second = models("1.0.0"), models("2.0.0")
    broken = models("3.0.0")
    (broken / "decoder.onnx").unlink()
    (broken / "decoder.onnx").write_bytes((first / "decoder.onnx").read_bytes()[:-100])
    server = serving(link(first))
    with Clients(server, photo) as load:
        server.until(lambda: len(load.answers) > 10, "some were answered")
        link(second)
        server.process.send_signal(signal.SIGHUP)
        server.until(lambda: version(server) == "2.0.0", "the second was served")
        link(broken)
        server.process.send_signal(signal.SIGHUP)
        server.until(lambda: server.logged("model not reloaded"), "the broken one was refused")
        answer = reload(server)
        assert answer.status_code == 409
        assert answer.json()["type"].endswith("model-invalid")
        assert "decoder.onnx: sha256 is" in answer.json()["detail"]
        assert version(server) == "2.0.0"
        assert server.ready() == 200
        server.until(lambda: sum(version == "2.0.0" for _, version in load.answers) >= 4, "the second answered")
        link(first)
        answer = reload(server)
        assert answer.json() == {
            "model": {"name": "lookalike", "version": "1.0.0"},
            "previous": {"name": "lookalike", "version": "2.0.0"},
            "changed": True,
        }
        reloaded = time.monotonic()
        server.until(lambda: sum(asked > reloaded for asked, _ in load.answers) > 20, "more were answered")
    assert load.failures == []
    assert min(Counter(version for _, version in load.answers).values()) >= 4
    assert {version for _, version in load.answers} == {"1.0.0", "2.0.0"}
    assert {version for asked, version in load.answers if asked > reloaded} == {"1.0.0"}


def test_every_process_follows(models, link, serving):
    server = serving(link(models("1.0.0")), workers=2, log_level="info")

    def reloaded(wanted: str) -> list[str]:
        """What each process that serves a version now served before."""
        return [line["before"] for line in server.logged("model reloaded") if line["after"] == wanted]

    server.until(lambda: len(server.logged("Application startup complete.")) == 2, "both served")
    link(models("2.0.0"))
    server.process.send_signal(signal.SIGHUP)
    server.until(lambda: len(reloaded("2.0.0")) == 2, "both served the second")
    assert {version(server) for _ in range(12)} == {"2.0.0"}
    link(models("3.0.0"))
    assert reload(server).json()["changed"]
    # One reloaded for the request; for the signal that it then gives it finds nothing to do, and the other follows.
    server.until(lambda: sorted(reloaded("3.0.0")) == ["2.0.0", "3.0.0"], "both served the third")
    assert {version(server) for _ in range(12)} == {"3.0.0"}
    assert len(server.logged("Application startup complete.")) == 2, "no process was replaced"


def test_a_reload_needs_a_key(new_client):
    client = new_client(batch_sizes=(1,))
    assert client.post("/v1/model:reload").status_code == 403
    client = new_client(batch_sizes=(1,), keys=(ENTRY, make_key("guest")[1]), admin_keys=("operator",))
    assert client.post("/v1/model:reload").status_code == 401
    answer = client.post("/v1/model:reload", headers=ADMIN)
    assert answer.status_code == 200
    assert answer.json()["changed"] is False


@pytest.mark.parametrize("what", ["not a network", "another network", "truncated", "missing", "no manifest"])
def test_models_that_cannot_be_served_are_refused_by_name(models, link, shipped: Path, new_client, what: str):
    client = new_client(models=link(models("1.0.0")), batch_sizes=(1,), precision="float32", keys=(ENTRY,))
    exchanged = {
        "not a network": {"decoder": b"not a network"},
        "another network": {"decoder": (shipped / "encoder.onnx").read_bytes()},
    }
    bad = models("2.0.0", **exchanged.get(what, {}))
    name = "manifest.json" if what == "no manifest" else "decoder.onnx"
    if what in ("missing", "no manifest"):
        (bad / name).unlink()
    elif what == "truncated":
        (bad / name).unlink()
        (bad / name).write_bytes((shipped / name).read_bytes()[: 2**20])
    link(bad)
    answer = client.post("/v1/model:reload", headers=ADMIN)
    assert answer.status_code == 409
    assert name in answer.json()["detail"]
    assert client.get("/v1/model", headers=ADMIN).json()["version"] == "1.0.0"
    assert client.post("/v2/models/decoder/infer", json=DECODE, headers=ADMIN).json()["model_version"] == "1.0.0"


@pytest.mark.parametrize("file", ["encoder.onnx", "face_recognizer.onnx"])
def test_a_truncated_file_is_refused_at_start(models, file: str):
    folder = models("1.0.0")
    whole = (folder / file).read_bytes()
    (folder / file).unlink()
    (folder / file).write_bytes(whole[:-1])
    done = subprocess.run(
        [sys.executable, "-m", "app", "serve"],
        cwd=ROOT,
        env=os.environ | {"LOOKALIKE_MODELS": str(folder)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert f"{file}: sha256 is" in done.stderr
    assert "Traceback" not in done.stderr


def test_models_that_change_while_they_load_are_refused(models, monkeypatch: pytest.MonkeyPatch):
    folder = models("1.0.0")

    def change(*_: object) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"version": "1.0.1"}))

    monkeypatch.setattr("app.core.faces.Detector.warm", change)
    with pytest.raises(ModelsInvalid, match="changed while it was being loaded"):
        asyncio.run(Service(Settings(models=folder, device="cpu", batch_sizes=(1,)), Metrics()).start())


def test_old_models_serve_those_who_began_with_them_and_then_go(models, link, monkeypatch: pytest.MonkeyPatch):
    rows = np.zeros((1, 70), np.float32), np.zeros((1, 10), np.float32)

    async def scenario() -> None:
        passed = asyncio.Event()

        async def sleep(seconds: float) -> None:
            """The time until nobody may use them any more passes when the test has used them."""
            assert seconds > settings.deadline
            await passed.wait()

        monkeypatch.setattr("app.core.models.asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep}))
        settings = Settings(models=link(models("1.0.0")), device="cpu", batch_sizes=(1,), deadline=PATIENCE)
        service = Service(settings, Metrics())
        await service.start()
        old = service.engine
        link(models("2.0.0"))
        before, after = await service.reload()
        assert (before.version, after.version) == ("1.0.0", "2.0.0")
        assert service.engine is not old
        before_them = await old.decoder.run(*rows)
        np.testing.assert_array_equal(before_them[0], (await service.engine.decoder.run(*rows))[0])

        passed.set()

        def gone() -> bool:
            try:
                old._compute.submit(int)
            except RuntimeError as error:
                return "shutdown" in str(error)
            return False

        await asyncio.to_thread(until, gone, "the old ones were gone")
        await service.engine.decoder.run(*rows)
        await service.close()

    asyncio.run(scenario())
