"""A training run small enough for tests: narrow networks, small batches, the losses of a run from nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model_export.networks.generator import NetworkConfig
from model_export.preparing.dataset import FaceSet
from model_export.training.config import RECIPES, SHIPPED, TrainConfig
from model_export.training.trainer import Trainer
from tests.model_export.conftest import MODELS

SMALL = NetworkConfig(
    encoder=(8, 8, 8, 8), decoder=(16, 16, 16, 8, 8), refine=4, style=16, critic=8, recover=(8, 8, 8, 8)
)
TRAINED, HELD_OUT = 48, 3
"""Faces of a prepared set. Every look at a run draws each that is held out nine times, and recognises what it drew."""
SIZES = TrainConfig.load(SHIPPED).networks
"""Of the networks that are shipped."""

TINY = TrainConfig.load(RECIPES / "from_nothing.json").model_copy(
    update={
        "batch": 8,
        "total_images": 160,
        "warm_up": 0.1,
        "perceptual_size": 64,
        "penalty_every": 2,
        "networks": SMALL,
    }
)


def trainer(face_set: FaceSet, *settings: str, **recognizers: Path) -> Trainer:
    """A run of the tiny settings but for some `KEY=JSON`."""
    return Trainer(TINY.changed(list(settings)), face_set, MODELS, torch.device("cpu"), recognizers)


def save_prepared(face_set: FaceSet, folder: Path) -> None:
    """Write a part of a face set as `prepare` does."""
    for name in ("faces", "embeddings", "embeddings_mirrored"):
        np.save(folder / f"{name}.npy", getattr(face_set, name)[: TRAINED + HELD_OUT])
    lines = ["row,file,split,age,gender,group,cluster,grey"]
    for row, name in enumerate(face_set.names[: TRAINED + HELD_OUT]):
        split = "train" if row < TRAINED else "test"
        gender, group = face_set.gender_names[face_set.genders[row]], face_set.group_names[face_set.groups[row]]
        lines.append(f"{row},{name},{split},{face_set.ages[row]:.0f},{gender},{group},{row},0")
    (folder / "faces.csv").write_text("\n".join(lines) + "\n")
    (folder / "report.json").write_text("{}")
