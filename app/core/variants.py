"""Synthetic faces on their way: which controls to draw, drawn, judged and written, some at a time."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import numpy as np

from app.core.band import BandSearch
from app.core.colour import desaturated
from app.core.computation import Computation
from app.core.controls import numbered, places, vectors
from app.core.faces import Bytes, Floats, similarity
from app.core.generate import floats, held, sample_controls, sweep_controls
from app.core.models import Engine
from app.core.parameters import PictureParameters, SamplingParameters, SweepParameters
from app.core.provenance import Provenance
from app.core.reference import Reference
from app.core.sizes import sized
from app.core.subject import Subject
from app.runtime.batching import Job

Against = Literal["photograph", "redrawing"]
T = TypeVar("T")


@dataclass(frozen=True)
class Variant:
    """One synthetic face.

    Attributes:
        index: its place in the answer.
        control: the 10 numbers that made it.
        similarity: cosine of the recogniser to the source.
        in_band: whether that lies in the band asked for, else in the model's look-alike band.
        pixels: [s, s, 3] uint8, in the size asked for.
    """

    index: int
    control: list[float]
    similarity: float
    in_band: bool
    pixels: Bytes


@dataclass
class Variants:
    """The answer to a request for variants; take `batches`, `files`, `all_files` or the `sheet`, once.

    Attributes:
        id: digest of input, parameters and model version: the same request has the same id, and the same bytes.
        seed: of the random controls; None where controls were given.
        source: the face it began with; None where it began with an identity.
        count: variants asked for; a search may find fewer.
        band: similarities between which `in_band` is true.
        search: how the search goes, where there is one.
        against: what similarity is measured against: a photograph, or the most faithful redrawing of the identity.
        grey: whether they are drawn without colour.
    """

    id: str
    computation: Computation
    seed: int | None
    source: Subject | None
    count: int
    band: tuple[float, float]
    search: BandSearch | None
    against: Against
    grey: bool
    _picture: PictureParameters
    _identity: Floats
    _embedding: Floats
    _controls: list[list[float]]
    _job: Job | None = None

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Those of a search excepted they are drawn from now on, until the block is left."""
        if self.search is None:
            self._job = self._queued()
        try:
            yield
        finally:
            if self._job:
                self._job.drop()

    @property
    def engine(self) -> Engine:
        """The models that make them."""
        return self.computation.engine

    @property
    def provenance(self) -> Provenance:
        """What the images say about themselves."""
        return Provenance(self.engine.manifest.name, self.engine.manifest.version, self.id)

    async def batches(self) -> AsyncIterator[list[Variant]]:
        """Variants in order, some at a time, as they are made."""
        made = 0
        async for controls, images, embeddings in self._drawn():
            similarities = similarity(embeddings, self._embedding)
            images = await self._in_size(images)
            batch = [
                Variant(made + i, control, score, self.band[0] <= score <= self.band[1], pixels)
                for i, (control, score, pixels) in enumerate(zip(controls, similarities, images, strict=True))
            ]
            made += len(batch)
            for variant in batch:
                self.computation.metrics.variant(variant.similarity)
            yield batch

    async def files(self) -> AsyncIterator[list[tuple[Variant, bytes]]]:
        """Variants with their image files, in order, some at a time, as they are made."""
        async for batch in self.batches():
            yield await self._with_files(batch)

    async def all_files(self) -> list[tuple[Variant, bytes]]:
        """All variants with their image files, in order; files are written side by side, and while others are made."""
        writing: list[asyncio.Task[list[tuple[Variant, bytes]]]] = []
        try:
            async for batch in self.batches():
                writing.append(asyncio.create_task(self._with_files(batch)))  # noqa: PERF401 - known if making fails
            return [pair for pairs in await asyncio.gather(*writing) for pair in pairs]
        finally:
            for task in writing:
                task.cancel()

    async def sheet(self, columns: int | None = None) -> tuple[list[Variant], bytes | None]:
        """All variants, and one image file with all of them side by side; None where a search found nothing."""
        variants = [variant async for batch in self.batches() for variant in batch]
        if not variants:
            return [], None
        faces, picture = [variant.pixels for variant in variants], self._picture

        def write() -> bytes:
            with self.computation.stage("write"):
                origin, form, quality = self.computation.origin, picture.format, picture.quality
                return origin.sheet(faces, columns, form, quality, self.provenance)

        return variants, await self.in_thread(write)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do something with the variants in the image threads, within the request's deadline."""
        return await self.computation.in_thread(work)

    async def _with_files(self, batch: list[Variant]) -> list[tuple[Variant, bytes]]:
        files = await self.in_thread(partial(self._write, [variant.pixels for variant in batch]))
        return list(zip(batch, files, strict=True))

    def _write(self, images: list[Bytes]) -> list[bytes]:
        picture = self._picture
        with self.computation.stage("write"):
            return self.computation.origin.files(images, picture.format, picture.quality, self.provenance)

    def _drawn(self) -> AsyncIterator[tuple[list[list[float]], Bytes, Floats]]:
        """Controls, images and embeddings as they are decoded; of a search only the hits."""
        return self._given() if self.search is None else self._searched(self.search)

    async def _given(self) -> AsyncIterator[tuple[list[list[float]], Bytes, Floats]]:
        done = 0
        parts = (self._job or self._queued()).parts(self.computation.deadline)
        while done < len(self._controls):
            with self.computation.stage("decode"):
                images, embeddings = await anext(parts)
            images, embeddings = await self._coloured(images, embeddings)
            yield self._controls[done : done + len(images)], images, embeddings
            done += len(images)

    def _queued(self) -> Job:
        rows = np.asarray(self._controls, np.float32)
        return self.engine.decoder.begin(np.broadcast_to(self._identity, (len(rows), len(self._identity))), rows)

    async def _coloured(self, images: Bytes, embeddings: Floats) -> tuple[Bytes, Floats]:
        """Images as they will leave, and the embeddings of just these."""
        return await self.computation.as_photographed(images, embeddings, np.full(len(images), self.grey))

    async def _in_size(self, images: Bytes) -> Bytes:
        """Images in the size asked for; grey ones stay grey."""
        if self._picture.size is None:
            return images
        larger = await self.computation.with_detail(images)
        return desaturated(larger) if self.grey else larger

    async def _searched(self, search: BandSearch) -> AsyncIterator[tuple[list[list[float]], Bytes, Floats]]:
        while not search.done:
            controls = search.propose()
            identities = np.broadcast_to(self._identity, (len(controls), len(self._identity)))
            with self.computation.stage("decode"):
                images, embeddings = await self.engine.decoder.run(
                    identities, controls, deadline=self.computation.deadline
                )
            images, embeddings = await self._coloured(images, embeddings)
            # Judged as it will be reported, so that rounding cannot put a hit outside the band.
            hits = search.report(np.array(similarity(embeddings, self._embedding)))
            if hits.any():
                yield [floats(control) for control in controls[hits]], images[hits], embeddings[hits]


