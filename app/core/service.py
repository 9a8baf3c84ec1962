"""The use cases, free of HTTP: what routes, the command line and Ray call.

Photographs go through a bounded pool of threads, networks through the batchers, and everything waits on the event loop.
Nothing of a photograph is kept once its answer is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from app.core.cohort import Cohort, read_cohort
from app.core.computation import Computation, ImageThreads
from app.core.controls import places
from app.core.faces import similarity
from app.core.generate import NEUTRAL
from app.core.models import Engine, ModelsInForce
from app.core.origin import Examination, Origin
from app.core.parameters import (
    CompareParameters,
    IdentitiesParameters,
    RenderRequest,
    SweepParameters,
    VariantsParameters,
)
from app.core.reference import Reference, read_reference
from app.core.selftest import SelfTest, try_out
from app.core.sizes import sized
from app.core.subject import Subject, Subjects
from app.core.subjects import find_subject, find_subjects, judged, redrawing
from app.core.variants import Variants, planned, sampled, swept
from app.errors import NoCohort, PhotographUnusable
from app.runtime.batching import Gate
from app.runtime.manifest import Manifest
from app.settings import Settings
from app.telemetry.metrics import Metrics


class Normalised(NamedTuple):
    """A similarity as a cohort of so many members has it, the `top` most like each face."""

    score: float
    members: int
    top: int


@dataclass(frozen=True)
class Comparison:
    """How alike the faces of two photographs are."""

    id: str
    engine: Engine
    similarity: float
    reference: Subject
    probe: Subject
    normalised: Normalised | None = None


class Service:
    """Everything the product does, once `start` was awaited.

    Args:
        settings: limits, directories, sizes.
        metrics: where it counts what it does.

    Attributes:
        gate: images that are waited for.
        threads: where pictures are read and written.
        origin: the layers that say where a picture comes from.

    Raises:
        CredentialsInvalid: a key or a certificate that the settings name cannot be used.
        CohortInvalid: the file of the cohort cannot be used.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings = settings
        self.metrics = metrics
        self.gate = Gate(settings.queue_images)
        self.threads = ImageThreads(settings)
        self.origin = Origin(settings)
        self._cohort = read_cohort(settings.cohort) if settings.cohort else None
        self._models = ModelsInForce(settings, metrics)
        self._self_test = SelfTest(lambda: try_out(self._begin()))

    async def start(self) -> None:
        """Load and warm the models.

        Raises:
            ModelsInvalid, ProviderUnavailable: see `Engine`.
        """
        await self._models.load()

    async def reload(self) -> tuple[Manifest, Manifest]:
        """Serve what the model directory holds now: see `ModelsInForce`."""
        return await self._models.reload()

    async def close(self) -> None:
        """Stop; to be called when nothing is in flight."""
        await self._self_test.close()
        await self._models.close()
        self.threads.close()

    @property
    def engine(self) -> Engine:
        """The models in force.

        Raises:
            NotReady: they are still being loaded.
        """
        return self._models.engine

    @property
    def started(self) -> bool:
        """Whether the models are loaded and warm."""
        return self._models.loaded

    @property
    def failing(self) -> bool:
        """Whether the networks failed when they were last tried; if so, they are tried anew."""
        failed = self._self_test.failed
        if failed:
            self._self_test.begin()
        return failed

    def doubt(self) -> None:
        """A request failed for no fault of its own that is known: find out whether the networks still work."""
        if self.started:
            self._self_test.begin()

    async def identities(self, photo: bytes, parameters: IdentitiesParameters) -> tuple[str, Engine, Subjects]:
        """The faces of a photograph as identity latents; returns the answer's id, the engine used, and the faces."""
        computation = self._begin()
        with self.gate.hold(1):
            seen = await find_subjects(computation, photo, parameters.face, parameters)
            chosen = await judged(computation, seen.chosen, redrawing(computation, seen.chosen))
        subjects = Subjects(chosen, seen.found)
        return computation.answer_id(parameters, subjects.photo), computation.engine, subjects

    @asynccontextmanager
    async def variants(self, photo: bytes, parameters: VariantsParameters) -> AsyncIterator[Variants]:
        """Variants of a face in a photograph.

        Raises:
            NotAnImage, TooManyPixels, NoFace, FaceNotFound, FaceTooSmall, HeadTurned, UnlikeAFace: it will not do.
            UnknownControl, UnknownSize: the model has no such control, or no such pictures.
            Overloaded, DeadlineExceeded, ComputationFailed: the service could not.
        """
        computation = self._begin()
        plan = planned(computation, parameters)
        with self.gate.hold(parameters.images):
            subject = await find_subject(computation, photo, parameters.face, parameters)
            async with _judged(
                sampled(computation, plan, subject.identity, subject.reference, subject), subject
            ) as variants:
                yield variants

    @asynccontextmanager
    async def render(self, request: RenderRequest) -> AsyncIterator[Variants]:
        """Variants of an identity.

        Their similarity is to the photograph whose reference is given, else to the most faithful redrawing.

        Raises:
            ReferenceInvalid: what is given is none.
            UnknownControl, UnknownSize: the model has no such control, or no such pictures.
            Overloaded, DeadlineExceeded, ComputationFailed: the service could not.
        """
        computation = self._begin()
        plan, identity = planned(computation, request), np.asarray(request.identity, np.float32)
        kept = read_reference(request.reference, computation.engine.manifest) if request.reference is not None else None
        with self.gate.hold(request.images):
            if kept:
                yield sampled(computation, plan, identity, kept)
                return
            with computation.stage("decode"):
                _, embeddings = await computation.engine.decoder.run(
                    identity[None], NEUTRAL, deadline=computation.deadline
                )
            yield sampled(computation, plan, identity, Reference(embeddings[0], grey=False), against="redrawing")

    @asynccontextmanager
    async def sweep(self, photo: bytes, parameters: SweepParameters) -> AsyncIterator[Variants]:
        """Variants along one control, from -1 to 1."""
        computation = self._begin()
        parameters = sized(parameters, computation.engine.manifest.picture_sizes)
        control = self.control_index(parameters.control)
        with self.gate.hold(parameters.steps):
            subject = await find_subject(computation, photo, parameters.face, parameters)
            async with _judged(swept(computation, parameters, control, subject), subject) as variants:
                yield variants

    async def compare(self, reference: bytes, probe: bytes, parameters: CompareParameters) -> Comparison:
        """How alike a recogniser finds the faces of two photographs.

        Raises:
            NoCohort: the score is to be normalised, and there is nothing to normalise it by.
        """
        computation = self._begin()
        cohort = _fitting(self._cohort, computation.engine) if parameters.normalise == "cohort" else None

        async def compared(photo: bytes, choice: Literal["largest"] | int) -> Subject:
            subject = await find_subject(computation, photo, choice, parameters)
            return (await judged(computation, [subject], None))[0]

        with self.gate.hold(2):
            first, second = await asyncio.gather(
                _named("reference", compared(reference, parameters.reference_face)),
                _named("probe", compared(probe, parameters.probe_face)),
            )
        (score,) = similarity(first.embedding[None], second.embedding)
        answer = computation.answer_id(parameters, first.photo, second.photo)
        normalised = None
        if cohort:
            seen = cohort.score(first.embedding, second.embedding, score)
            normalised = Normalised(seen, len(cohort.embeddings), cohort.top)
        return Comparison(answer, computation.engine, score, first, second, normalised)

    async def detect(self, picture: bytes) -> tuple[Engine, Examination]:
        """Which marks of origin a picture carries.

        Raises:
            NotAnImage, TooManyPixels: there is nothing to look at.
            Overloaded, DeadlineExceeded: the service could not.
        """
        computation = self._begin()
        engine, manifest = computation.engine, computation.engine.manifest
        with self.gate.hold(1), computation.stage("examine"):
            look = partial(self.origin.examine, picture, engine.detector, (manifest.name, manifest.version))
            return engine, await computation.in_thread(look)

    def control_index(self, control: int | str) -> int:
        """The index of a control that was given by index or by name.

        Raises:
            UnknownControl: there is none.
        """
        if isinstance(control, int):
            return control
        (place,) = places({control: 0}, self.engine.manifest.control_names)
        return place

    def _begin(self) -> Computation:
        """What a request that begins now computes with."""
        deadline = asyncio.get_running_loop().time() + self.settings.deadline
        return Computation(self.engine, self.settings, self.metrics, self.threads, self.origin, deadline)


@asynccontextmanager
async def _judged(variants: Variants, subject: Subject) -> AsyncIterator[Variants]:
    """Variants of a face whose quality is known; they are drawn together with the redrawing that it is judged by."""
    redrawn = redrawing(variants.computation, [subject])
    with variants.begun():
        (variants.source,) = await judged(variants.computation, [subject], redrawn)
        yield variants


def _fitting(cohort: Cohort | None, engine: Engine) -> Cohort:
    """The cohort, where there is one for this engine's recogniser.

    Raises:
        NoCohort: there is none.
    """
    if not cohort:
        raise NoCohort("Scores are not normalised here: the operator would have to set a cohort. Ask without.")
    if not cohort.fits(engine.manifest):
        raise NoCohort("The cohort was made with another recogniser: the operator has to make it anew. Ask without.")
    return cohort


async def _named(name: str, subject: Awaitable[Subject]) -> Subject:
    """A face of one of several photographs; what is wrong with it says with which.

    Raises:
        PhotographUnusable: it will not do.
    """
    try:
        return await subject
    except PhotographUnusable as error:
        raise type(error)(f"The {name}: {error}") from error
