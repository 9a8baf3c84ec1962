"""The gate: how many images are waited for at once, and when to try again."""

from __future__ import annotations

import asyncio

import pytest

from app.errors import Overloaded
from app.runtime import batching
from app.runtime.batching import Gate


class Clock:
    """In place of the module `time`."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_a_gate_lets_in_whole_requests_only() -> None:
    gate = Gate(10)
    with gate.hold(6):
        with pytest.raises(Overloaded) as refusal, gate.hold(5):
            pytest.fail("it was let in")
        assert 1 <= refusal.value.retry_after <= 60
        with gate.hold(4):
            assert gate.full
    assert gate.held == 0


def test_a_gate_is_left_on_failure_too() -> None:
    gate = Gate(10)

    async def fail() -> None:
        with gate.hold(10):
            await asyncio.sleep(0)
            raise ValueError("as such things go")

    with pytest.raises(ValueError, match="as such things go"):
        asyncio.run(fail())
    assert gate.held == 0


@pytest.mark.parametrize("rest", [0.0, 3600.0])
def test_a_rest_does_not_count_as_slow_work(rest: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(batching, "time", clock)
    gate = Gate(512)
    for _ in range(300):
        with gate.hold(8):
            clock.now += 0.5  # 16 images a second
    clock.now += rest
    with gate.hold(512):
        assert gate.retry_after() == pytest.approx(512 / 2 / 16, abs=1)
        clock.now += 256 * 0.5
        assert gate.retry_after() == pytest.approx(2 * 512 / 2 / 16, abs=1)


def test_requests_side_by_side_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(batching, "time", clock)
    gate = Gate(512)
    for _ in range(300):
        with gate.hold(8), gate.hold(8):
            clock.now += 1
    with gate.hold(512):
        assert gate.retry_after() == pytest.approx(512 / 2 / 16, abs=1)
