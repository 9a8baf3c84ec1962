"""What is asked of each photograph of a data set, and what comes of it: the same on one machine and on many."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Any

from app.batch.archives import Photograph
from app.batch.layout import Layout
from app.core.formats import readable
from app.core.models import decoder_role
from app.core.origin import asked_of
from app.core.parameters import MAX_VARIANTS, VariantsParameters
from app.core.service import Service
from app.errors import BandEmpty, ComputationFailed, DeadlineExceeded, PhotographUnusable, Refused
from app.runtime.manifest import Manifest
from app.settings import Settings
from app.telemetry.metrics import Metrics

IN_FLIGHT = 4
"""Photographs on their way at once, so that reading, computing and writing overlap."""

PATIENCE = 3600.0
"""Seconds that one photograph may take: nobody waits at the other end."""

SUFFIX = {"jpeg": "jpg", "webp": "webp", "png": "png"}

UNUSABLE = (PhotographUnusable, BandEmpty, ComputationFailed, DeadlineExceeded)
"""For these a photograph is skipped, under a slug that is the name of the error."""


@dataclass(frozen=True)
class Job:
    """What a run asks of every photograph.

    Attributes:
        settings: of the service.
        parameters: what is asked for each; their own seed does not count.
        seed: of the run.
        layout: of what is made.
    """

    settings: Settings
    parameters: VariantsParameters
    seed: int
    layout: Layout = field(default_factory=Layout)

    def asked(self, manifest: Manifest | None) -> dict[str, Any]:
        """What the bytes of the run follow from, besides the photographs; the models among it where they are given."""
        asked = {
            **self.parameters.model_dump(mode="json", exclude={"seed"}),
            "seed": self.seed,
            "layout": self.layout.kind,
            "labels": self.layout.labels,
            "mark": self.settings.mark,
            "origin": asked_of(self.settings),
            "search_rounds": self.settings.search_rounds,
            "min_eye_distance": self.settings.min_eye_distance,
        }
        if manifest is None:
            return asked
        idle = "detail" if self.parameters.size is None else ""
        return asked | {
            "model": {"name": manifest.name, "version": manifest.version},
            "decoder": decoder_role(self.settings, manifest),
            "networks": {role: network.sha256 for role, network in sorted(manifest.files.items()) if role != idle},
        }

    def service(self, in_flight: int) -> Service:
        """A service for this run alone, yet to be started; it takes so many photographs at once."""
        # One run is the only client: nothing needs to be turned away, and nobody waits for an answer.
        queue = max(self.settings.queue_images, in_flight * MAX_VARIANTS)
        return Service(self.settings.model_copy(update={"deadline": PATIENCE, "queue_images": queue}), Metrics())


@dataclass(frozen=True)
class Made:
    """What one photograph gave: its images, and a line of the manifest for each; or why there are none.

    Attributes:
        name: of the photograph.
        lines: of `manifest.jsonl`, one an image, without its place.
        images: their files.
        problem: a slug; empty where there are images.
        detail: a sentence on it.
    """

    name: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    problem: str = ""
    detail: str = ""


def seed_of(seed: int, name: str) -> int:
    """The 32-bit seed of a photograph: it follows from the run's seed and the name, not from order or number."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()[:4])


def still_to_do(photographs: list[Photograph], done: Container[str]) -> Iterator[Photograph]:
    """The photographs that earlier runs did not complete; those that are refused are told of each time."""
    return (photograph for photograph in photographs if photograph.refusal or photograph.name not in done)


def read(photograph: Photograph, max_bytes: int) -> bytes | Refused:
    """A photograph's bytes, or why there are none."""
    try:
        return photograph.read(max_bytes)
    except Refused as error:
        return error


def changed(photographs: list[Photograph], done: dict[str, str], max_bytes: int) -> Iterator[str]:
    """Names of photographs that are not what they were when they were used; every one that was is read.

    Args:
        photographs: those that are there now.
        done: digests of those that were used, by name.
        max_bytes: most that are read of one.
    """
    for photograph in photographs:
        if not photograph.refusal and photograph.name in done:
            photo = read(photograph, max_bytes)
            if isinstance(photo, Refused) or hashlib.sha256(photo).hexdigest() != done[photograph.name]:
                yield photograph.name


async def make(service: Service, name: str, photo: bytes | Refused, job: Job) -> Made:
    """The look-alikes of one photograph.

    Args:
        service: started.
        name: of the photograph.
        photo: its bytes.
        job: what is asked for.
    """
    seed = None if job.parameters.listed else seed_of(job.seed, name)
    try:
        if isinstance(photo, Refused):
            raise photo
        picture = await asyncio.to_thread(readable, photo, job.settings.max_pixels)
        async with service.variants(picture, job.parameters.model_copy(update={"seed": seed})) as variants:
            pairs = await variants.all_files()
        if not pairs:
            raise BandEmpty("No variant was found inside the band.")
    except UNUSABLE as error:
        slug = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__).lower()
        return Made(name, problem=slug, detail=str(error))
    digest = hashlib.sha256(photo).hexdigest()
    lines = [
        {
            "source": name,
            "source_sha256": digest,
            "index": variant.index,
            "of": len(pairs),
            "control": variant.control,
            "seed": seed,
            "similarity": variant.similarity,
            "in_band": variant.in_band,
            "model": variants.engine.manifest.version,
            "id": variants.id,
        }
        for variant, _ in pairs
    ]
    return Made(name, lines, [image for _, image in pairs])