@dataclass(frozen=True)
class Plan:
    """Which variants are to be made, known before anything is computed.

    Attributes:
        parameters: what was asked for, with the seed that was taken and controls as numbers.
        controls: to draw, [count, 10]; a search takes others.
        band: similarities between which `in_band` is true.
        search: for variants inside the band, where that is asked for.
    """

    parameters: SamplingParameters
    controls: list[list[float]]
    band: tuple[float, float]
    search: BandSearch | None = None


def planned(computation: Computation, parameters: SamplingParameters) -> Plan:
    """Choose controls: those that are given, or random ones, or a search's.

    Raises:
        UnknownControl: one is given by a name that the model does not know.
        UnknownSize: there are no pictures of the size that is asked for.
    """
    manifest = computation.engine.manifest
    lookalike = manifest.thresholds.lookalike_band
    parameters = numbered(sized(parameters, manifest.picture_sizes), manifest.control_names)
    if isinstance(parameters.controls, list):
        return Plan(parameters, vectors(parameters.controls, manifest.control_names), lookalike)
    seed = secrets.randbits(32) if parameters.seed is None else parameters.seed
    parameters = parameters.model_copy(update={"seed": seed})
    fixed = places(parameters.controls, manifest.control_names) if isinstance(parameters.controls, Mapping) else {}
    controls = held(sample_controls(seed, parameters.count, parameters.strength), fixed)
    band, search = _band(parameters) or lookalike, None
    if band != lookalike or parameters.band:
        rounds = computation.settings.search_rounds
        search = BandSearch(seed, parameters.count, parameters.strength, *band, rounds, fixed)
    return Plan(parameters, [floats(row) for row in controls], band, search)


def sampled(
    computation: Computation,
    plan: Plan,
    identity: Floats,
    reference: Reference,
    source: Subject | None = None,
    against: Against = "photograph",
) -> Variants:
    """Variants of an identity [70].

    Args:
        computation: of the request.
        plan: which controls, and how images are written.
        identity: what is redrawn.
        reference: what similarity is to, and whether that is grey.
        source: the face it comes from, where there was a photograph.
        against: what the reference is of.
    """
    return Variants(
        id=computation.answer_id(plan.parameters, source.photo if source else ""),
        computation=computation,
        seed=None if plan.parameters.listed else plan.parameters.seed,
        source=source,
        count=plan.parameters.images,
        band=plan.band,
        search=plan.search,
        against=against,
        grey=reference.grey,
        _picture=plan.parameters,
        _identity=identity,
        _embedding=reference.embedding,
        _controls=plan.controls,
    )


def _band(parameters: SamplingParameters) -> tuple[float, float] | None:
    """The band between two similarities, where one of them is given."""
    low, high = parameters.similarity_min, parameters.similarity_max
    if low is None and high is None:
        return None
    return (-1.0 if low is None else low, 1.0 if high is None else high)


def swept(computation: Computation, parameters: SweepParameters, control: int, source: Subject) -> Variants:
    """Variants of a face along one control, given by its index, from -1 to 1."""
    return Variants(
        id=computation.answer_id(parameters, source.photo),
        computation=computation,
        seed=None,
        source=source,
        count=parameters.steps,
        band=computation.engine.manifest.thresholds.lookalike_band,
        search=None,
        against="photograph",
        grey=source.grey,
        _picture=parameters,
        _identity=source.identity,
        _embedding=source.embedding,
        _controls=[floats(row) for row in sweep_controls(control, parameters.steps)],
    )
