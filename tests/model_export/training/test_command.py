"""`train`: it trains, stops, goes on, and takes its settings from where it says."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model_export.preparing.dataset import FaceSet
from model_export.training import command
from model_export.training.config import RECIPES, SHIPPED, TrainConfig
from model_export.training.loop import RunFolder
from model_export.training.trainer import Trainer
from tests.model_export.conftest import MODELS
from tests.model_export.tiny import TINY, TRAINED, save_prepared, small_models


def command_line(face_set: FaceSet, folder: Path) -> list[str]:
    """The words after `train` for a tiny run on these faces, everything in `folder`."""
    save_prepared(face_set, folder)
    recipe = folder / "tiny.json"
    models = small_models()
    recipe.write_text(TINY.changed(["batch=4"]).model_dump_json())
    return [str(folder), str(folder / "run"), "--recipe", str(recipe), "--models", str(models), "--device", "cpu"]


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def images_of(run: Path) -> int:
    images: int = torch.load(run / "checkpoint.pt", weights_only=True)["images"]
    return images


def test_the_command_trains_stops_resumes_and_leaves_sheets(face_set: FaceSet, tmp_path: Path) -> None:
    common = command_line(face_set, tmp_path)
    for limit in (4, 8):
        assert command.run(parsed(*common, "--max-images", str(limit))) == 0
        assert images_of(tmp_path / "run") == limit
    assert command.run(parsed(*common, "--max-seconds", "0")) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "held_out_psnr" in line]  # a slow machine writes others between
    assert [line["images"] for line in lines] == [4, 8, 8]
    assert all(0 < line["held_out_psnr"] < 60 for line in lines)
    assert len(list((tmp_path / "run").glob("sheet-*.png"))) == 2


def test_no_more_faces_than_it_is_told_may_be_none(face_set: FaceSet, tmp_path: Path) -> None:
    assert command.run(parsed(*command_line(face_set, tmp_path), "--max-images", "0")) == 0
    assert images_of(tmp_path / "run") == 0


def test_a_set_that_holds_nobody_out_is_trained_on_without_sheets(face_set: FaceSet, tmp_path: Path) -> None:
    words = command_line(face_set, tmp_path)
    for array in tmp_path.glob("*.npy"):
        np.save(array, np.load(array)[:TRAINED])
    table = (tmp_path / "faces.csv").read_text().splitlines()
    (tmp_path / "faces.csv").write_text("\n".join(table[: TRAINED + 1]) + "\n")
    assert command.run(parsed(*words, "--max-images", "4")) == 0
    assert images_of(tmp_path / "run") == 4
    assert not list((tmp_path / "run").glob("sheet-*.png"))


def test_a_full_disk_leaves_a_run_its_settings(
    face_set: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, run = command_line(face_set, tmp_path), RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(TINY.changed(["batch=4"]).model_dump_json())

    def write_half(path: Path, text: str, *_: object, **__: object) -> int:
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", write_half)
    with pytest.raises(OSError, match="no space left"):
        command.run(parsed(*words, "--max-images", "0"))
    assert TrainConfig.load(run.config) == TINY.changed(["batch=4"])


def test_sigterm_stops_the_command_with_its_work_saved(
    face_set: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = command_line(face_set, tmp_path)
    step = Trainer.step

    def step_and_terminate(self: Trainer) -> dict[str, float]:
        report = step(self)
        if self.images == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return report

    monkeypatch.setattr(Trainer, "step", step_and_terminate)
    before = signal.getsignal(signal.SIGTERM)
    assert command.run(parsed(*common, "--max-images", "1000")) == 128 + signal.SIGTERM
    assert images_of(tmp_path / "run") == 8
    assert signal.getsignal(signal.SIGTERM) == before


def test_two_processes_of_torchrun_stay_alike(face_set: FaceSet, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    torchrun += ["-m", "model_export", "train", *command_line(face_set, tmp_path), "--max-images", "16"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(torchrun, capture_output=True, text=True, env=environment, cwd=MODELS.parents[1], timeout=300)
    assert done.returncode == 0, done.stderr
    # 16 faces at 4 a process are two steps of two processes.
    assert images_of(tmp_path / "run") == 16


def test_a_run_that_starts_from_models_is_their_recipe_judged_by_the_recognisers_that_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped, run = TrainConfig.load(SHIPPED), RunFolder(tmp_path / "run")
    words = ["data", str(run.path), "--start-from", str(MODELS)]
    assert command.settings(run, parsed(*words)) == shipped.judged_by(set()).unsteered()
    said = capsys.readouterr().out
    assert "--recognizer dlib=FILE" in said
    assert "--landmarks FILE" in said
    words += ["--recognizer", "dlib=a.json", "--landmarks", "b.onnx"]
    found = command.settings(run, parsed(*words, "--set", "batch=2"))
    assert "--landmarks" not in capsys.readouterr().out
    assert found == shipped.judged_by({"dlib"}).changed(["batch=2"])
    assert [each.name for each in found.recognizers] == ["service", "dlib"]


def test_a_run_that_starts_from_nothing_is_the_recipe_for_that(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    from_nothing = TrainConfig.load(RECIPES / "from_nothing.json")
    assert command.settings(run, parsed("data", str(run.path))) == from_nothing != TrainConfig.load(SHIPPED)


def test_a_recipe_that_is_named_is_taken_as_it_is(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert command.settings(run, parsed("data", "run", "--recipe", "shipped")) == TrainConfig.load(SHIPPED)


def test_a_run_that_is_there_keeps_its_settings(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config.write_text(TINY.model_dump_json())
    for more in ([], ["--recipe", "shipped"], ["--start-from", str(MODELS)]):
        assert command.settings(run, parsed("data", str(tmp_path), *more)) == TINY


@pytest.mark.parametrize("wrong", [("--recipe", "shiped"), ("--recognizer", "dlib"), ("--recognizer", "=a.json")])
def test_what_cannot_be_meant_is_refused(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("data", "run", *wrong)
    assert ("there are from_nothing, shipped" if wrong[0] == "--recipe" else "not NAME=FILE") in capsys.readouterr().err


def test_a_run_starts_from_exported_models(face_set: FaceSet, tmp_path: Path) -> None:
    save_prepared(face_set, tmp_path)
    run = tmp_path / "run"
    words = [str(tmp_path), str(run), "--models", str(MODELS), "--start-from", str(MODELS), "--device", "cpu"]
    assert command.run(parsed(*words, "--set", "batch=2", "--max-images", "2")) == 0
    assert TrainConfig.load(run / "config.json") == TrainConfig.load(SHIPPED).judged_by(set()).unsteered().changed(
        ["batch=2"]
    )
    # A slow machine leaves lines of losses before the last, which is the sheet's.
    line = json.loads((run / "stats.jsonl").read_text().splitlines()[-1])
    assert line["held_out_similarity"] > 0.6, "the astronaut, redrawn by the shipped decoder"
