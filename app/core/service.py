"""The use cases, free of HTTP: what routes, the command line and Ray call.

Photographs go through a bounded pool of threads, networks through the batchers, and everything waits on the event loop.
Nothing of a photograph is kept once its answer is made.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import numpy as np
from pydantic import BaseModel

from app.core.band import BandSearch
from app.core.faces import FRAME_POINTS, FRAME_SIZE, Bytes, Detector, Face, Floats, align, similarity
from app.core.generate import CONTROL_SIZE, sample_controls, sweep_controls
from app.core.images import contact_sheet, read_photo, write_image
from app.core.models import Engine
from app.core.parameters import (
    CompareParameters,
    IdentitiesParameters,
    PictureParameters,
    RenderRequest,
    SamplingParameters,
    SweepParameters,
    VariantsParameters,
)
from app.core.provenance import Provenance
from app.core.selftest import SelfTest
from app.errors import DeadlineExceeded, FaceNotFound, FaceTooSmall, NoFace, NotReady, UnknownControl
from app.runtime.batching import Gate
from app.runtime.manifest import Manifest, read_manifest
from app.runtime.sessions import cores
from app.settings import Settings
from app.telemetry.metrics import Metrics

FaceChoice = Literal["largest", "all"] | int
T = TypeVar("T")

FRAME_EYE_DISTANCE = float(np.linalg.norm(FRAME_POINTS[1] - FRAME_POINTS[0])) * FRAME_SIZE
"""Distance between the eyes in the face frame, in its pixels."""


@dataclass(frozen=True)
class Subject:
    """A face that a client sent, as the networks see it.

    Attributes:
        photo: digest of the photograph.
        index: its place among the faces of its photograph, largest first.
        face: where it was found, in pixels of the upright photograph.
        identity: [70].
        embedding: [192], of unit length.
    """

    photo: str
    index: int
    face: Face
    identity: Floats
    embedding: Floats


@dataclass(frozen=True)
class Variant:
    """One synthetic face.

    Attributes:
        index: its place in the answer.
        control: the 10 numbers that made it.
        similarity: cosine of the recogniser to the source.
        in_band: whether that lies in the band asked for, else in the model's look-alike band.
        pixels: [128, 128, 3] uint8.
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
    """

    id: str
    engine: Engine
    seed: int | None
    source: Subject | None
    count: int
    band: tuple[float, float]
    search: BandSearch | None
    _picture: PictureParameters
    _service: Service
    _identity: Floats
    _embedding: Floats
    _controls: list[list[float]]
    _deadline: float

    @property
    def provenance(self) -> Provenance:
        """What the images say about themselves."""
        return Provenance(self.engine.manifest.name, self.engine.manifest.version, self.id)

    async def batches(self) -> AsyncIterator[list[Variant]]:
        """Variants in order, some at a time, as they are made."""
        made = 0
        async for controls, images, embeddings in self._drawn():
            similarities = similarity(embeddings, self._embedding)
            batch = [
                Variant(made + i, control, score, self.band[0] <= score <= self.band[1], pixels)
                for i, (control, score, pixels) in enumerate(zip(controls, similarities, images, strict=True))
            ]
            made += len(batch)
            for variant in batch:
                self._service.metrics.variant(variant.similarity)
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
        pixels = contact_sheet([variant.pixels for variant in variants], columns)
        (data,) = await self.in_thread(partial(self._write, [pixels]))
        return variants, data

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do something with the variants in the image threads, within the request's deadline."""
        return await self._service.in_thread(work, self._deadline)

    async def _with_files(self, batch: list[Variant]) -> list[tuple[Variant, bytes]]:
        files = await self.in_thread(partial(self._write, [variant.pixels for variant in batch]))
        return list(zip(batch, files, strict=True))

    def _write(self, images: list[Bytes]) -> list[bytes]:
        picture, mark = self._picture, self._service.settings.mark
        with self._service.metrics.stage("write"):
            return [write_image(pixels, picture.format, picture.quality, self.provenance, mark) for pixels in images]

    async def _drawn(self) -> AsyncIterator[tuple[list[list[float]], Bytes, Floats]]:
        """Controls, images and embeddings as they are decoded; of a search only the hits."""
        stage = self._service.metrics.stage
        if self.search is None:
            done = 0
            rows = np.asarray(self._controls, np.float32)
            identities = np.broadcast_to(self._identity, (len(rows), len(self._identity)))
            parts = self.engine.decoder.stream(identities, rows, deadline=self._deadline)
            while done < len(rows):
                with stage("decode"):
                    images, embeddings = await anext(parts)
                yield self._controls[done : done + len(images)], images, embeddings
                done += len(images)
            return
        while not self.search.done:
            controls = self.search.propose()
            identities = np.broadcast_to(self._identity, (len(controls), len(self._identity)))
            with stage("decode"):
                images, embeddings = await self.engine.decoder.run(identities, controls, deadline=self._deadline)
            # Judged as it will be reported, so that rounding cannot put a hit outside the band.
            hits = self.search.report(np.array(similarity(embeddings, self._embedding)))
            if hits.any():
                yield [floats(control) for control in controls[hits]], images[hits], embeddings[hits]


