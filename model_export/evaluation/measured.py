"""Everything that is measured of a picture: what the probe of attributes, the landmarks and the pixels say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from app.core.faces import Bytes
from model_export.evaluation import effects, metrics
from model_export.evaluation.metrics import Array
from model_export.evaluation.sample import Described, Sample
from model_export.evaluation.studio import in_chunks
from model_export.networks.probes import GROUPS, AttributeProbe

LANDMARK_FACES = 200
"""Photographs that say how much landmarks differ between people."""


@dataclass(frozen=True)
class Measured:
    """What was measured of pictures.

    Attributes:
        measurements: [m] what.
        values: [..., m] of each picture.
        deviations: [m] over photographs of held-out people.
        probe_score: R^2 of the probe's age on held-out people; None without ages.
    """

    measurements: tuple[effects.Measurement, ...]
    values: Array
    deviations: Array
    probe_score: float | None


def measure_pictures(sample: Sample, pictures: Bytes) -> Measured:
    """Attributes, landmarks and appearance of pictures [n, 128, 128, 3], beside those of photographs."""
    probe = Probe(sample, sample.reference)
    own = probe(sample.described.pooled)
    values = np.column_stack(
        [
            probe(sample.looks.describe(pictures)[0]),
            effects.measure_landmarks(sample.detector, pictures),
            in_chunks(effects.measure_appearance, pictures),
        ]
    )
    landmarks = effects.measure_landmarks(sample.detector, sample.sources[:LANDMARK_FACES])
    appearance = in_chunks(effects.measure_appearance, sample.sources)
    deviations = np.concatenate([own.std(0), np.nanstd(landmarks, axis=0), appearance.std(0)])
    everything = (*probe.attributes, *effects.LANDMARKS, *effects.APPEARANCE)
    ages = sample.test.ages[sample.rows].astype(np.float64)
    told = ~np.isnan(ages)
    score = None
    if probe.fitted and told.sum() > 2:
        score = float(f"{metrics.r_squared(own[told, :1], ages[told, None])[0]:.3g}")
    return Measured(everything, values, deviations, score)


class Probe:
    """Reads age in years, gender and group off pooled features, as the labels of training faces say.

    Args:
        sample: its training faces are fitted on.
        reference: which of them, and their features.
    """

    def __init__(self, sample: Sample, reference: Described) -> None:
        train = sample.train
        self.attributes = effects.attributes(train.gender_names, train.group_names[:GROUPS])
        self._probe = AttributeProbe(reference.pooled.shape[1])
        self._mean, self._deviation = 0.0, 1.0
        known = ~np.isnan(train.ages[reference.rows])
        self.fitted = bool(known.sum() >= 50)
        if self.fitted:
            labels = [values[reference.rows][known] for values in (train.ages, train.genders, train.groups)]
            self._probe.fit(torch.from_numpy(reference.pooled[known]), *labels)
            self._mean, self._deviation = float(labels[0].mean()), float(labels[0].std())

    def __call__(self, pooled: Array) -> Array:
        """Attributes [n, a] of pooled features [n, d]."""
        values = (torch.from_numpy(pooled) - self._probe.mean) @ self._probe.weight + self._probe.bias
        columns = values.numpy()[:, : len(self.attributes)].astype(np.float64)
        columns[:, 0] = columns[:, 0] * self._deviation + self._mean
        return columns
