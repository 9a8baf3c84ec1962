"""Does who wears glasses wear them in the drawing, and nobody else? Judged by a probe on faces labelled by eye."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.model_selection import StratifiedKFold  # type: ignore[import-untyped]
from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from app.core.faces import Bytes
from model_export.evaluation.metrics import Array, as_json
from model_export.evaluation.sample import Sample, random_controls, still

LABELS = Path(__file__).with_name("glasses.csv")
"""Held-out faces of our set, by file name, and whether they wear glasses, clear or dark; labelled by eye."""
FEWEST = 10
"""Labelled faces with glasses, and without, below which nothing is measured."""
FOLDS = 10
EYES = slice(14, 62)
"""Rows of the frame, of 128, in which glasses are."""
LEAST = 0.95


def measure(sample: Sample) -> dict[str, Any]:
    """Agreement with the label, of photographs, of their redrawings and of a variant each.

    Each picture is judged by a probe that was not fitted on its photograph; what the probe makes of photographs is its
    own error. Of photographs alone the probe learns, so blur counts against the drawings too.
    """
    rows, worn = labelled(sample.test.names)
    if min(worn.sum(), (~worn).sum()) < FEWEST:
        return {}
    photographs = np.ascontiguousarray(sample.test.faces[rows])
    identities = sample.studio.encode(photographs)
    redrawn, _ = sample.studio.decode(identities, still(len(rows)))
    varied, _ = sample.studio.decode(identities, random_controls(len(rows), 1, sample.settings.seed)[:, 0])
    kinds = {"photographs": photographs, "redrawn": redrawn, "variants": varied}
    described = {kind: sample.looks.describe(strips(pictures))[0] for kind, pictures in kinds.items()}
    found = {kind: np.empty(len(rows), bool) for kind in kinds}
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=sample.settings.seed)
    for seen, unseen in folds.split(described["photographs"], worn):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
        probe.fit(described["photographs"][seen], worn[seen])
        for kind, answers in found.items():
            answers[unseen] = probe.predict(described[kind][unseen])
    mean = sample.intervals.mean
    figures = {f"{kind}_agree": mean(answers == worn) for kind, answers in found.items()}
    for kind in ("redrawn", "variants"):
        figures[f"{kind}_agree"] = figures[f"{kind}_agree"].with_aim(">=", LEAST)
        figures[f"{kind}_kept"] = mean(found[kind][worn])
        figures[f"{kind}_made_up"] = mean(found[kind][~worn])
    return {"glasses": {"faces": len(rows), "with_glasses": int(worn.sum()), **as_json(figures)}}


def labelled(names: list[str], labels: Path = LABELS) -> tuple[Array, Array]:
    """Rows of the set that have a label, and what it says [n] each."""
    with labels.open(newline="") as file:
        worn = {row["file"]: row["glasses"] == "1" for row in csv.DictReader(file)}
    rows = [row for row, name in enumerate(names) if name in worn]
    return np.array(rows, np.int64), np.array([worn[names[row]] for row in rows], bool)


def strips(pictures: Bytes) -> Bytes:
    """The part around the eyes of pictures [n, 128, 128, 3], drawn out to their size: there the probe looks closer."""
    side = pictures.shape[1]
    draw_out = partial(Image.Image.resize, size=(side, side), resample=Image.Resampling.BICUBIC)
    return np.stack([np.asarray(draw_out(Image.fromarray(picture[EYES]))) for picture in pictures])