@dataclass(frozen=True)
class Comparison:
    """How alike the faces of two photographs are."""

    id: str
    engine: Engine
    similarity: float
    reference: Face
    probe: Face


@dataclass(frozen=True)
class _Aligned:
    """A face that was found, and its pixels [128, 128, 3] in the face frame."""

    photo: str
    index: int
    face: Face
    pixels: Bytes


class Service:
    """Everything the product does, once `start` was awaited.

    Args:
        settings: limits, directories, sizes.
        metrics: where it counts what it does.

    Attributes:
        gate: images that are waited for.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.gate = Gate(settings.queue_images)
        self._self_test = SelfTest(self._try_out)
        self._engine: Engine | None = None
        self._reloading = asyncio.Lock()
        self._retired: dict[asyncio.Task[None], Engine] = {}
        threads = settings.image_threads or max(2, cores() // settings.workers)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="image")

    async def start(self) -> None:
        """Load and warm the models.

        Raises:
            ModelsInvalid, ProviderUnavailable: see `Engine`.
        """
        engine = await asyncio.to_thread(Engine, self.settings, self.metrics)
        engine.start()
        self._engine = engine

    async def reload(self) -> tuple[Manifest, Manifest]:
        """Serve what the model directory holds now; returns the manifests before and after, equal if nothing changed.

        No request notices: whatever began with the old models finishes with them. Where the new ones cannot be served
        the old ones stay.

        Raises:
            ModelsInvalid, ProviderUnavailable: see `Engine`.
            NotReady: the first models are still being loaded.
        """
        async with self._reloading:
            old = self.engine
            if await asyncio.to_thread(read_manifest, self.settings.models) == old.manifest:
                return old.manifest, old.manifest
            engine = await asyncio.to_thread(Engine, self.settings, self.metrics)
            engine.start()
            self._engine = engine
            retirement = asyncio.create_task(self._retire(old))
            self._retired[retirement] = old
            retirement.add_done_callback(self._retired.pop)
            return old.manifest, engine.manifest

    async def _retire(self, engine: Engine) -> None:
        # No request outlives its deadline, so by then none uses the old models.
        await asyncio.sleep(self.settings.deadline + 1)
        await engine.close()

    async def close(self) -> None:
        """Stop; to be called when nothing is in flight."""
        await self._self_test.close()
        for retirement, engine in list(self._retired.items()):
            retirement.cancel()
            await engine.close()
        if self._engine:
            await self._engine.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def engine(self) -> Engine:
        """The models in force.

        Raises:
            NotReady: they are still being loaded.
        """
        if self._engine is None:
            raise NotReady("The models are still being loaded.")
        return self._engine

    @property
    def started(self) -> bool:
        """Whether the models are loaded and warm."""
        return self._engine is not None

    @property
    def failing(self) -> bool:
        """Whether the networks failed when they were last tried; if so, they are tried anew."""
        failed = self._self_test.failed
        if failed:
            self._self_test.begin()
        return failed

    def doubt(self) -> None:
        """A request failed for no fault of its own that is known: find out whether the networks still work."""
        if self._engine:
            self._self_test.begin()

    async def _try_out(self) -> None:
        """Run every network once, as a request would.

        Raises:
            ComputationFailed, DeadlineExceeded, Exception: one does not work, or not in time.
        """
        engine, deadline = self.engine, self._deadline()
        await self.in_thread(engine.detector.warm, deadline)
        frames = np.zeros((1, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
        identities, _ = await engine.encoder.run(frames, deadline=deadline)
        await engine.decoder.run(identities, np.zeros((1, CONTROL_SIZE), np.float32), deadline=deadline)
        await engine.recognizer.run(frames, deadline=deadline)

    async def identities(self, photo: bytes, parameters: IdentitiesParameters) -> tuple[str, Engine, list[Subject]]:
        """The faces of a photograph as identity latents; returns the answer's id, the engine used, and the faces."""
        engine, deadline = self.engine, self._deadline()
        with self.gate.hold(1):
            subjects = await self._subjects(engine, photo, parameters.face, deadline)
        return self._digest(engine, parameters, subjects[0].photo), engine, subjects

    @asynccontextmanager
    async def variants(self, photo: bytes, parameters: VariantsParameters) -> AsyncIterator[Variants]:
        """Variants of a face in a photograph.

        Raises:
            NotAnImage, TooManyPixels, NoFace, FaceNotFound, FaceTooSmall: the photograph will not do.
            Overloaded, DeadlineExceeded, ComputationFailed: the service could not.
        """
        engine, deadline = self.engine, self._deadline()
        with self.gate.hold(parameters.images):
            (subject,) = await self._subjects(engine, photo, parameters.face, deadline)
            yield self._sampled(engine, parameters, subject.identity, subject.embedding, subject, deadline)

    @asynccontextmanager
    async def render(self, request: RenderRequest) -> AsyncIterator[Variants]:
        """Variants of an identity; their similarity is to its most faithful redrawing, control 0."""
        engine, deadline = self.engine, self._deadline()
        with self.gate.hold(request.images):
            identity = np.asarray(request.identity, np.float32)
            with self.metrics.stage("decode"):
                _, embeddings = await engine.decoder.run(
                    identity[None], np.zeros((1, CONTROL_SIZE), np.float32), deadline=deadline
                )
            yield self._sampled(engine, request, identity, embeddings[0], None, deadline)

    @asynccontextmanager
    async def sweep(self, photo: bytes, parameters: SweepParameters) -> AsyncIterator[Variants]:
        """Variants along one control, from -1 to 1."""
        engine, deadline = self.engine, self._deadline()
        control = self.control_index(parameters.control)
        with self.gate.hold(parameters.steps):
            (subject,) = await self._subjects(engine, photo, parameters.face, deadline)
            yield Variants(
                id=self._digest(engine, parameters, subject.photo),
                engine=engine,
                seed=None,
                source=subject,
                count=parameters.steps,
                band=engine.manifest.thresholds.lookalike_band,
                search=None,
                _picture=parameters,
                _service=self,
                _identity=subject.identity,
                _embedding=subject.embedding,
                _controls=[floats(row) for row in sweep_controls(control, parameters.steps)],
                _deadline=deadline,
            )

    async def compare(self, reference: bytes, probe: bytes, parameters: CompareParameters) -> Comparison:
        """How alike a recogniser finds the faces of two photographs."""
        engine, deadline = self.engine, self._deadline()
        with self.gate.hold(2):
            (first,), (second,) = await asyncio.gather(
                self._subjects(engine, reference, parameters.reference_face, deadline),
                self._subjects(engine, probe, parameters.probe_face, deadline),
            )
        (score,) = similarity(first.embedding[None], second.embedding)
        answer = self._digest(engine, parameters, first.photo, second.photo)
        return Comparison(answer, engine, score, first.face, second.face)

    def control_index(self, control: int | str) -> int:
        """The index of a control that was given by index or by name.

        Raises:
            UnknownControl: there is none.
        """
        if isinstance(control, int):
            return control
        names = [card.name for card in self.engine.manifest.controls]
        if control not in names:
            raise UnknownControl(f"There is no control {control!r}; there are {', '.join(names)}.")
        return names.index(control)

    def _digest(self, engine: Engine, parameters: BaseModel, *photos: str) -> str:
        """32 hex digits that name an answer: a digest of everything that its bytes follow from."""
        everything = {
            "model": [engine.manifest.name, engine.manifest.version],
            "use": type(parameters).__name__,
            "parameters": parameters.model_dump(mode="json"),
            "mark": self.settings.mark,
            "photos": photos,
        }
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:32]

    async def in_thread(self, work: Callable[[], T], deadline: float = math.inf) -> T:
        """Do something with pictures in the image threads.

        Raises:
            DeadlineExceeded: it had not been done by the deadline.
        """
        try:
            async with asyncio.timeout_at(deadline if deadline < math.inf else None):
                return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, work)
        except TimeoutError:
            raise DeadlineExceeded from None

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.settings.deadline

    def _sampled(
        self,
        engine: Engine,
        parameters: SamplingParameters,
        identity: Floats,
        embedding: Floats,
        source: Subject | None,
        deadline: float,
    ) -> Variants:
        seed: int | None = None
        search: BandSearch | None = None
        band = engine.manifest.thresholds.lookalike_band
        if parameters.controls is not None:
            controls = parameters.controls
        else:
            seed = secrets.randbits(32) if parameters.seed is None else parameters.seed
            parameters = parameters.model_copy(update={"seed": seed})
            controls = [floats(row) for row in sample_controls(seed, parameters.count, parameters.strength)]
            if parameters.similarity_min is not None or parameters.similarity_max is not None:
                band = (
                    -1.0 if parameters.similarity_min is None else parameters.similarity_min,
                    1.0 if parameters.similarity_max is None else parameters.similarity_max,
                )
            if band != engine.manifest.thresholds.lookalike_band or parameters.band:
                search = BandSearch(seed, parameters.count, parameters.strength, *band, self.settings.search_rounds)
        return Variants(
            id=self._digest(engine, parameters, source.photo if source else ""),
            engine=engine,
            seed=seed,
            source=source,
            count=parameters.images,
            band=band,
            search=search,
            _picture=parameters,
            _service=self,
            _identity=identity,
            _embedding=embedding,
            _controls=controls,
            _deadline=deadline,
        )

    async def _subjects(self, engine: Engine, photo: bytes, choice: FaceChoice, deadline: float) -> list[Subject]:
        aligned = await self.in_thread(partial(self._locate, engine.detector, photo, choice), deadline)
        with self.metrics.stage("encode"):
            identities, embeddings = await engine.encoder.run(
                np.stack([item.pixels for item in aligned]), deadline=deadline
            )
        return [
            Subject(item.photo, item.index, item.face, identity, embedding)
            for item, identity, embedding in zip(aligned, identities, embeddings, strict=True)
        ]

    def _locate(self, detector: Detector, data: bytes, choice: FaceChoice) -> list[_Aligned]:
        """Decode a photograph, find its faces, and cut the chosen ones out."""
        with self.metrics.stage("read"):
            digest = hashlib.sha256(data).hexdigest()
            photo = read_photo(data, self.settings.max_pixels)
        with self.metrics.stage("detect"):
            found = list(enumerate(detector(photo.image, thorough=choice != "largest")))
        if not found:
            raise NoFace("No face was found. Send a photograph in which a face is visible, upright and well lit.")
        if choice == "largest":
            found = found[:1]
        elif choice != "all":
            if choice >= len(found):
                raise FaceNotFound(
                    f"Face {choice} was asked for; the last in this photograph is {len(found) - 1}, the largest is 0."
                )
            found = found[choice : choice + 1]
        least = self.settings.min_eye_distance / photo.scale
        large = [(index, face) for index, face in found if face.eye_distance >= least]
        if not large:
            raise FaceTooSmall(
                f"The eyes are {found[0][1].eye_distance * photo.scale:.0f} pixels apart; "
                f"at least {self.settings.min_eye_distance:g} are needed. Send a larger or closer photograph."
            )
        image, factor = photo.image, photo.scale
        if factor > 1 and min(face.eye_distance for _, face in large) < FRAME_EYE_DISTANCE:
            # Decoded at a fraction of its size, the face would have fewer pixels than the face frame shows.
            with self.metrics.stage("read"):
                image, factor = read_photo(data, self.settings.max_pixels, reduced=False).image, 1.0
        with self.metrics.stage("align"):
            return [
                _Aligned(digest, index, face.scaled(photo.scale), align(image, face.scaled(photo.scale / factor)))
                for index, face in large
            ]


def floats(values: Floats) -> list[float]:
    """Single-precision numbers as the shortest decimals that read back as the same."""
    return [float(str(value)) for value in np.asarray(values, np.float32)]
