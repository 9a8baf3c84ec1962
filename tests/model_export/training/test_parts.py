"""Training in stretches on a machine from which only small files come back, here on the CPU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from model_export.__main__ import main
from model_export.exporting import export as exporting
from model_export.exporting.served import ServedDecoder, ServedEncoder
from model_export.preparing.dataset import FaceSet
from model_export.preparing.packing import pack
from model_export.training import command, parts
from model_export.training.loop import RunFolder
from model_export.training.trainer import Trainer
from tests.model_export.conftest import MODELS
from tests.model_export.tiny import TINY, save_prepared, small_models, trainer

STEP_SECONDS = 300


def state_of(run: Path) -> dict:
    return torch.load(run / "checkpoint.pt", weights_only=True)


@pytest.fixture
def words(face_set: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A tiny run on the packed set; every step takes five minutes of a clock of its own."""
    prepared, recipe = tmp_path / "prepared", tmp_path / "tiny.json"
    prepared.mkdir()
    save_prepared(face_set, prepared)
    pack(prepared, tmp_path / "packed", part_bytes=200_000)
    assert len(list((tmp_path / "packed").iterdir())) > 1
    recipe.write_text(TINY.changed(["batch=4"]).model_dump_json())
    now, step = [0.0], Trainer.step

    def slow_step(self: Trainer) -> dict[str, float]:
        now[0] += STEP_SECONDS
        return step(self)

    monkeypatch.setattr(Trainer, "step", slow_step)
    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return ["--recipe", str(recipe), "--models", str(small_models()), "--device", "cpu", "--max-seconds", "480"]


def write(networks: exporting.Networks, out: Path, inputs: exporting.Inputs) -> dict[str, float]:
    """Only as far as it shows that the networks draw; test_export.py has graphs, which take long to write."""
    image, identity, control = inputs.examples("image", "identity", "control").values()
    ServedEncoder(networks.encoder, networks.recognizer).eval()(image)
    ServedDecoder(networks.decoder).eval()(identity, control)
    for name in ("encoder.onnx", "decoder.onnx"):
        shutil.copy(MODELS / name, out)
    return {}


def test_stretches_go_on_from_each_other_and_what_they_deliver_is_exported_and_trained_on(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ["train", str(tmp_path / "packed")]
    there, delivered, here = tmp_path / "there", tmp_path / "delivered", tmp_path / "here"
    assert main([*train, str(there), *words]) == 0
    assert state_of(there)["images"] == 8, "two steps of five minutes, of four faces each"
    assert main([*train, str(there), *words, "--deliver", str(delivered)]) == 0
    whole = state_of(there)
    assert whole["images"] == 16

    files = list(delivered.iterdir())
    assert len(files) <= 8
    assert max(file.stat().st_size for file in files) <= 16 * 2**20
    assert {"config.json", "stats.jsonl", "sheet-00000016.png"} < {file.name for file in files}

    assert parts.main([str(delivered), str(here)]) == 0
    joined = state_of(here)
    assert joined.keys() == {"images", "networks"}
    for name, values in whole["networks"].items():
        for key, value in values.items():
            torch.testing.assert_close(joined["networks"][name][key].float(), value, rtol=1e-3, atol=1e-6)

    monkeypatch.setattr(exporting, "write_graphs", write)
    assert main(["export", str(here), str(tmp_path / "exported"), "--models", str(MODELS)]) == 0
    manifest = json.loads((tmp_path / "exported" / "manifest.json").read_text())
    assert manifest["training"]["faces_seen"] == 16

    assert main([*train, str(here), *words]) == 0
    assert state_of(here)["images"] == 24
    assert len(state_of(here)["optimisers"]) == 2


def test_what_is_no_whole_delivery_is_refused(
    face_set: FaceSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner, run = trainer(face_set), RunFolder(tmp_path / "run")
    made = parts.deliver(learner, run, tmp_path / "made", part_bytes=50_000)
    assert len(made) > 2
    learner.images = 8
    parts.deliver(learner, run, tmp_path / "later", part_bytes=50_000)

    def refused(folder: Path) -> str:
        assert parts.main([str(folder), str(run.path)]) == 2
        assert not run.checkpoint.exists()
        return capsys.readouterr().err

    mixed = shutil.copytree(tmp_path / "made", tmp_path / "mixed")
    for part in (tmp_path / "later").iterdir():
        shutil.copy(part, mixed)
    assert "2 deliveries" in refused(mixed)
    lacking = shutil.copytree(tmp_path / "made", tmp_path / "lacking")
    (lacking / made[1].name).unlink()
    assert f"{len(made) - 1} of {len(made)} parts" in refused(lacking)
    damaged = shutil.copytree(tmp_path / "made", tmp_path / "damaged")
    (damaged / made[1].name).write_bytes(b"\0" * made[1].stat().st_size)
    assert "damaged" in refused(damaged)
    assert parts.main([str(tmp_path / "made"), str(run.path)]) == 0
    assert parts.main([str(tmp_path / "later"), str(run.path)]) == 2
    assert "there already" in capsys.readouterr().err


def test_a_delivery_replaces_the_one_before(face_set: FaceSet, tmp_path: Path) -> None:
    learner, run = trainer(face_set), RunFolder(tmp_path / "run")
    before = parts.deliver(learner, run, tmp_path / "made")
    learner.images = 8
    after = parts.deliver(learner, run, tmp_path / "made")
    assert before != after
    assert sorted((tmp_path / "made").iterdir()) == after
