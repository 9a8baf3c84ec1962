"""A run: that it learns, and that a resumed one is the one that was never stopped."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from model_export.networks.pretrained import PerceptualFeatures
from model_export.preparing.dataset import FaceSet
from model_export.training import judges, losses
from model_export.training.config import SHIPPED, TrainConfig
from model_export.training.step import critic_step, generator_step
from model_export.training.trainer import Trainer
from model_export.training.views import Dice
from tests.model_export.tiny import SMALL, small_models, trainer


def test_a_resumed_run_is_the_same_to_the_last_bit(face_set: FaceSet, tmp_path: Path) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        straight = trainer(face_set, "batch=4", "total_images=40")
        straight.fit_probe()
        reports = []
        for _ in range(5):
            reports.append(straight.step())
            if straight.images == 12:
                straight.save(tmp_path / "checkpoint.pt")
        second = trainer(face_set, "batch=4", "total_images=40")
        second.load(tmp_path / "checkpoint.pt")
        resumed = [second.step() for _ in range(2)]
    finally:
        torch.use_deterministic_algorithms(False)

    assert resumed == reports[3:]
    assert {"adversarial", "service_band", "discriminator", "penalty"} <= resumed[0].keys() | resumed[1].keys()
    for name, net in straight.networks.by_name.items():
        for key, value in net.state_dict().items():
            torch.testing.assert_close(second.networks.by_name[name].state_dict()[key], value, rtol=0, atol=0)


def test_a_resumed_run_trains_its_controls_at_the_rate_of_its_settings_by_now(
    face_set: FaceSet, tmp_path: Path
) -> None:
    trainer(face_set, "control_rate=2").save(tmp_path / "checkpoint.pt")
    resumed = trainer(face_set, "control_rate=5")
    resumed.load(tmp_path / "checkpoint.pt")
    resumed.networks.set_learning_rate(0.001)
    of_controls, of_others = resumed.networks.generator_optimiser.param_groups
    assert (of_controls["lr"], of_others["lr"]) == pytest.approx((0.005, 0.001))


def test_the_reconstruction_gets_better(face_set: FaceSet) -> None:
    learner = trainer(face_set, "batch=4", "total_images=10000", "learning_rate=2e-3", "perceptual_size=32")
    reports = [learner.step() for _ in range(36)]
    early, late = (np.mean([report["pixel"] for report in part]) for part in (reports[:4], reports[-8:]))
    assert late < 0.85 * early


def test_what_variants_have_too_much_of_is_counted_apart_from_reconstructions(face_set: FaceSet) -> None:
    learner = trainer(face_set, "total_images=80", "warm_up=0.1")
    kinds = len(learner.frozen.perceptual.pooled_sizes)
    for steps, varied in ((2, False), (1, True)):
        for _ in range(steps):
            learner.step()
        counted = [bool(value.any()) for value in learner.networks.bias.buffers()]
        assert counted == [True] * kinds + [varied] * kinds
    of_reconstructions, *_ = learner.networks.bias.buffers()
    of_variants = learner.networks.bias.get_buffer(f"mean_{kinds}")
    assert not torch.equal(of_reconstructions, of_variants)


def test_the_losses_of_a_step_are_those_that_count(face_set: FaceSet) -> None:
    learner = trainer(face_set, "batch=4", "warm_up=0", "weights.seams=0.5")
    learner.images = 4
    counting = {name for name, weight in learner.config.loss_weights.items() if weight}
    assert {"pixel", "seams", "adversarial", "service_band"} <= counting < learner.config.loss_weights.keys()
    assert learner.step().keys() - {"discriminator", "penalty"} == counting


def test_what_counts_nothing_is_not_computed(face_set: FaceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("it was computed")

    monkeypatch.setattr(losses, "phases", fail)
    trainer(face_set, "batch=4").step()
    with pytest.raises(AssertionError, match="it was computed"):
        trainer(face_set, "batch=4", "weights.phases=1").step()


def test_a_compiled_step_is_the_same_step(face_set: FaceSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the compiler without its last part, which would take a minute; it refuses second derivatives all the same."""
    # All blocks of the network that looks are of the same operators, and it took half of the time.
    monkeypatch.setattr(judges, "PerceptualFeatures", partial(PerceptualFeatures, stages=(0, 2)))
    reports = []
    for compiled in (False, True):
        learner = trainer(face_set, "batch=4", "warm_up=0")
        learner.images = 8
        if compiled:
            learner.compile(backend="aot_eager")
        reports.append(learner.step())
    assert {"adversarial", "service_band", "penalty"} <= reports[0].keys()
    assert reports[1] == pytest.approx(reports[0], rel=1e-3, abs=1e-5)


class LooseDice(Dice):
    """Without a seed, for a device that has no generators."""

    def __init__(self, device: torch.device) -> None:
        self._generator, self._device = None, device


def test_a_step_keeps_to_the_device_that_it_was_given(
    face_set: FaceSet, landmark_net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the device without values, which refuses most sums with tensors of another: not every machine has a GPU."""
    monkeypatch.setattr(torch, "autocast", lambda *_: nullcontext())
    config = TrainConfig.load(SHIPPED).judged_by(set()).model_copy(update={"networks": SMALL, "batch": 8})
    nowhere = torch.device("meta")
    run = Trainer(config, face_set, small_models(), nowhere, landmarks=[landmark_net])
    terms, views = generator_step(run.run, run.batches.after(0), LooseDice(nowhere), fade_in=1, turn=0)
    terms |= critic_step(run.run, views, with_penalty=True)
    assert {"steering", "matching", "service_bias", "penalty"} <= terms.keys()
    assert {value.device for value in terms.values()} == {nowhere}


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
