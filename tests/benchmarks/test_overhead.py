"""Guards on speed that hold on a slow and busy machine: CPU seconds are compared, not the time on the wall."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from app.core.generate import IDENTITY_SIZE, Generator, sample_controls
from app.core.parameters import VariantsParameters
from app.core.service import Service
from app.settings import Settings
from app.telemetry.metrics import Metrics
from benchmarks import inside, lag, load
from tests.patience import PATIENCE

IMAGES, ROUNDS = 64, 4
MOST = 1.4
"""CPU seconds of a request for 64 images by those of the bare networks; 1.04 was measured, on a busy machine."""


def cpu_of_the_networks(networks: Generator) -> float:
    identities, controls = np.zeros((8, IDENTITY_SIZE), np.float32), sample_controls(1, 8, 1)
    start = time.process_time()
    for _ in range(IMAGES // 8):
        networks.decode(identities, controls)
    return time.process_time() - start


def test_what_is_done_around_the_networks_costs_little(photo: bytes) -> None:
    networks = inside.served(1)

    async def cpu_of_the_service(service: Service) -> float:
        start, made = time.process_time(), 0
        async with service.variants(photo, VariantsParameters(count=IMAGES, seed=1)) as variants:
            async for batch in variants.files():
                made += len(batch)
        assert made == IMAGES
        return time.process_time() - start

    async def scenario() -> float:
        service = Service(Settings(device="cpu", threads=1, deadline=PATIENCE), Metrics())
        await service.start()
        try:
            ratios: list[float] = []
            while not ratios or (min(ratios) >= MOST and len(ratios) < ROUNDS):
                bare = cpu_of_the_networks(networks)
                ratios.append(await cpu_of_the_service(service) / bare)
            return min(ratios)
        finally:
            await service.close()

    assert asyncio.run(scenario()) < MOST


def test_nothing_heavy_is_done_on_the_event_loop(photo: bytes) -> None:
    """Large forms come in, 64 images go out, and the loop's thread never works for long at a stretch."""
    form = b'--b\r\nContent-Disposition: form-data; name="image"; filename="face.jpg"\r\n\r\n'
    form += photo + bytes(4_000_000) + b"\r\n--b--\r\n"
    message = load.request("/v1/variants?count=16&format=png", "multipart/form-data; boundary=b", form)
    # CPU time, but of a core whose other half may be at anything: what is slow each time is slow.
    found: dict[str, float] = {}
    for _ in range(ROUNDS):
        found = lag.measure(lambda port: load.run(port, message, 4, 16, 0))
        if found["busy p99"] < 10 and found["busy max"] < 50:
            return
    pytest.fail(f"at a stretch the loop's thread works for {found}; of the largest a cold path may be slow once")
