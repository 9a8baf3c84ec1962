"""Which faces are good enough."""

from dataclasses import replace

import numpy as np
import pytest

from app.core.faces import EMBEDDING_SIZE
from model_export.preparing.choosing import Likeness, Wishes, choose
from model_export.preparing.filters import Limits
from model_export.preparing.labels import Labels
from model_export.preparing.pictures import SourceError
from tests.model_export.preparing.made_up import GOOD, candidate

NAN = float("nan")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"turn": 0.59}, ""),
        ({"turn": 0.61}, "profile"),
        ({"misfit": 0.17}, "points do not fit"),
        ({"misfit": 0.17, "turn": 0.5}, ""),  # the nose is where a turned face has it
        ({"misfit": 0.21, "turn": 0.5}, "points do not fit"),
        ({"cut_out": True}, "cut out on white"),
        ({"sharpness": 0.2}, "blurred"),
    ],
)
def test_each_measure_has_its_limit_and_turned_faces_fit_less_well(change, reason):
    assert Limits().reason(replace(GOOD, **change)) == reason


@pytest.mark.parametrize(
    ("labelled", "estimated", "reason"),
    [
        (17, 40, "minor"),
        (18, NAN, ""),
        (NAN, NAN, ""),
        (NAN, 21.9, "may be a minor"),
        (NAN, 22.1, ""),
        (30, 15, "labelled older than it looks"),
        (30, 17, ""),  # labels are believed within reason
    ],
)
def test_minors_are_left_out_by_label_and_by_looks(labelled, estimated, reason):
    assert Limits().too_young(labelled, estimated) == reason


def test_a_range_counts_by_its_young_end():
    faces = [candidate(row=0, labels=Labels(20.5, least_age=16)), candidate(row=1, labels=Labels(13, least_age=13))]
    with pytest.raises(SourceError, match="'minor': 2"):
        choose(faces, np.empty((0, EMBEDDING_SIZE), np.float32), Wishes(Limits(), Likeness(), {}, 0, False, {}))
