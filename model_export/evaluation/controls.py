"""What do the controls do? Whether they can be read off a face, what each moves, and what else moves with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from app.core.faces import Bytes
from app.core.generate import CONTROL_SIZE, sweep_controls
from model_export.evaluation import effects, metrics
from model_export.evaluation.likeness import degrade
from model_export.evaluation.measured import Measured, measure_pictures
from model_export.evaluation.metrics import Array, as_json
from model_export.evaluation.sample import Sample
from model_export.evaluation.studio import in_chunks

LEAST_RESPONSE = 0.5
"""Of a reading per unit of its control, under which the control counts as dead in the rank correlation."""


@dataclass(frozen=True)
class Readings:
    """A fresh regressor, fitted on some faces, and what it reads off the others.

    Attributes:
        read: what `changes` gives [n, d] -> controls [n, 10].
        unread: [faces] bool, which it was not fitted on.
        values, truth: [unread, k, 10], what it reads and what was drawn.
    """

    read: Callable[[Array], Array]
    unread: Array
    values: Array
    truth: Array


@lru_cache(maxsize=1)
def readings(sample: Sample) -> Readings:
    """Fit a regressor on four fifths of the faces, and read the others."""
    images, controls = sample.variants.images, sample.variants.controls
    assert controls is not None
    unread = np.arange(len(images)) >= len(images) * 4 // 5
    seen = changes(sample, images, sample.redrawn.images[: sample.deep])
    # Faces stay together in the order of the samples, so the regressor's own check is on other faces as well.
    fitted = seen[~unread].reshape(-1, seen.shape[-1])
    read = metrics.fresh_reader(fitted, controls[~unread].reshape(-1, CONTROL_SIZE).astype(np.float64))
    truth = controls[unread].astype(np.float64)
    return Readings(read, unread, read(seen[unread].reshape(-1, seen.shape[-1])).reshape(truth.shape), truth)


def changes(sample: Sample, variants: Bytes, reconstructions: Bytes) -> Array:
    """What the regressor sees of degraded variants [n, k, ...] beside their reconstructions [n, ...]; [n, k, d]."""
    flat = variants.reshape(-1, *variants.shape[2:])
    seen = in_chunks(lambda part: sample.looks.details(degrade(part)), flat)
    plain = in_chunks(lambda part: sample.looks.details(degrade(part)), reconstructions)
    return seen.reshape(*variants.shape[:2], -1) - plain[:, None]


def measure(sample: Sample) -> dict[str, Any]:
    """Recoverability and disentanglement."""
    return {"control_recoverability": recoverability(sample), "disentanglement": disentanglement(sample)}


def recoverability(sample: Sample) -> dict[str, Any]:
    """A fresh regressor reads the controls off JPEG-85'd, blurred variants of faces it was not fitted on."""
    found, intervals = readings(sample), sample.intervals

    def scores(read: Array, true: Array) -> Array:
        return metrics.r_squared(read.reshape(-1, CONTROL_SIZE), true.reshape(-1, CONTROL_SIZE))

    pairs = (found.values, found.truth)
    by_control = [intervals.of(lambda r, t, i=i: float(scores(r, t)[i]), *pairs, cost=3) for i in range(CONTROL_SIZE)]
    figures = {
        "r2_worst": intervals.of(lambda r, t: float(scores(r, t).min()), *pairs).with_aim(">=", 0.9),
        "r2_mean": intervals.of(lambda r, t: float(scores(r, t).mean()), *pairs),
        "nats": intervals.of(lambda r, t: metrics.nats_of_uniform(scores(r, t)), *pairs).with_aim(">=", 9.7),
    }
    fit, rest = int((~found.unread).sum()), int(found.unread.sum())
    return {
        "regressor": f"kernel ridge, {fit} faces to fit, {rest} to score",
        **as_json(figures),
        "r2": [figure.with_aim(">=", 0.9).as_json() for figure in by_control],
    }


