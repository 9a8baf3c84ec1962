"""The faces of a photograph that a client sent: found, chosen, cut out, encoded; and judged, once they are redrawn."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

from app.core.colour import is_grey
from app.core.computation import Computation
from app.core.faces import similarity
from app.core.generate import CONTROL_SIZE
from app.core.located import Aligned, FaceChoice, Located, Source, locate
from app.core.parameters import PhotographParameters
from app.core.quality import Probe, judge, pose_of, probe_for
from app.core.subject import Subject, Subjects
from app.errors import FaceNotFound, FaceTooSmall, HeadTurned, NoFace, PhotographUnusable, UnlikeAFace
from app.runtime.batching import Job
from app.runtime.manifest import Manifest

TURNS = (90, 180, 270)
"""Degrees clockwise by which a photograph is turned where no upright face is in it as it was sent."""

MARGIN = 1.0
"""Log-odds by which a turned face must be more like one than as it was sent, or may be less where that one lies."""


async def find_subjects(
    computation: Computation, photo: bytes, choice: FaceChoice, how: PhotographParameters
) -> Subjects:
    """The chosen faces of a photograph, as the networks see them, not judged yet.

    Args:
        computation: of the request.
        photo: the file.
        choice: which faces.
        how: whether to turn the photograph, and whether to refuse what is unlike a face.

    Raises:
        NotAnImage, TooManyPixels, NoFace, FaceNotFound, FaceTooSmall, HeadTurned, UnlikeAFace: it will not do.
        DeadlineExceeded, ComputationFailed: the service could not.
    """
    source = Source(photo, computation.settings.max_pixels)
    probe = probe_for(computation.engine.manifest)
    best, failure = await _as_sent(computation, source, choice)
    if how.rotate == "auto" and (best is None or not _sure(best, probe)):
        # A face's index is its place in the photograph as it was sent or turned. Which of the two is for the largest to
        # say, whichever is asked for: else one index would be another face's than where all of them are listed.
        first = best if choice in ("largest", "all", 0) else (await _as_sent(computation, source, "all"))[0]
        if first is None or not _sure(first, probe):
            best = await _turned(computation, source, choice, probe, first) or best
    if best is None:
        assert failure is not None  # noqa: S101 - one of the two there is
        raise failure
    if how.unlike == "refuse" and probe:
        best = _without_unlike(computation.engine.manifest, best, probe)
    return best


async def find_subject(
    computation: Computation, photo: bytes, choice: Literal["largest"] | int, how: PhotographParameters
) -> Subject:
    """The chosen face of a photograph; see `find_subjects`."""
    (subject,) = (await find_subjects(computation, photo, choice, how)).chosen
    return subject


async def _as_sent(
    computation: Computation, source: Source, choice: FaceChoice
) -> tuple[Subjects | None, PhotographUnusable | None]:
    """The chosen faces of a photograph that is not turned; or why there are none, which is no reason not to turn it."""
    try:
        return await _encoded(computation, source, choice), None
    except (NoFace, FaceNotFound, FaceTooSmall, HeadTurned) as error:
        return None, error


async def _encoded(
    computation: Computation, source: Source, choice: FaceChoice, turn: int = 0, *, closely: bool = True
) -> Subjects:
    located: Located = await computation.in_thread(partial(locate, computation, source, choice, turn, closely=closely))
    with computation.stage("encode"):
        identities, embeddings = await computation.engine.encoder.run(
            np.stack([item.pixels for item in located.aligned]), deadline=computation.deadline
        )
    chosen = [
        _subject(item, turn, identity, embedding)
        for item, identity, embedding in zip(located.aligned, identities, embeddings, strict=True)
    ]
    return Subjects(chosen, located.found)


def _subject(item: Aligned, turn: int, identity: np.ndarray, embedding: np.ndarray) -> Subject:
    return Subject(
        photo=item.photo,
        index=item.index,
        face=item.face,
        rotation=turn,
        pose=pose_of(item.upright),
        frame=item.pixels,
        identity=identity,
        embedding=embedding,
        grey=is_grey(item.pixels),
    )


def _sure(subjects: Subjects, probe: Probe | None) -> bool:
    """Whether nothing speaks for looking at the photograph in another way."""
    largest = subjects.chosen[0]
    return largest.pose.upright and (probe is None or probe(largest.embedding) >= probe.sure)


def _rank(subjects: Subjects, probe: Probe | None) -> float:
    """How like an upright face the largest is; without a probe, whether its key points are."""
    largest = subjects.chosen[0]
    if probe:
        return probe(largest.embedding)
    return largest.face.score if largest.pose.upright else -MARGIN


async def _turned(
    computation: Computation, source: Source, choice: FaceChoice, probe: Probe | None, upright: Subjects | None
) -> Subjects | None:
    """The chosen faces of the photograph on its sides or on its head, where its largest is more like a face so.

    Raises:
        FaceNotFound, FaceTooSmall, HeadTurned: the chosen face of the turned photograph will not do.
    """

    async def look(turn: int) -> tuple[int, Subjects] | None:
        try:
            return turn, await _encoded(computation, source, "largest", turn, closely=False)
        except (NoFace, FaceTooSmall, HeadTurned):
            return None

    looks = [found for found in await asyncio.gather(*map(look, TURNS)) if found]
    least = -np.inf
    if upright:
        # A face that was found lying is as good as one that stands, but its place is told as that of a lying one.
        least = _rank(upright, probe) + (MARGIN if upright.chosen[0].pose.upright else -MARGIN)
    if probe:
        least = max(least, probe.floor)
    turn, best = max(looks, key=lambda look: _rank(look[1], probe), default=(0, None))
    if best is None or _rank(best, probe) < least:
        return None
    return best if choice == "largest" else await _encoded(computation, source, choice, turn)


def _without_unlike(manifest: Manifest, subjects: Subjects, probe: Probe) -> Subjects:
    """Those that are like a face.

    Raises:
        UnlikeAFace: none is.
    """
    alike = [subject for subject in subjects.chosen if probe(subject.embedding) >= probe.floor]
    if not alike:
        first = subjects.chosen[0]
        doubts = judge(manifest, first.pose, first.frame, first.embedding, None, None).doubts
        why = " ".join(doubt.detail for doubt in doubts if doubt.component != "face-likeness")
        raise UnlikeAFace(
            f"What was found is unlike the photograph of an upright face. {why + ' ' if why else ''}"
            "Send a photograph, no drawing and no negative, in which the face is sharp, upright and uncovered; "
            "or say unlike=answer to have it redrawn as it is."
        )
    return Subjects(alike, subjects.found)


def redrawing(computation: Computation, subjects: list[Subject]) -> Job:
    """Faces as faithfully redrawn as they can be, which begins now; for `judged`."""
    identities = np.stack([subject.identity for subject in subjects])
    return computation.engine.decoder.begin(identities, np.zeros((len(subjects), CONTROL_SIZE), np.float32))


async def judged(computation: Computation, subjects: list[Subject], redrawn: Job | None) -> list[Subject]:
    """The same, with what was measured of each; how faithfully they can be redrawn only where they were.

    Raises:
        DeadlineExceeded, ComputationFailed: the service could not.
    """
    manifest = computation.engine.manifest
    if redrawn is None:
        return [replace(s, quality=judge(manifest, s.pose, s.frame, s.embedding, None, None)) for s in subjects]
    with computation.stage("decode"):
        images, embeddings = await redrawn.all(computation.deadline)
    grey = np.array([subject.grey for subject in subjects])
    images, embeddings = await computation.as_photographed(images, embeddings, grey)
    done = []
    for subject, image, embedding in zip(subjects, images, embeddings, strict=True):
        (fidelity,) = similarity(embedding[None], subject.embedding)
        quality = judge(manifest, subject.pose, subject.frame, subject.embedding, image, fidelity)
        done.append(replace(subject, quality=quality))
    return done
