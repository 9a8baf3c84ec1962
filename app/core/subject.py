"""A face that a client sent, as the networks see it."""

from __future__ import annotations

from dataclasses import dataclass

from app.core.faces import Bytes, Face, Floats
from app.core.quality import Pose, Quality
from app.core.reference import Reference


@dataclass(frozen=True)
class Subject:
    """A face that a client sent, as the networks see it.

    Attributes:
        photo: digest of the photograph.
        index: its place among the faces of its photograph, largest first.
        face: where it was found, in pixels of the photograph as it is shown.
        rotation: degrees by which the photograph was turned clockwise for the face to be upright.
        pose: how the head is held, once it is turned.
        frame: [f, f, 3], its pixels in the face frame.
        identity: [70].
        embedding: [192], of unit length.
        grey: whether it has no colour.
        quality: what was measured of it.
    """

    photo: str
    index: int
    face: Face
    rotation: int
    pose: Pose
    frame: Bytes
    identity: Floats
    embedding: Floats
    grey: bool
    quality: Quality | None = None

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