class Walk:
    """Every control walked from -1 to 1 on a few faces, the others at 0, and what was measured on the way.

    Args:
        sample: its faces that no regressor was fitted on are taken.
    """

    def __init__(self, sample: Sample) -> None:
        self._sample, self.steps = sample, sample.settings.steps
        self.places = np.flatnonzero(readings(sample).unread)[: sample.settings.sweep_faces]
        self.positions = np.linspace(-1, 1, self.steps)
        controls = np.concatenate([sweep_controls(control, self.steps) for control in range(CONTROL_SIZE)])
        faces = [
            sample.studio.decode(np.repeat(sample.identities[[place]], len(controls), axis=0), controls)[0]
            for place in self.places
        ]
        self.pictures = np.stack(faces)  # [faces, 10 * steps, 128, 128, 3]

    @property
    def grid(self) -> Bytes:
        """Pictures [faces, 10, steps, 128, 128, 3]."""
        return self.pictures.reshape(len(self.places), CONTROL_SIZE, self.steps, *self.pictures.shape[2:])

    @cached_property
    def read(self) -> Array:
        """What the regressor reads [faces, 10, steps, 10]."""
        sample = self._sample
        seen = changes(sample, self.pictures, sample.redrawn.images[self.places])
        read = readings(sample).read(seen.reshape(-1, seen.shape[-1]))
        return read.reshape(len(self.places), CONTROL_SIZE, self.steps, -1)

    @cached_property
    def effects(self) -> effects.Effects:
        """What each control was measured to do."""
        sample, grid, found = self._sample, self.grid, self.measured
        ends = [sample.looks.distance(grid[:, index, 0], grid[:, index, -1]).mean() for index in range(CONTROL_SIZE)]
        over_people = np.array(ends) / max(float(sample.people.mean()), 1e-9)
        return effects.effects(found.measurements, found.values, self.positions, found.deviations, over_people)

    @cached_property
    def measured(self) -> Measured:
        """All measurements along the way."""
        sample = self._sample
        found = measure_pictures(sample, self.pictures.reshape(-1, *self.pictures.shape[2:]))
        shape = (len(self.places), CONTROL_SIZE, self.steps, -1)
        return Measured(
            found.measurements, found.values.reshape(shape).transpose(1, 0, 2, 3), found.deviations, found.probe_score
        )


@lru_cache(maxsize=1)
def walk(sample: Sample) -> Walk:
    """The sweeps of a sample."""
    return Walk(sample)


def disentanglement(sample: Sample) -> dict[str, Any]:
    """Sweeps of every control: what it does, how steadily, and what else moves."""
    walked, found = walk(sample), readings(sample)
    positions, read = walked.positions, walked.read
    centred = positions - positions.mean()
    slopes = np.einsum("fcsk,s->fck", read, centred) / np.square(centred).sum()
    steady = np.stack([metrics.spearman(read[:, index, :, index], positions) for index in range(CONTROL_SIZE)], 1)
    # Ranks see the faintest trace: a control that hardly moves its own reading is dead all the same.
    steady = np.where(np.abs(np.diagonal(slopes.mean(0))) >= LEAST_RESPONSE, steady, 0.0)

    def gap(read: Array, true: Array) -> float:
        drawn, readings = true.reshape(-1, CONTROL_SIZE), read.reshape(-1, CONTROL_SIZE)
        return float(metrics.mutual_information_gap(drawn, readings).mean())

    of = sample.intervals.of
    figures = {
        "spearman": of(lambda rows: float(rows.mean()), steady).with_aim(">=", 0.95),
        "spearman_worst": of(lambda rows: float(rows.mean(0).min()), steady),
        "off_diagonal": of(lambda rows: metrics.off_diagonal(np.abs(rows).mean(0)), slopes).with_aim("<=", 0.1),
        "mutual_information_gap": of(gap, found.values, found.truth, cost=10, centred=True).with_aim(">=", 0.5),
    }
    moved = walked.effects
    return {
        "faces": len(walked.places),
        **as_json(figures),
        "age_of_control_1": age_of_the_first(sample, walked),
        "distance_of_ends_over_two_people": [_rounded(value) for value in moved.distance],
        "effects": {
            "measurements": [item.name for item in moved.measurements],
            "standard_deviations": [[_rounded(value) for value in row] for row in moved.size],
        },
    }


def age_of_the_first(sample: Sample, walked: Walk) -> dict[str, Any]:
    """Control 1 is trained to be age: by how many years it moves it, and how steadily."""
    age = [item.name for item in walked.effects.measurements].index("age")
    of_first, positions, of = walked.measured.values[0, :, :, age], walked.positions, sample.intervals.of
    return {
        **as_json(
            {
                "years": of(lambda rows: float(np.polyfit(positions, rows.mean(0), 1)[0] * 2), of_first),
                "spearman": of(lambda rows: float(metrics.spearman(rows, positions).mean()), of_first).with_aim(
                    ">=", 0.95
                ),
            }
        ),
        "probe_r2_on_held_out_people": walked.measured.probe_score,
        "age_effect_by_control": [_rounded(value) for value in walked.effects.size[:, age]],
    }


def named(sample: Sample) -> list[dict[str, str]]:
    """A name and a sentence for each control, after what it was measured to do."""
    return effects.name_controls(walk(sample).effects)


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
