"""Training: its schedules, that it learns, that a resumed run is the run that was never stopped."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.model_export.test_networks import SMALL
from torch import nn

from model_export.preparing.dataset import FaceSet
from model_export.training import command, losses
from model_export.training.command import TrainConfig, Trainer, jitter, override
from tests.model_export.conftest import MODELS

TINY = TrainConfig(batch=8, total_images=160, warm_up=0.1, perceptual_size=64, penalty_every=2, networks=SMALL)


def trainer(face_set: FaceSet, config: TrainConfig = TINY) -> Trainer:
    return Trainer(config, face_set, MODELS, torch.device("cpu"))


def save_prepared(face_set: FaceSet, folder: Path) -> None:
    """Write a face set as `prepare` does."""
    for name in ("faces", "embeddings", "embeddings_mirrored"):
        np.save(folder / f"{name}.npy", getattr(face_set, name))
    lines = ["row,file,split,age,gender,group,cluster,grey"]
    for row, name in enumerate(face_set.names):
        split = "train" if row < 48 else "test"
        gender, group = face_set.gender_names[face_set.genders[row]], face_set.group_names[face_set.groups[row]]
        lines.append(f"{row},{name},{split},{face_set.ages[row]:.0f},{gender},{group},{row},0")
    (folder / "faces.csv").write_text("\n".join(lines) + "\n")
    (folder / "report.json").write_text("{}")


def command_line(face_set: FaceSet, folder: Path) -> list[str]:
    """The words after `train` for a tiny run on these faces, everything in `folder`."""
    save_prepared(face_set, folder)
    config = folder / "tiny.json"
    config.write_text(json.dumps(asdict(TINY)))
    return [str(folder), str(folder / "run"), "--config", str(config), "--models", str(MODELS), "--device", "cpu"]


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def test_a_resumed_run_is_the_same_to_the_last_bit(face_set: FaceSet, tmp_path: Path) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        straight = trainer(face_set)
        straight.fit_probe()
        reports = [straight.step() for _ in range(6)]

        first = trainer(face_set)
        first.fit_probe()
        for _ in range(3):
            first.step()
        first.save(tmp_path / "checkpoint.pt")
        second = trainer(face_set)
        second.load(tmp_path / "checkpoint.pt")
        resumed = [second.step() for _ in range(3)]
    finally:
        torch.use_deterministic_algorithms(False)

    assert resumed == reports[3:]
    assert {"adversarial", "band", "discriminator"} <= resumed[-1].keys()
    for name, net in straight.networks.items():
        for key, value in net.state_dict().items():
            torch.testing.assert_close(second.networks[name].state_dict()[key], value, rtol=0, atol=0)


def test_the_reconstruction_gets_better(face_set: FaceSet) -> None:
    learner = trainer(face_set, replace(TINY, total_images=10_000, learning_rate=2e-3))
    reports = [learner.step() for _ in range(80)]
    early, late = (np.mean([report["pixel"] for report in part]) for part in (reports[:4], reports[-4:]))
    assert late < 0.8 * early


def test_what_variants_have_too_much_of_is_counted_apart_from_reconstructions(face_set: FaceSet) -> None:
    learner = trainer(face_set)
    kinds = len(learner.perceptual.pooled_sizes)
    for everything in (False, True):
        while (learner.config.everything(learner.images) > 0) is not everything:
            learner.step()
        learner.step()
        counted = [bool(value.any()) for value in learner.bias.buffers()]
        assert counted == [True] * kinds + [everything] * kinds
    of_reconstructions, *_ = learner.bias.buffers()
    of_variants = learner.bias.get_buffer(f"mean_{kinds}")
    assert not torch.equal(of_reconstructions, of_variants)


def test_recognisers_see_half_of_the_faces_mirrored_and_compare_them_with_mirrored_photographs(
    face_set: FaceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, wanted = {}, {}
    identity = losses.identity
    for mirror in (False, True):
        learner = trainer(face_set, replace(TINY, warm_up=0.0, mirror=mirror))
        learner.images = TINY.batch  # past the warm-up

        def look(images: torch.Tensor, mirror: bool = mirror, net: nn.Module = learner.recognizer) -> torch.Tensor:
            seen[mirror] = images.detach()
            found: torch.Tensor = net(images)
            return found

        def compare(found: torch.Tensor, target: torch.Tensor, mirror: bool = mirror) -> torch.Tensor:
            wanted[mirror] = target
            return identity(found, target)

        monkeypatch.setattr(learner, "recognizer", look)
        monkeypatch.setattr(losses, "identity", compare)
        _, plain, other_way = learner.batch()
        learner.step()
    same = (seen[True] == seen[False]).flatten(1).all(1)
    turned = (seen[True] == seen[False].flip(3)).flatten(1).all(1)
    assert torch.equal(same, ~turned)
    of_faces = turned[: TINY.batch]
    assert 0 < of_faces.sum() < TINY.batch
    assert torch.equal(turned[TINY.batch :], of_faces[[0, 1, 0, 1]]), "a variant is seen as its face is"
    assert torch.equal(wanted[False], plain)
    assert torch.equal(wanted[True], torch.where(of_faces[:, None], other_way, plain))


def test_every_face_is_seen_once_a_round(face_set: FaceSet) -> None:
    learner = trainer(face_set)
    for start in (0, len(face_set)):
        rows = [learner._row(start + place) for place in range(len(face_set))]
        assert sorted(rows) == list(range(len(face_set)))


def test_a_checkpoint_is_replaced_in_one_move(
    face_set: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = trainer(face_set)
    path = tmp_path / "checkpoint.pt"
    learner.save(path)
    before = path.read_bytes()

    def fail(_: object, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        learner.save(path)
    assert path.read_bytes() == before


def test_the_command_trains_stops_resumes_and_leaves_sheets(face_set: FaceSet, tmp_path: Path) -> None:
    common = command_line(face_set, tmp_path)
    for limit in (16, 32):
        assert command.run(parsed(*common, "--max-images", str(limit))) == 0
        state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
        assert state["images"] == limit
    assert command.run(parsed(*common, "--max-seconds", "0")) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "held_out_psnr" in line]  # a slow machine writes others between
    assert [line["images"] for line in lines] == [16, 32, 32]
    assert all(0 < line["held_out_psnr"] < 60 for line in lines)
    assert len(list((tmp_path / "run").glob("sheet-*.png"))) == 2


def test_sigterm_stops_the_command_with_its_work_saved(
    face_set: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = command_line(face_set, tmp_path)
    step = Trainer.step

    def step_and_terminate(self: Trainer) -> dict[str, float]:
        report = step(self)
        if self.images == 3 * TINY.batch:
            os.kill(os.getpid(), signal.SIGTERM)
        return report

    monkeypatch.setattr(Trainer, "step", step_and_terminate)
    before = signal.getsignal(signal.SIGTERM)
    assert command.run(parsed(*common, "--max-images", "1000")) == 128 + signal.SIGTERM
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["images"] == 3 * TINY.batch
    assert signal.getsignal(signal.SIGTERM) == before


def test_two_processes_of_torchrun_stay_alike(face_set: FaceSet, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    command += ["-m", "model_export", "train", *command_line(face_set, tmp_path), "--max-images", "32"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=MODELS.parents[1], timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    # 32 faces at 8 a process are two steps of two processes.
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["images"] == 32


def test_schedules_depend_on_images_alone() -> None:
    config = TrainConfig(total_images=1000, warm_up=0.2)
    assert config.rate(0) < config.rate(10)
    assert config.rate(20) > config.rate(500) > config.rate(1000) == pytest.approx(config.final_rate)
    assert [config.everything(images) for images in (0, 200, 300, 400, 1000)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert config.ema_decay(0, 16) == pytest.approx(0.5)
    assert config.ema_decay(1_000_000, 16) > 0.999


def test_settings_can_be_changed_by_name_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    config = override(TrainConfig(), ["batch=4", "focus=[1,2,3,4]", "weights.band=7", "networks.decoder=[8,8,8,8,8]"])
    assert (config.batch, config.focus) == (4, (1, 2, 3, 4))
    assert (config.weights["band"], config.networks.decoder) == (7.0, (8, 8, 8, 8, 8))
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    assert TrainConfig.load(tmp_path / "config.json") == config
    for wrong in ("bach=4", "weights.bend=1", "networks.deep=3"):
        with pytest.raises(ValueError, match="no setting"):
            override(config, [wrong])


def test_a_run_that_starts_from_models_takes_the_settings_they_were_trained_with(
    face_set: FaceSet, tmp_path: Path
) -> None:
    settings = json.loads((MODELS / "manifest.json").read_text())["training"]["settings"]
    # What came later than the models is off.
    settings = (
        {"mirror": False} | settings | {"weights": dict.fromkeys(TrainConfig().weights, 0.0) | settings["weights"]}
    )
    assert json.loads(json.dumps(asdict(TrainConfig.of_models(MODELS)))) == settings
    assert any(settings["weights"][f"{other}_band"] for other in ("second", "third"))

    save_prepared(face_set, tmp_path)
    run = tmp_path / "run"
    words = [str(tmp_path), str(run), "--models", str(MODELS), "--start-from", str(MODELS), "--device", "cpu"]
    assert command.run(parsed(*words, "--set", "batch=2", "--max-images", "2")) == 0
    weights = {
        name: 0.0 if name.startswith(("second_", "third_")) else weight for name, weight in settings["weights"].items()
    }
    found = json.loads((run / "config.json").read_text())
    assert found == settings | {"batch": 2, "weights": weights}


def test_models_that_say_nothing_of_their_settings_give_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    assert TrainConfig.of_models(tmp_path) == TrainConfig()


def test_jitter_without_zoom_is_the_picture_and_with_shift_moves_it() -> None:
    images = torch.rand(2, 3, 32, 32)
    zero = torch.zeros(2, 1)
    torch.testing.assert_close(jitter(images, zero, torch.zeros(2, 2), 32), images, atol=1e-5, rtol=1e-5)
    shift = torch.tensor([[0.0, 0.0], [0.0, 1 / 32]])
    moved = jitter(images, zero, shift, 32)
    torch.testing.assert_close(moved[1, :, :, :-1], images[1, :, :, 1:], atol=1e-5, rtol=1e-5)
    halved = jitter(images, zero, torch.zeros(2, 2), 16)
    assert halved.mean().item() == pytest.approx(images.mean().item(), abs=0.01)


def test_jitter_blurs_each_picture_by_its_own_width() -> None:
    images = torch.rand(2, 3, 32, 32)
    zero = torch.zeros(2, 1)
    same, blurred = jitter(images, zero, torch.zeros(2, 2), 32, torch.tensor([[1.0], [2.5]]))
    torch.testing.assert_close(same, images[0], atol=1e-5, rtol=1e-5)
    assert blurred.std() < images[1].std() / 3
    assert blurred.mean().item() == pytest.approx(images[1].mean().item(), abs=0.01)


def test_the_probe_reads_a_label_that_the_features_hold() -> None:
    from model_export.networks.probes import AttributeProbe

    random = np.random.default_rng(0)
    pooled = torch.randn(400, 24, dtype=torch.float32)
    ages = (40 + 10 * pooled[:, 0]).numpy()
    probe = AttributeProbe(24)
    scores = probe.fit(pooled, ages, random.integers(0, 2, 400), random.integers(0, 5, 400))
    assert scores["age"] > 0.95
    assert scores["gender"] < 0.2
