"""Controls that are steered by landmarks, judges in turns, what is trained, and losses that forbid a grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model_export.networks.landmarks import FEATURES
from model_export.preparing.dataset import FaceSet
from model_export.training import losses, step
from model_export.training.config import SHIPPED, RecognizerConfig, RecognizerWeights, TrainConfig
from model_export.training.data import Batches
from model_export.training.processes import Processes
from model_export.training.step import wanted_changes
from model_export.training.trainer import Trainer
from tests.model_export.tiny import TINY, small_models

CPU = torch.device("cpu")
STEERED = TrainConfig.load(SHIPPED)


def tiny(*settings: str) -> TrainConfig:
    """The steered recipe with tiny networks."""
    small = STEERED.model_copy(
        update={"networks": TINY.networks, "perceptual_size": 64, "recognizers": STEERED.recognizers[:1]}
    )
    return small.changed(["batch=4", *settings])


def run(config: TrainConfig, face_set: FaceSet, landmark_net: Path, **files: Path) -> Trainer:
    return Trainer(config, face_set, small_models(), CPU, files, [landmark_net])


def test_a_step_of_the_steered_recipe_counts_all_its_losses(face_set: FaceSet, landmark_net: Path) -> None:
    learner = run(tiny(), face_set, landmark_net)
    learner.images = 4  # the first step of all draws no variants yet
    report = learner.step()
    counted = {name for name, weight in learner.config.loss_weights.items() if weight}
    assert counted <= report.keys()
    assert all(np.isfinite(value) for value in report.values())
    assert report["steering"] > 0


def test_landmarks_are_placed_only_where_they_count(
    face_set: FaceSet, landmark_net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    genuine = step.measure
    monkeypatch.setattr(step, "measure", lambda *given: measured.append(1) or genuine(*given))
    for settings, times in ((["weights.steering=0", "weights.landmarks=0"], 0), (["weights.landmarks=1"], 1)):
        measured.clear()
        learner = run(tiny(*settings), face_set, landmark_net)
        learner.images = 4
        learner.step()
        assert len(measured) == times


def test_the_discriminator_has_a_head_for_pixels_where_so_asked(face_set: FaceSet, landmark_net: Path) -> None:
    """It sees what the frozen networks, whose first stride is two, cannot: single pixels."""
    heads = {}
    for width in (0, 4):
        learner = run(tiny(f"networks.pixel_critic={width}"), face_set, landmark_net)
        learner.images = 4
        before = [value.clone() for value in learner.networks.discriminator.heads[-1].parameters()]
        learner.step()
        after = list(learner.networks.discriminator.heads[-1].parameters())
        assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        heads[width] = learner.networks.discriminator.heads
    assert len(heads[4]) == len(heads[0]) + 1
    pixels = torch.zeros(1, 3, 64, 64, requires_grad=True)
    heads[4][-1](pixels).mean().backward()
    assert pixels.grad is not None
    assert pixels.grad[0, 0, 8:-8, 8:-8].abs().min() > 0


def test_steering_needs_a_network_that_places_landmarks(face_set: FaceSet) -> None:
    with pytest.raises(ValueError, match="--landmarks FILE"):
        Trainer(tiny(), face_set, small_models(), CPU)


def test_only_what_controls_go_through_is_trained_where_so_asked(face_set: FaceSet, landmark_net: Path) -> None:
    learner = run(tiny('train="controls"'), face_set, landmark_net)
    nets = {"encoder": learner.networks.encoder, "decoder": learner.networks.decoder}
    learner.images = 4
    before = {f"{net}.{name}": value.clone() for net in nets for name, value in nets[net].named_parameters()}
    learner.step()
    learner.step()
    changed = {
        name for net in nets for key, value in nets[net].named_parameters()
        if not torch.equal(before[name := f"{net}.{key}"], value)
    }  # fmt: skip
    assert changed
    assert all(name.startswith("decoder.") and "control" in name for name in changed), changed


def test_judges_look_in_turns(face_set: FaceSet, landmark_net: Path) -> None:
    again = RecognizerConfig(name="again", band=(0.4, 0.6), weights=RecognizerWeights(identity=1))
    config = tiny()
    config = config.model_copy(update={"recognizers": (*config.recognizers, again)})
    learner = run(config, face_set, landmark_net, again=small_models() / "face_recognizer.onnx")
    looked = [{name.partition("_")[0] for name in learner.step() if name.endswith("_identity")} for _ in range(3)]
    assert looked == [{"service"}, {"again"}, {"service"}]


def test_a_checkpoint_keeps_the_paces(face_set: FaceSet, landmark_net: Path, tmp_path: Path) -> None:
    first = run(tiny(), face_set, landmark_net)
    first.step()
    first.save(tmp_path / "checkpoint.pt")
    second = run(tiny(), face_set, landmark_net)
    second.load(tmp_path / "checkpoint.pt")
    second.networks.set_learning_rate(0.001)
    rates = [group["lr"] for group in second.networks.generator_optimiser.param_groups]
    assert rates == pytest.approx([0.005, 0.001])
    assert second.step() == pytest.approx(first.step(), rel=1e-3, abs=1e-3)


def test_a_control_is_asked_for_its_feature_and_what_follows_it() -> None:
    steering = STEERED.steering
    assert steering is not None
    wanted, counts = wanted_changes(steering)
    row = wanted[steering.controls.index("face_width")]
    assert row[FEATURES.index("face_width")] == pytest.approx(steering.step)
    assert row[FEATURES.index("jaw_width")] == pytest.approx(0.6 * steering.step)
    assert (wanted != 0).sum() == len(steering.controls) + 1
    assert counts[FEATURES.index("turn")] == pytest.approx(steering.others)
    control = torch.zeros(1, 10)
    control[0, 1 + steering.controls.index("chin")] = 1
    right, still = wanted[[steering.controls.index("chin")]], torch.zeros(1, len(FEATURES))
    assert losses.steering(right, control, wanted, counts) == 0
    assert losses.steering(still, control, wanted, counts) > 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('steering.controls=["chin"]', "9 features are needed"),
        ('steering.follow={"ears": {"chin": 1}}', "no feature 'ears'"),
        ("steering=null", "nothing is steered"),
        ("pairs=false", "wants pairs"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        STEERED.changed([setting])


def test_faces_are_drawn_by_their_weights(face_set: FaceSet) -> None:
    weights = np.zeros(len(face_set), np.float32)
    weights[:4] = 1
    weights[4] = 4
    batches = Batches(replace(face_set, weights=weights), 4, 0, CPU, Processes(), balanced=True)
    rows = [batches.row(index) for index in range(40 * len(face_set))]
    counts = np.bincount(rows, minlength=len(face_set))
    assert counts[5:].sum() == 0
    np.testing.assert_allclose(counts[:5] / len(rows), [0.125, 0.125, 0.125, 0.125, 0.5], atol=0.03)
    assert rows == [batches.row(index) for index in range(40 * len(face_set))]


def test_a_grid_of_period_two_costs(face_set: FaceSet) -> None:
    smooth = torch.nn.functional.interpolate(torch.rand(2, 3, 16, 16) * 2 - 1, size=(128, 128), mode="bicubic")
    noise = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 0.05
    doubled = noise[..., ::2].repeat_interleave(2, dim=3)
    assert losses.phases(smooth + doubled) > 4 * losses.phases(smooth + noise)
    assert losses.phases((smooth + doubled).transpose(2, 3)) > 4 * losses.phases(smooth + noise)


def test_a_seam_costs() -> None:
    plain = torch.randn(4, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 0.1
    torn = plain.clone()
    torn[..., 64:] += 0.2
    assert losses.seams(torn) > 4 * losses.seams(plain)


def test_a_point_that_was_not_found_pulls_no_more() -> None:
    points = torch.zeros(1, 68, 2, requires_grad=True)
    target = torch.zeros(1, 68, 2)
    target[0, 0] = 0.5
    target[0, 1] = 0.01
    losses.landmarks(points, target, limit=0.1).backward()
    assert points.grad is not None
    assert points.grad[0, 0].abs().sum() == 0
    assert points.grad[0, 1].abs().sum() > 0
