"""The recognisers that judge: a list of them, the service's first, each with a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model_export.preparing.dataset import FaceSet
from model_export.training.config import RecognizerConfig, RecognizerWeights, TrainConfig
from model_export.training.data import Batches
from model_export.training.judges import open_judges
from model_export.training.processes import Processes
from model_export.training.trainer import Trainer
from tests.model_export.conftest import MODELS
from tests.model_export.tiny import TINY

CPU = torch.device("cpu")


def judged_by(*names: str) -> TrainConfig:
    """The tiny run, judged by further recognisers as well."""
    others = [
        RecognizerConfig(name=name, band=(0.4, 0.6), weights=RecognizerWeights(identity=1, evenness=2, band=3))
        for name in names
    ]
    return TINY.model_copy(update={"recognizers": (*TINY.recognizers, *others)})


@pytest.fixture
def batches(face_set: FaceSet) -> Batches:
    return Batches(face_set, 4, 0, CPU, Processes())


def test_each_needs_a_file(batches: Batches) -> None:
    with pytest.raises(ValueError, match="--recognizer dlib=FILE"):
        open_judges(judged_by("dlib"), MODELS, {}, batches)


def test_a_file_of_none_is_a_mistake(batches: Batches) -> None:
    with pytest.raises(ValueError, match="it has service"):
        open_judges(judged_by(), MODELS, {"dlib": MODELS / "face_recognizer.onnx"}, batches)


def test_a_step_counts_the_losses_of_each(face_set: FaceSet, dlib_weights: Path) -> None:
    even = [f"recognizers.{name}.weights.evenness=1" for name in ("service", "again")]
    config = judged_by("dlib", "again").changed(["batch=4", "warm_up=0", *even])
    files = {"dlib": dlib_weights, "again": MODELS / "face_recognizer.onnx"}
    learner = Trainer(config, face_set, MODELS, CPU, files)
    learner.images = 4
    report = learner.step()
    assert 0 < report["dlib_identity"] < 2
    assert report["dlib_band"] >= 0
    # It is the service's own, so it says what that says, but for the rounding of what `prepare` stored.
    assert report["again_identity"] == pytest.approx(report["service_identity"], abs=1e-3)
    assert report["again_evenness"] == pytest.approx(report["service_evenness"], abs=1e-3)
    walls = [each.band for each in config.recognizers]
    assert walls[0] != walls[2]
    assert report["again_band"] != report["service_band"], "each has a band of its own"
