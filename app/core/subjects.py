"""The faces of a photograph that a client sent: found, chosen, cut out and encoded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from app.core.colour import is_grey
from app.core.computation import Computation
from app.core.faces import FRAME_POINTS, Bytes, Face, Floats, align
from app.core.images import read_photo
from app.core.parameters import MAX_VARIANTS
from app.core.reference import Reference
from app.errors import FaceNotFound, FaceTooSmall, NoFace

FaceChoice = Literal["largest", "all"] | int

FRAME_EYE_DISTANCE = float(np.linalg.norm(FRAME_POINTS[1] - FRAME_POINTS[0]))
"""Distance between the eyes in the face frame, in units of its side."""


@dataclass(frozen=True)
class Subject:
    """A face that a client sent, as the networks see it.

    Attributes:
        photo: digest of the photograph.
        index: its place among the faces of its photograph, largest first.
        face: where it was found, in pixels of the upright photograph.
        identity: [70].
        embedding: [192], of unit length.
        grey: whether it has no colour.
    """

    photo: str
    index: int
    face: Face
    identity: Floats
    embedding: Floats
    grey: bool

    @property
    def reference(self) -> Reference:
        """What may be kept of it."""
        return Reference(self.embedding, self.grey)


@dataclass(frozen=True)
class Subjects:
    """Faces of a photograph.

    Attributes:
        chosen: those that were asked for and can be used, largest first; at least one, at most `MAX_VARIANTS`.
        found: how many faces the photograph has.
    """

    chosen: list[Subject]
    found: int

    @property
    def photo(self) -> str:
        """Digest of the photograph."""
        return self.chosen[0].photo


@dataclass(frozen=True)
class Aligned:
    """A face that was found, and its pixels [f, f, 3] in the face frame."""

    photo: str
    index: int
    face: Face
    pixels: Bytes


async def find_subjects(computation: Computation, photo: bytes, choice: FaceChoice) -> Subjects:
    """The chosen faces of a photograph, as the networks see them.

    Raises:
        NotAnImage, TooManyPixels, NoFace, FaceNotFound, FaceTooSmall: the photograph will not do.
        DeadlineExceeded, ComputationFailed: the service could not.
    """
    aligned, found = await computation.in_thread(partial(locate, computation, photo, choice))
    with computation.stage("encode"):
        identities, embeddings = await computation.engine.encoder.run(
            np.stack([item.pixels for item in aligned]), deadline=computation.deadline
        )
    chosen = [
        Subject(item.photo, item.index, item.face, identity, embedding, is_grey(item.pixels))
        for item, identity, embedding in zip(aligned, identities, embeddings, strict=True)
    ]
    return Subjects(chosen, found)


async def find_subject(computation: Computation, photo: bytes, choice: Literal["largest"] | int) -> Subject:
    """The chosen face of a photograph; see `find_subjects`."""
    (subject,) = (await find_subjects(computation, photo, choice)).chosen
    return subject


def locate(computation: Computation, data: bytes, choice: FaceChoice) -> tuple[list[Aligned], int]:
    """Decode a photograph, find its faces, and cut the chosen ones out; to be called in a thread.

    Returns:
        Those that can be used, and how many faces there are in all.
    """
    most, side = computation.settings.max_pixels, computation.engine.sizes.frame
    with computation.stage("read"):
        digest = hashlib.sha256(data).hexdigest()
        photo = read_photo(data, most)
    with computation.stage("detect"):
        found = list(enumerate(computation.engine.detector(photo.image, thorough=choice != "largest")))
    large = _large_enough(_chosen(found, choice), computation.settings.min_eye_distance, photo.scale)
    image, factor = photo.image, photo.scale
    if factor > 1 and min(face.eye_distance for _, face in large) < FRAME_EYE_DISTANCE * side:
        # Decoded at a fraction of its size, the face would have fewer pixels than the face frame shows.
        with computation.stage("read"):
            image, factor = read_photo(data, most, reduced=False).image, 1.0
    with computation.stage("align"):
        aligned = [
            Aligned(digest, index, face.scaled(photo.scale), align(image, face.scaled(photo.scale / factor), side))
            for index, face in large
        ]
    return aligned, len(found)


def _chosen(found: list[tuple[int, Face]], choice: FaceChoice) -> list[tuple[int, Face]]:
    """Of the faces with their places, largest first, those that are asked for."""
    if not found:
        raise NoFace("No face was found. Send a photograph in which a face is visible, upright and well lit.")
    if choice == "all":
        return found[:MAX_VARIANTS]
    if choice == "largest":
        return found[:1]
    if choice >= len(found):
        raise FaceNotFound(
            f"Face {choice} was asked for; the last in this photograph is {len(found) - 1}, the largest is 0."
        )
    return found[choice : choice + 1]


def _large_enough(faces: list[tuple[int, Face]], least: float, scale: float) -> list[tuple[int, Face]]:
    """Those whose eyes are `least` pixels of the photograph apart; `scale` are its pixels in one that they are in."""
    large = [(index, face) for index, face in faces if face.eye_distance >= least / scale]
    if not large:
        raise FaceTooSmall(
            f"The eyes are {faces[0][1].eye_distance * scale:.0f} pixels apart; "
            f"at least {least:g} are needed. Send a larger or closer photograph."
        )
    return large
