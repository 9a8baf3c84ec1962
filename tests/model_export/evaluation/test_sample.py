"""The controls that variants are drawn with."""

import numpy as np

from model_export.evaluation.sample import random_controls
from model_export.evaluation.settings import Settings


def test_each_question_has_random_numbers_of_its_own_that_the_seed_decides():
    first, again = (Settings(seed=3).chance("realism").random() for _ in range(2))
    assert first == again
    assert len({first, Settings(seed=3).chance("likeness").random(), Settings(seed=4).chance("realism").random()}) == 3


def test_controls_fill_the_cube_and_differ_from_face_to_face():
    controls = random_controls(40, 10, 0)
    assert controls.shape == (40, 10, 10)
    assert np.abs(controls).max() <= 1
    assert np.abs(controls).max() > 0.99
    assert not np.array_equal(controls[0], controls[1])
    assert np.array_equal(controls, random_controls(40, 10, 0))
