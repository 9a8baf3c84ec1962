"""Bands and what is done to photographs to try the judge."""

import numpy as np

from model_export.evaluation import likeness
from model_export.evaluation.metrics import Figure, Intervals
from model_export.evaluation.studio import Variants


def test_a_variant_is_in_band_below_or_above_it_and_the_judge_only_asks_for_enough():
    figures = {name: Figure(0.5, 0.5, 0.5) for name in likeness.RATES}
    found = likeness.Thresholds(figures, {name: Figure(0.6, 0.6, 0.6) for name in likeness.RATES})
    similarity = np.array([[0.4, 0.5, 0.6, 0.74], [0.45, 0.7, 0.8, 0.9]])
    judged = np.array([[0.9, 0.9, 0.1, 0.6], [0.9, 0.99, 0.1, 0.1]])
    rates = likeness.in_band(Variants(np.empty((2, 4)), similarity, judged), found, Intervals(20, 0))
    assert [rates[name].value for name in ("rate", "below", "above")] == [0.5, 0.25, 0.25]
    assert rates["judge_taken_for_the_person"].value == 5 / 8
    assert rates["in_band_and_taken_by_the_judge"].value == 3 / 8


def test_degrading_blurs_but_keeps_the_face(face_set):
    faces = np.ascontiguousarray(face_set.faces[:2])
    degraded = likeness.degrade(faces)
    assert degraded.shape == faces.shape
    change = np.abs(degraded.astype(float) - faces).mean()
    assert 0.5 < change < 15
