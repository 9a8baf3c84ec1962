"""The batcher, on a function that stands for a network: it doubles numbers and remembers the batches it saw."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import pytest

from app.errors import ComputationFailed, DeadlineExceeded
from app.runtime.batching import TURN, Batcher
from tests.patience import PATIENCE, until

POISON, NAN = -1.0, -2.0


class Network:
    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray]:
        self.begun.set()
        assert self.go.wait(PATIENCE)
        self.batches.append(rows[:, 0].tolist())
        if POISON in rows:
            raise RuntimeError("poisoned")
        return (np.where(rows == NAN, np.nan, rows * 2),)


def ignore(name: str, rows: int) -> None:
    """Metrics do not matter here."""


@asynccontextmanager
async def batching(
    network: Network, sizes: tuple[int, ...] = (1, 2, 4, 8), pad: bool = False, lanes: int = 1
) -> AsyncIterator[Batcher]:
    with ThreadPoolExecutor(lanes) as executor:
        batcher = Batcher("double", network, sizes, pad, executor, lanes, ignore, ignore)
        batcher.start()
        try:
            yield batcher
        finally:
            network.go.set()
            await batcher.close()


def rows(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


async def held(network: Network, batcher: Batcher) -> asyncio.Task[object]:
    """Occupy the network with one row, so that what follows has to wait and be batched together."""
    network.go.clear()
    task = asyncio.create_task(batcher.run(rows(0)))
    assert await asyncio.to_thread(network.begun.wait, PATIENCE)
    assert batcher.waiting == 0
    return task


async def queued(batcher: Batcher, count: int) -> None:
    """Wait until so many rows wait for a network that is held."""
    await asyncio.to_thread(until, lambda: batcher.waiting == count, f"{count} rows were waiting")


def test_rows_come_back_in_order() -> None:
    async def scenario() -> None:
        async with batching(Network()) as batcher:
            (result,) = await batcher.run(rows(*range(21)))
            assert result[:, 0].tolist() == [2 * value for value in range(21)]

    asyncio.run(scenario())


def test_a_lone_request_does_not_wait_for_company() -> None:
    network = Network()

    async def scenario() -> None:
        async with batching(network) as batcher:
            await asyncio.wait_for(batcher.run(rows(7)), PATIENCE)
        assert network.batches == [[7]]

    asyncio.run(scenario())


def test_requests_that_wait_share_a_batch() -> None:
    network = Network()

    async def scenario() -> None:
        async with batching(network) as batcher:
            first = await held(network, batcher)
            others = [asyncio.create_task(batcher.run(rows(value, value + 0.5))) for value in (1, 2, 3, 4)]
            await queued(batcher, 8)
            network.go.set()
            await asyncio.gather(first, *others)
        assert network.batches == [[0], [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5]]

    asyncio.run(scenario())


@pytest.mark.parametrize(("pad", "batches"), [(False, [[1, 2, 3, 4], [5, 6], [7]]), (True, [[1, 2, 3, 4, 5, 6, 7, 1]])])
def test_batches_are_cut_on_a_cpu_and_filled_on_a_gpu(pad: bool, batches: list[list[float]]) -> None:
    network = Network()

    async def scenario() -> None:
        async with batching(network, pad=pad) as batcher:
            (result,) = await batcher.run(rows(1, 2, 3, 4, 5, 6, 7))
            assert result[:, 0].tolist() == [2, 4, 6, 8, 10, 12, 14]
        assert network.batches == batches

    asyncio.run(scenario())


SIZES = (2, 3, 4, 5)


@pytest.mark.parametrize(
    ("sizes", "lanes", "count", "lengths"),
    [
        *((SIZES, 1, *each) for each in [(1, [2]), (3, [3]), (5, [5]), (6, [2, 4]), (9, [4, 5]), (11, [2, 4, 5])]),
        *((SIZES, 2, *each) for each in [(2, [2]), (3, [3]), (4, [2, 2]), (5, [2, 3])]),
        ((2, 8), 1, 9, [2, 8]),  # these leave no choice
    ],
)
def test_no_row_is_left_alone_that_would_have_to_be_filled_up(
    sizes: tuple[int, ...], lanes: int, count: int, lengths: list[int]
) -> None:
    network = Network()

    async def scenario() -> None:
        async with batching(network, sizes, lanes=lanes) as batcher:
            (result,) = await batcher.run(rows(*range(count)))
            assert result[:, 0].tolist() == [2 * value for value in range(count)]

    asyncio.run(scenario())
    assert sorted(len(batch) for batch in network.batches) == lengths


def test_what_waits_is_counted_as_it_comes_is_taken_and_goes() -> None:
    network = Network()

    async def scenario() -> None:
        async with batching(network) as batcher:
            first = await held(network, batcher)
            kept, gone = batcher.begin(rows(1, 2, 3)), batcher.begin(rows(4, 5))
            assert batcher.waiting == 5
            gone.drop()
            gone.drop()
            assert batcher.waiting == 3
            network.go.set()
            (result,) = await kept.all()
            assert result[:, 0].tolist() == [2, 4, 6]
            await first
            kept.drop()
            assert batcher.waiting == 0
        assert all(4 not in batch for batch in network.batches)

    asyncio.run(scenario())


def test_a_large_request_does_not_starve_a_small_one() -> None:
    network = Network()
    finished: list[str] = []

    async def scenario() -> None:
        async with batching(network) as batcher:
            first = await held(network, batcher)

            async def ask(name: str, count: int) -> None:
                await batcher.run(rows(*[1] * count))
                finished.append(name)

            tasks = [asyncio.create_task(ask("large", 64)), asyncio.create_task(ask("small", 1))]
            await queued(batcher, 65)
            network.go.set()
            await asyncio.gather(first, *tasks)
        assert finished == ["small", "large"]
        assert len(network.batches) <= 2 + 64 // 8 + 1

    asyncio.run(scenario())


def test_small_requests_are_finished_one_after_another() -> None:
    """Were they to advance together, the first would have to wait for the last."""
    network = Network()

    async def scenario() -> None:
        async with batching(network, sizes=(1, 2, 4)) as batcher:
            first = await held(network, batcher)
            tasks = [asyncio.create_task(batcher.run(rows(*[value] * TURN))) for value in (1, 2, 3)]
            await queued(batcher, 3 * TURN)
            network.go.set()
            await asyncio.gather(first, *tasks)
        drawn = [value for batch in network.batches[1:] for value in batch]
        assert drawn == [1] * TURN + [2] * TURN + [3] * TURN

    asyncio.run(scenario())


def test_what_is_dropped_before_it_is_taken_is_not_computed() -> None:
    network = Network()

    async def scenario() -> None:
        async with batching(network) as batcher:
            first = await held(network, batcher)
            unwanted, wanted = batcher.begin(rows(8, 9)), batcher.begin(rows(1))
            unwanted.drop()
            assert batcher.waiting == 1
            network.go.set()
            await asyncio.gather(first, wanted.all())
        assert network.batches == [[0], [1]]

    asyncio.run(scenario())


def test_results_come_as_they_are_made() -> None:
    async def scenario() -> None:
        async with batching(Network()) as batcher:
            parts = [len(part[0]) async for part in batcher.begin(rows(*range(12))).parts()]
        assert sum(parts) == 12
        assert len(parts) > 1

    asyncio.run(scenario())


@pytest.mark.parametrize(("bad", "words"), [(POISON, "failed"), (NAN, "not finite")])
def test_a_bad_row_fails_alone(bad: float, words: str) -> None:
    network = Network()

    async def scenario() -> None:
        async with batching(network) as batcher:
            first = await held(network, batcher)
            tasks = [asyncio.create_task(batcher.run(rows(value))) for value in (1, bad, 3)]
            await queued(batcher, 3)
            network.go.set()
            await first
            good, failed, also_good = await asyncio.gather(*tasks, return_exceptions=True)
            assert (good[0].tolist(), also_good[0].tolist()) == ([[2]], [[6]])
            assert isinstance(failed, ComputationFailed)
            assert words in str(failed)
            assert (await batcher.run(rows(5)))[0].tolist() == [[10]], "the batcher lives on"

    asyncio.run(scenario())


def test_what_nobody_waits_for_is_not_computed() -> None:
    network = Network()

    async def scenario() -> None:
        async with batching(network) as batcher:
            first = await held(network, batcher)
            gone = asyncio.create_task(batcher.run(rows(*[9] * 20)))
            stays = asyncio.create_task(batcher.run(rows(1)))
            await queued(batcher, 21)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            assert batcher.waiting == 1
            network.go.set()
            await asyncio.gather(first, stays)
        assert network.batches == [[0], [1]]

    asyncio.run(scenario())


class Uneven(Network):
    """A batch with a 0 in it takes until `late` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.late, self.two = threading.Event(), threading.Event()

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray]:
        result = super().__call__(rows)
        if len(self.batches) == 2:
            self.two.set()
        if 0 in rows:
            assert self.late.wait(PATIENCE)
        return result


