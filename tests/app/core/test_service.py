"""The use cases without HTTP: how the files of an answer are written."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from app.core.parameters import VariantsParameters
from app.core.service import Service
from app.core.variants import Variant, Variants
from app.errors import ComputationFailed
from app.settings import Settings
from app.telemetry.metrics import Metrics
from tests.patience import PATIENCE, until

PARAMETERS = VariantsParameters(count=7, seed=1)


@asynccontextmanager
async def serving() -> AsyncIterator[Service]:
    settings = Settings(device="cpu", threads=2, precision="int8", batch_sizes="1,2", deadline=PATIENCE)
    service = Service(settings, Metrics())
    await service.start()
    try:
        yield service
    finally:
        await service.close()


def test_files_are_the_same_at_once_and_one_after_another(photo: bytes) -> None:
    async def scenario() -> None:
        async with serving() as service:
            async with service.variants(photo, PARAMETERS) as variants:
                expected = [pair async for batch in variants.files() for pair in batch]
            async with service.variants(photo, PARAMETERS) as variants:
                found = await variants.all_files()
        assert [variant.index for variant, _ in found] == list(range(7))
        assert [data for _, data in found] == [data for _, data in expected]

    asyncio.run(scenario())


async def turns() -> None:
    """Let the event loop hear of what has just ended in a thread."""
    for _ in range(10):
        await asyncio.to_thread(int)


def test_a_file_that_cannot_be_written_is_told_once(photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """All writing has failed by the time that making ends, and that fails too: no exception is left to be found."""
    writings = 0

    def fail(*_: object) -> list[bytes]:
        nonlocal writings
        writings += 1
        raise OSError("cannot be written")

    monkeypatch.setattr(Variants, "_write", fail)
    batches = Variants.batches

    async def broken(variants: Variants) -> AsyncIterator[list[Variant]]:
        made = [batch async for batch in batches(variants)]
        yield made[0]
        yield made[0]
        await asyncio.to_thread(until, lambda: writings == 2, "both were written")
        await turns()
        raise ComputationFailed

    monkeypatch.setattr(Variants, "batches", broken)
    forgotten: list[object] = []

    async def attempt(service: Service) -> None:
        with pytest.raises(ComputationFailed):
            async with service.variants(photo, PARAMETERS) as variants:
                await variants.all_files()

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: forgotten.append(context))
        async with serving() as service:
            await attempt(service)
            assert service.gate.held == 0
            gc.collect()

    asyncio.run(scenario())
    assert not forgotten


def test_a_face_is_redrawn_in_one_batch_with_its_variants(photo: bytes) -> None:
    """A row alone costs as much as two where the decoder computes in int8."""
    batches: list[int] = []

    async def scenario() -> None:
        async with serving() as service:
            decode = service.engine.decoder._compute

            def counted(identities: np.ndarray, controls: np.ndarray) -> tuple[np.ndarray, ...]:
                batches.append(len(controls))
                return decode(identities, controls)

            service.engine.decoder._compute = counted
            async with service.variants(photo, VariantsParameters(count=1, seed=1)) as variants:
                assert variants.source
                assert variants.source.quality
                assert variants.source.quality.fidelity is not None
                await variants.all_files()

    asyncio.run(scenario())
    assert batches == [2]


def test_variants_that_nobody_takes_are_not_waited_for(photo: bytes) -> None:
    async def scenario() -> None:
        async with serving() as service:
            async with service.variants(photo, VariantsParameters(count=64, seed=1)):
                assert service.engine.decoder.waiting > 0
            assert service.engine.decoder.waiting == 0

    asyncio.run(scenario())
