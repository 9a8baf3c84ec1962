"""Which pairs are compared, where there are far more than are wanted."""

from __future__ import annotations

import numpy as np
import pytest

from app.audit.pairing import _impostors


@pytest.mark.parametrize("photographs", [200, 4000], ids=["chosen of all", "drawn"])
def test_of_many_impostors_as_many_are_taken_as_may_be(photographs: int) -> None:
    """Of 200 photographs every pair is listed; of 4,000 there are millions, of which pairs are drawn."""
    people = np.arange(photographs) // 2
    found = _impostors(people, 5000, 0)
    assert found.shape == (5000, 2)
    assert len(np.unique(found, axis=0)) == 5000
    assert (found[:, 0] < found[:, 1]).all()
    assert (people[found[:, 0]] != people[found[:, 1]]).all()
    # Of all photographs alike, and not the first of them.
    assert found.mean() == pytest.approx(photographs / 2, rel=0.05)
    assert np.array_equal(found, _impostors(people, 5000, 0))
    assert not np.array_equal(found, _impostors(people, 5000, 1))