def test_free_lanes_share_what_waits_and_its_order_stays() -> None:
    network = Uneven()

    async def scenario() -> None:
        async with batching(network, lanes=2) as batcher:
            job = asyncio.create_task(batcher.run(rows(*range(8))))
            assert await asyncio.to_thread(network.two.wait, PATIENCE)
            assert sorted(network.batches) == [[0, 1, 2, 3], [4, 5, 6, 7]]
            assert not job.done(), "the second half has overtaken the first"
            network.late.set()
            (result,) = await job
            assert result[:, 0].tolist() == [2 * value for value in range(8)]

    asyncio.run(scenario())


def test_what_has_come_back_comes_together() -> None:
    network = Uneven()

    async def scenario() -> None:
        async with batching(network, sizes=(2,), lanes=2) as batcher:
            parts = batcher.begin(rows(*range(8))).parts()
            first = asyncio.ensure_future(anext(parts))
            await asyncio.to_thread(until, lambda: len(network.batches) == 4, "only the first batch was under way")
            network.late.set()
            sizes = [len(part) for (part,) in [await first, *[part async for part in parts]]]
        assert sum(sizes) == 8
        assert len(sizes) <= 2, "the last batch may have been a moment late"

    asyncio.run(scenario())


def test_a_lane_that_is_held_up_does_not_hold_up_the_other() -> None:
    network = Uneven()

    async def scenario() -> None:
        async with batching(network, lanes=2) as batcher:
            slow = asyncio.create_task(batcher.run(rows(0)))
            for value in range(1, 20):
                (result,) = await asyncio.wait_for(batcher.run(rows(value)), PATIENCE)
                assert result.tolist() == [[2 * value]]
            assert not slow.done()
            network.late.set()
            await slow

    asyncio.run(scenario())


