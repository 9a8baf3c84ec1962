"""Kinds of photographs, of pictures of which one knows the kind; and the bound of principal components."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from model_export.evaluation import bounds, difficult, texture
from model_export.evaluation.metrics import Intervals


def sample_of(pictures, turns=None, **others):
    rows = np.arange(len(pictures))
    turns = np.zeros(len(rows)) if turns is None else turns
    return SimpleNamespace(
        sources=pictures,
        rows=rows,
        test=SimpleNamespace(turns=turns),
        mesh=None,
        intervals=Intervals(20, 0),
        settings=SimpleNamespace(seed=0),
        **others,
    )


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(90, 180, (40, 128, 128, 3), np.uint8)


def test_turned_blurred_and_dark_faces_are_told_from_usual_ones(pictures):
    turns = np.zeros(40)
    turns[3] = 0.6
    for row in (5, 6, 7, 8):
        pictures[row] = Image.fromarray(pictures[row]).filter(ImageFilter.GaussianBlur(3))
    pictures[10:14] //= 3
    pictures[10:14] += np.random.default_rng(1).integers(0, 60, (4, 128, 128, 3), np.uint8)
    kinds = dict(difficult.kinds_of(sample_of(pictures, turns)))
    assert np.flatnonzero(kinds["turned"]).tolist() == [3]
    assert np.flatnonzero(kinds["blurred"]).tolist() == [5, 6, 7, 8]
    assert np.flatnonzero(kinds["dark"]).tolist() == [10, 11, 12, 13]
    assert kinds["usual"].sum() == 40 - 9
    assert "open_mouth" not in kinds


def test_redrawings_are_doubted_below_what_nearly_all_faces_reach_that_are_not_turned(pictures):
    drawn, turns = pictures.copy(), np.zeros(40)
    drawn[4, 20:56, 16:112] = 255 - drawn[4, 20:56, 16:112]
    drawn[7], turns[7] = 255 - drawn[7], 0.6
    found = difficult.least_agreement(sample_of(pictures, turns, redrawn=SimpleNamespace(images=drawn)))
    assert found["eyes"] < 0.5
    assert found["mouth"] == pytest.approx(1)


def test_principal_components_give_back_what_lies_in_their_span():
    chance = np.random.default_rng(2)
    basis = chance.normal(0, 12, (5, 128, 128, 3))
    faces = np.clip(np.rint(np.tensordot(chance.normal(0, 1, (60, 5)), basis, 1) + 128), 0, 255).astype(np.uint8)
    others = chance.integers(0, 255, (10, 128, 128, 3), np.uint8)
    known = {"train": SimpleNamespace(faces=faces[:50]), "reference": SimpleNamespace(rows=np.arange(50))}
    within = bounds.measure(sample_of(faces[50:], **known))["principal_components"]
    without = bounds.measure(sample_of(others, **known))["principal_components"]
    assert within["components"] == 49
    assert within["psnr"]["value"] > 35
    assert without["psnr"]["value"] < 15


def test_a_tint_of_grey_photographs_is_measured_and_taken_off(pictures):
    pictures[:6] = pictures[:6, :, :, :1]
    drawn = pictures.copy()
    drawn[..., 2] += 9
    found = texture.greyness(sample_of(pictures, redrawn=SimpleNamespace(images=drawn)))
    assert found["photographs"] == 6
    assert found["networks"]["value"] == pytest.approx(9)
    assert found["served"]["value"] == 0
    assert found["served"]["met"]


def test_no_grey_photograph_is_no_figure(pictures):
    pictures[:, :40, :, 0] += 60
    assert texture.greyness(sample_of(pictures)) == {"photographs": 0}
