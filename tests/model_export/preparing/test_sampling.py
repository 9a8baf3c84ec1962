"""How often each face is drawn."""

import numpy as np
import pytest

from model_export.preparing.sampling import CAP, balance


def share(weights, values, value):
    chosen = np.array([one == value for one in values])
    return float(weights[chosen].sum() / weights.sum())


def test_every_cell_has_the_same_share_and_every_source_one_like_the_root_of_its_size():
    chance = np.random.default_rng(0)
    cells = chance.choice(["a", "b", "c"], 4000, p=[0.6, 0.25, 0.15]).tolist()
    sources = chance.choice(["large", "small"], 4000, p=[0.8, 0.2]).tolist()
    weights = balance(cells, sources, range(4000))
    assert weights.mean() == pytest.approx(1)
    for cell in "abc":
        assert share(weights, cells, cell) == pytest.approx(1 / 3, abs=0.001)
    large, small = sources.count("large") ** 0.5, sources.count("small") ** 0.5
    assert share(weights, sources, "large") == pytest.approx(large / (large + small), abs=0.001)


def test_no_face_is_drawn_too_often():
    cells = ["common"] * 990 + ["rare"] * 10
    weights = balance(cells, ["one"] * 1000, range(1000))
    assert weights.mean() == pytest.approx(1, abs=1e-6)
    assert weights.max() <= CAP
    assert weights[-1] == pytest.approx(CAP)


def test_the_many_pictures_of_one_person_are_drawn_less_often_each():
    weights = balance(["all"] * 12, ["one"] * 12, [0] * 9 + [1, 2, 3])
    assert weights[0] * 3 == pytest.approx(weights[-1])


def test_a_set_without_labels_of_one_source_is_drawn_evenly():
    assert balance([("", "")] * 5, [""] * 5, range(5)) == pytest.approx(np.ones(5))
