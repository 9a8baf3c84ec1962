"""Faces in a photograph that a client sent: found, chosen, and cut out; to be called in a thread."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from app.core.computation import Computation
from app.core.faces import FRAME_POINTS, Bytes, Face, align
from app.core.images import Photo, read_photo
from app.core.parameters import MAX_VARIANTS
from app.core.quality import frontal_distance, pose_of
from app.errors import FaceNotFound, FaceTooSmall, HeadTurned, NoFace

FaceChoice = Literal["largest", "all"] | int

FRAME_EYE_DISTANCE = float(np.linalg.norm(FRAME_POINTS[1] - FRAME_POINTS[0]))
"""Distance between the eyes in the face frame, in units of its side."""


class Source:
    """A photograph as it was sent, which is decoded once, however often faces are looked for in it.

    Args:
        data: the file.
        max_pixels: most that it may have.
    """

    def __init__(self, data: bytes, max_pixels: int) -> None:
        self.data, self.max_pixels = data, max_pixels

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal digits."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def photo(self) -> Photo:
        """The photograph, a large one at a fraction of its size.

        Raises:
            NotAnImage, TooManyPixels: it is none.
        """
        return read_photo(self.data, self.max_pixels)

    def too_coarse(self, eye_distance: float, side: int) -> bool:
        """Whether a face whose eyes are so far apart in `photo` has fewer pixels there than the face frame shows.

        Only where it was decoded at a fraction of its size, so that `whole` has more.
        """
        return self.photo.scale > 1 and eye_distance < FRAME_EYE_DISTANCE * side

    def whole(self) -> Photo:
        """The photograph in full size."""
        return read_photo(self.data, self.max_pixels, reduced=False)


@dataclass(frozen=True)
class Aligned:
    """A face that was found.

    Attributes:
        photo: digest of the photograph.
        index: its place among the faces of its photograph, largest first.
        face: in pixels of the photograph as it is shown.
        upright: in pixels of the photograph as it was turned for the face to be upright.
        pixels: [f, f, 3] uint8, cut out in the face frame.
    """

    photo: str
    index: int
    face: Face
    upright: Face
    pixels: Bytes


@dataclass(frozen=True)
class Located:
    """Faces of a photograph: those that were asked for and can be used, and how many there are in all."""

    aligned: list[Aligned]
    found: int


def locate(
    computation: Computation, source: Source, choice: FaceChoice, turn: int = 0, *, closely: bool = True
) -> Located:
    """Decode a photograph, turn it, find its faces, and cut the chosen ones out.

    Args:
        computation: of the request.
        source: the photograph.
        choice: which faces.
        turn: degrees by which to turn it clockwise: 0, 90, 180 or 270.
        closely: whether to look for small faces where there is no large one.

    Raises:
        NotAnImage, TooManyPixels, NoFace, FaceNotFound, FaceTooSmall, HeadTurned: it will not do.
    """
    side = computation.engine.sizes.frame
    with computation.stage("read"):
        digest, photo = source.digest, source.photo.turned(turn)
    thorough = choice != "largest" if closely else None
    with computation.stage("detect"):
        found = list(enumerate(computation.engine.detector(photo.image, thorough)))
    large = _large_enough(_chosen(found, choice), computation.settings.min_eye_distance, photo.scale)
    whole = None
    if source.too_coarse(min(face.eye_distance for _, face in large), side):
        with computation.stage("read"):
            whole = source.whole().turned(turn).image
    aligned = []
    with computation.stage("align"):
        for index, face in large:
            upright = face.scaled(photo.scale)
            shown = upright.turned((360 - turn) % 360, photo.width, photo.height)
            # Each by its own size: a large one is cut the same whether or not a small one is asked for with it.
            if whole and source.too_coarse(face.eye_distance, side):
                pixels = align(whole, upright, side)
            else:
                pixels = align(photo.image, face, side)
            aligned.append(Aligned(digest, index, shown, upright, pixels))
    return Located(aligned, len(found))


def _chosen(found: list[tuple[int, Face]], choice: FaceChoice) -> list[tuple[int, Face]]:
    """Of the faces with their places, largest first, those that are asked for."""
    if not found:
        raise NoFace("No face was found. Send a photograph in which a face is visible and well lit.")
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
    if large:
        return large
    face = faces[0][1]
    if frontal_distance(face) >= least / scale:
        yaw = abs(pose_of(face).yaw)
        raise HeadTurned(
            f"The head is turned to the side by about {yaw:.0f} degrees, so that the eyes lie together. "
            "Send a photograph that faces the camera."
        )
    raise FaceTooSmall(
        f"The eyes are {face.eye_distance * scale:.0f} pixels apart; "
        f"at least {least:g} are needed. Send a larger or closer photograph."
    )