def test_a_failure_on_one_lane_fails_only_its_own_request() -> None:
    async def scenario() -> None:
        async with batching(Network(), lanes=3) as batcher:
            tasks = [asyncio.create_task(batcher.run(rows(*[value] * 5))) for value in (1, POISON, 3, NAN, 5)]
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(answer, ComputationFailed) for answer in answers] == [False, True, False, True, False]
        assert [answers[place][0][:, 0].tolist() for place in (0, 2, 4)] == [[2] * 5, [6] * 5, [10] * 5]

    asyncio.run(scenario())


def test_a_deadline_gives_up_and_drops_what_is_left() -> None:
    network = Network()

    async def scenario() -> None:
        async with batching(network) as batcher:
            first = await held(network, batcher)
            soon = asyncio.get_running_loop().time() + 0.05
            with pytest.raises(DeadlineExceeded):
                await batcher.run(rows(9), deadline=soon)
            assert batcher.waiting == 0
            network.go.set()
            await first
        assert network.batches == [[0]]

    asyncio.run(scenario())


def test_the_event_loop_turns_while_a_network_computes() -> None:
    network = Network()

    async def scenario() -> None:
        async with batching(network) as batcher:
            task = await held(network, batcher)
            for _ in range(10):
                await asyncio.sleep(0)
            assert not task.done()
            network.go.set()
            await task

    asyncio.run(scenario())
