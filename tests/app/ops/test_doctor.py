"""`python -m app doctor`: what is in force, and what is wrong, with a hint each."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.__main__ import main
from app.keys import make_key
from app.ops import doctor
from app.runtime.manifest import NETWORKS
from app.settings import PACKAGE
from tests.detail import with_detail


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"DEVICE": "cpu", "BATCH_SIZES": "1"}.items():
        monkeypatch.setenv(f"LOOKALIKE_{name}", value)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shipped models with every network that there can be, in force."""
    folder = with_detail(tmp_path / "models")
    monkeypatch.setenv("LOOKALIKE_MODELS", str(folder))
    return folder


def change(models: Path, **values: object) -> None:
    path = models / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def wrong() -> str:
    return "\n".join(f"{what} -> {hint}" for what, hint in doctor.examine().wrong)


def test_all_is_well(models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOOKALIKE_MAX_BYTES", "123456")
    change(models, version="7.8.9")
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "lookalike 7.8.9" in shown
    for file in NETWORKS.values():
        assert f"{file}, " in shown
    assert shown.count("checksum ok") == len(NETWORKS)
    rows = dict(line.split(maxsplit=1) for line in shown.splitlines() if line.startswith("  ") and "  " in line.strip())
    assert rows["taken"].strip() == "cpu"
    assert rows["LOOKALIKE_MAX_BYTES"].strip() == "123456"
    threshold = json.loads((models / "manifest.json").read_text())["thresholds"]["fmr_1e-3"]
    assert rows["fmr_1e-3"].strip() == f"{threshold:.3f}"
    assert shown.rstrip().endswith("all is well")


def test_from_a_shell(models: Path):
    (models / "encoder.onnx").write_bytes(b"")
    done = subprocess.run([sys.executable, "-m", "app", "doctor"], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 1
    assert "encoder.onnx, WRONG" in done.stdout
    assert "hint: Copy or export the models again" in done.stdout
    assert done.stdout.rstrip().endswith("1 wrong")
    assert "Traceback" not in done.stderr


def test_every_bad_file_is_named(models: Path):
    (models / "decoder.onnx").unlink()
    (models / "face_recognizer.onnx").write_bytes(b"another")
    found = wrong()
    assert "decoder.onnx: cannot be read" in found
    assert "face_recognizer.onnx: sha256 is" in found
    assert "encoder.onnx" not in found


@pytest.mark.parametrize(
    ("manifest", "said"), [(None, "cannot be read"), ("{", "Invalid JSON"), ("{}", "Field required")]
)
def test_a_bad_manifest(models: Path, manifest: str | None, said: str):
    (models / "manifest.json").unlink()
    if manifest is not None:
        (models / "manifest.json").write_text(manifest)
    assert "manifest.json: " in wrong()
    assert said in wrong()


def test_networks_of_something_else(models: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOOKALIKE_PRECISION", "float32")
    shutil.copy(models / "encoder.onnx", models / "decoder.onnx")
    files = json.loads((models / "manifest.json").read_text())["files"]
    files["decoder"]["sha256"] = files["encoder"]["sha256"]
    change(models, files=files)
    assert "decoder.onnx: its inputs are" in wrong()


def test_a_detail_stage_that_draws_something_else(models: Path):
    path = models / NETWORKS["detail"]
    stage = onnx.load(path)
    (red,) = (item for item in stage.graph.initializer if item.name == "red")
    red.CopyFrom(numpy_helper.from_array(np.array([90, 0, 0], np.float32), red.name))
    onnx.save(stage, path)
    files = json.loads((models / "manifest.json").read_text())["files"]
    files["detail"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    change(models, files=files)
    assert "The detail stage draws other faces" in wrong()


def test_a_model_without_figures_is_worth_knowing(models: Path):
    change(models, metrics={})
    report = doctor.examine()
    assert report.wrong == []
    assert any("measured quality" in what for what, _ in report.notes)


def test_settings_that_cannot_be(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOOKALIKE_PROT", "9000")
    assert "LOOKALIKE_PROT is not a setting; did you mean LOOKALIKE_PORT?" in wrong()
    monkeypatch.delenv("LOOKALIKE_PROT")
    monkeypatch.setenv("LOOKALIKE_PORT", "many")
    assert "LOOKALIKE_PORT: " in wrong()


def test_a_provider_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOOKALIKE_DEVICE", "cuda")
    monkeypatch.setattr("app.runtime.sessions._providers", lambda _: ["CPUExecutionProvider"])
    assert "CUDA execution provider was asked for but cannot be loaded" in wrong()
    assert "extra `cuda`" in wrong()


def test_a_gpu_that_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOOKALIKE_DEVICE", "auto")
    monkeypatch.setattr("app.runtime.sessions._gpu_present", lambda: False)
    monkeypatch.setattr(doctor, "GPUS", (str(tmp_path),))
    assert "There is a GPU, but CUDA does not load" in wrong()


def test_a_second_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = tmp_path / "onnxruntime-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.0\n")
    monkeypatch.setattr(doctor, "distributions", lambda: [PathDistribution(other)])
    assert "onnxruntime is installed besides onnxruntime-gpu" in wrong()


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "aarch64")])
def test_where_there_is_no_build_with_cuda_the_plain_one_is_right(
    system: str, machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plain = tmp_path / "onnxruntime-1.0.dist-info"
    plain.mkdir()
    (plain / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.0\n")
    monkeypatch.setattr(doctor, "distributions", lambda: [PathDistribution(plain)])
    monkeypatch.setattr(doctor.sys, "platform", system)
    monkeypatch.setattr(doctor.platform, "machine", lambda: machine)
    assert "is installed besides" not in wrong()


@pytest.mark.parametrize("sound", [True, False])
def test_what_the_service_would_not_start_without(models: Path, sound: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOOKALIKE_COHORT", str(models / "manifest.json"))
    monkeypatch.setenv("LOOKALIKE_JOBS", str(models / "manifest.json" / "jobs"))
    if not sound:
        change(models, controls=[])
    found = wrong()
    assert "manifest.json: is no cohort" in found
    assert "manifest.json/jobs: jobs cannot be kept there (Not a directory)" in found


def test_a_folder_for_jobs_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOOKALIKE_JOBS", str(tmp_path / "below" / "jobs"))
    assert wrong() == ""
    assert list(tmp_path.iterdir()) == []


def test_too_few_files(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    assert "100 files may be open, too few for 256 requests" in wrong()
    assert "ulimit -n 640" in wrong()


def test_access_is_told_without_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    key, entry = make_key("gate-7")
    monkeypatch.setenv("LOOKALIKE_KEYS", entry)
    monkeypatch.setenv("LOOKALIKE_RATE_LIMIT", "600/minute")
    monkeypatch.setenv("LOOKALIKE_RATE_STORE", "redis://:secret@127.0.0.1:1/0")
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "gate-7" in shown
    assert "store of rate limits at 127.0.0.1 does not answer" in shown
    assert "secret" not in shown
    assert key not in shown
    assert entry.partition(":")[2] not in shown


def test_an_open_door_is_worth_knowing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOOKALIKE_HOST", "0.0.0.0")
    assert any("Everybody who can reach 0.0.0.0:8000" in what for what, _ in doctor.examine().notes)
