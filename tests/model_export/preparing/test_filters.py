"""Which faces are good enough."""

from dataclasses import replace

import pytest

from model_export.preparing.filters import Limits
from tests.model_export.preparing.made_up import GOOD

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
