import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.band import BandSearch
from app.core.generate import CONTROL_SIZE, sample_controls, sweep_controls


def test_random_controls_follow_the_seed() -> None:
    assert np.array_equal(sample_controls(5, 8, 1), sample_controls(5, 8, 1))
    assert not np.array_equal(sample_controls(5, 8, 1), sample_controls(6, 8, 1))


def test_the_first_controls_do_not_depend_on_how_many_follow() -> None:
    assert np.array_equal(sample_controls(5, 3, 1), sample_controls(5, 64, 1)[:3])


@pytest.mark.parametrize("strength", [0, 0.25, 1])
def test_random_controls_fill_the_cube_of_their_strength(strength: float) -> None:
    controls = sample_controls(1, 64, strength)
    assert controls.shape == (64, CONTROL_SIZE)
    assert controls.dtype == np.float32
    assert np.abs(controls).max() <= strength
    assert np.abs(controls).max() >= 0.98 * strength


def test_a_sweep_walks_one_control() -> None:
    controls = sweep_controls(3, 5)
    assert controls[:, 3].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert not np.delete(controls, 3, axis=1).any()


def similarity_of(controls: np.ndarray, slope: float) -> np.ndarray:
    """A person whose likeness falls linearly with the distance of the control."""
    return 1 - slope * np.linalg.norm(controls, axis=1).astype(float)


def run(search: BandSearch, slope: float) -> tuple[list[np.ndarray], int]:
    found, rounds = [], 0
    while not search.done:
        controls = search.propose()
        hits = search.report(similarity_of(controls, slope))
        found += list(controls[hits])
        rounds += 1
    return found, rounds


@pytest.mark.parametrize("slope", [0.05, 0.1, 0.3, 0.5])
@pytest.mark.parametrize(("near", "far"), [(0.1, 0.2), (0.3, 0.5), (0.6, 0.7), (0.85, 1.0)])
def test_a_search_finds_a_band_wherever_the_cube_has_it(slope: float, near: float, far: float) -> None:
    """The band lies between two distances from 0, in units of the farthest corner's."""
    corner = slope * CONTROL_SIZE**0.5
    low, high = 1 - far * corner - 1e-6, 1 - near * corner
    search = BandSearch(seed=3, count=16, strength=1, low=low, high=high, rounds=8)
    found, _ = run(search, slope)
    assert len(found) == search.found == 16
    scores = similarity_of(np.array(found), slope)
    assert ((scores >= low) & (scores <= high)).all()
    assert search.tries <= 5 * 16


def test_an_easy_band_costs_no_more_than_plain_sampling() -> None:
    search = BandSearch(seed=3, count=16, strength=1, low=-1, high=1, rounds=8)
    found, rounds = run(search, 0.1)
    assert (search.tries, rounds) == (16, 1)
    assert np.array_equal(np.array(found), sample_controls(3, 16, 1))


def test_a_search_for_the_impossible_ends() -> None:
    search = BandSearch(seed=3, count=16, strength=1, low=2, high=3, rounds=8)
    found, rounds = run(search, 0.1)
    assert (found, rounds) == ([], 8)
    assert search.tries <= 8 * 16


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 20),
    st.floats(0, 1),
    st.floats(-1, 1),
    st.floats(0, 1),
    st.integers(1, 10),
)
def test_a_search_is_bounded_and_stays_in_its_cube(
    seed: int, count: int, strength: float, low: float, width: float, rounds: int
) -> None:
    search = BandSearch(seed, count, strength, low, low + width, rounds)
    taken = 0
    while not search.done:
        controls = search.propose()
        assert 1 <= len(controls) <= count - search.found
        assert np.abs(controls).max() <= np.float32(strength)
        search.report(similarity_of(controls, 0.4))
        taken += 1
    assert taken <= rounds
    assert search.found <= count
