"""Distances of looks."""

import numpy as np
import pytest

from model_export.evaluation.studio import Looks


def test_distance_of_a_face_to_itself_is_none_and_spread_is_the_mean_over_pairs(face_set):
    looks = Looks()
    faces = np.ascontiguousarray(face_set.faces[:3])
    assert looks.distance(faces, faces) == pytest.approx(np.zeros(3), abs=1e-6)
    pairs = [looks.distance(faces[[a]], faces[[b]])[0] for a, b in ((0, 1), (0, 2), (1, 2))]
    assert looks.spread(faces[None]) == pytest.approx([np.mean(pairs)], rel=1e-4)
