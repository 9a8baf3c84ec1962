"""What runs in the benchmark's own process: the raw loop, which is the limit, and the service without HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from app.core.faces import Detector, align
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE, Generator
from app.core.images import read_photo
from app.core.models import CPU_BATCHES, decoder_role
from app.core.parameters import VariantsParameters
from app.core.service import Service
from app.runtime.manifest import NETWORKS, parse_manifest
from app.settings import Settings
from app.telemetry.metrics import Metrics
from benchmarks.peers.pipeline import ShippedFiles

Decode = Generator | ShippedFiles


def decoder() -> str:
    """The file that the service takes for its decoder on this machine's CPU."""
    settings = Settings(device="cpu")
    return NETWORKS[decoder_role(settings, parse_manifest(settings.models))]


def served(threads: int = 0) -> Generator:
    """The networks as the service loads them on this machine's CPU."""
    return Generator(Settings().models, "cpu", threads, decoder())


def raw(networks: Decode, size: int, seconds: float, loops: int = 1) -> float:
    """Images a second of decoder and recogniser, at one batch size, in so many loops at the same time."""
    random = np.random.default_rng(0)
    identities = random.standard_normal((size, IDENTITY_SIZE), np.float32)
    controls = random.uniform(-1, 1, (size, CONTROL_SIZE)).astype(np.float32)
    return size * _rate(lambda: networks.decode(identities, controls), seconds, loops)


def raw_requests(networks: Decode, photo: bytes, size: int, seconds: float, loops: int) -> float:
    """Images a second of all that the networks do for requests of `size` images: detector, encoder and decoder.

    The decoder draws one more, the face redrawn.
    """
    detector = Detector(Settings().models, "cpu", threads=1)
    image = read_photo(photo, Settings().max_pixels).image
    frame = align(image, detector(image)[0])[None]
    drawn = size + 1
    controls = np.random.default_rng(0).uniform(-1, 1, (drawn, CONTROL_SIZE)).astype(np.float32)
    step = CPU_BATCHES[-1]

    def request() -> None:
        detector(image)
        identities = np.repeat(networks.encode(frame)[0], drawn, 0)
        for start in range(0, drawn, step):
            networks.decode(identities[start : start + step], controls[start : start + step])

    return size * _rate(request, seconds, loops)


def _rate(work: Callable[[], object], seconds: float, loops: int) -> float:
    """How often a second something gets done in so many threads that do nothing else."""
    work()
    start = time.perf_counter()

    def loop() -> int:
        done = 0
        while time.perf_counter() - start < seconds:
            work()
            done += 1
        return done

    with ThreadPoolExecutor(loops) as threads:
        total = sum(future.result() for future in [threads.submit(loop) for _ in range(loops)])
    return total / (time.perf_counter() - start)


async def in_process(service: Service, photo: bytes, clients: int, images: int, seconds: float) -> float:
    """Images a second of the use case that HTTP serves, image files included."""
    parameters = VariantsParameters(count=images, seed=1)
    done, start = 0, time.perf_counter()

    async def client() -> None:
        nonlocal done
        while time.perf_counter() - start < seconds:
            async with service.variants(photo, parameters) as variants:
                made = len(await variants.all_files())
            done += made  # not in one statement with the await: the others count meanwhile

    await asyncio.gather(*(client() for _ in range(clients)))
    return done / (time.perf_counter() - start)


def service_in_process(photo: bytes, clients: int, images: int, seconds: float) -> float:
    """Start the service, load it without HTTP, and stop it."""

    async def scenario() -> float:
        service = Service(Settings(device="cpu"), Metrics())
        await service.start()
        try:
            return await in_process(service, photo, clients, images, seconds)
        finally:
            await service.close()

    return asyncio.run(scenario())
