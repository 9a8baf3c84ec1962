"""What a face is worth for redrawing: measured on the photograph, and on how well it can be redrawn at all.

Components are named as in ISO/IEC 29794-5 (OFIQ) where that has them: head pose, inter-eye distance, sharpness. It has
none for what a generator needs to know first, whether this is the photograph of an upright face at all. That is asked
of the recogniser's embedding by a linear probe, fitted to photographs against the same ones on their heads, on their
sides and as negatives, and against pictures of other things; docs/quality.md has what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, TypeAdapter

from app.core.colour import LUMA
from app.core.faces import Bytes, Face, Floats
from app.runtime.manifest import Manifest

FILE = Path(__file__).with_name("face_probe.json")

NOSE = 0.64
"""How far the nose stands out from the eyes, in eye distances: the median that agrees with how much closer together a
turned head's eyes are, over 276 turned heads (quartiles 0.57 and 0.74)."""
FRONTAL = 0.92
"""Eye distance of a head that is not turned, by the distance from its eyes to its mouth: the median of photographs."""

MAX_YAW = 35.0
"""Degrees up to which heads count as facing the camera."""
MAX_ROLL = 45.0
"""Degrees beyond which a face rather lies on its side than is inclined."""
MIN_EYES = 32.0
"""Pixels between the eyes below which much of a face in the frame is made up."""
MIN_SHARPNESS = 0.06
"""Of usable photographs 99.5 % have more than 0.08; with a blur of 5 pixels of the frame it is 0.03."""

GRID = 32
"""Cells of the face frame, each way, in which a face and its redrawing are compared."""
EYES, MOUTH = np.s_[5:14, 4:28], np.s_[19:29, 7:25]
"""Parts of the grid."""


Component = Literal[
    "face-likeness",
    "head-pose-roll",
    "head-pose-yaw",
    "inter-eye-distance",
    "sharpness",
    "eyes-visible",
    "mouth-visible",
    "fidelity",
]
"""What there may be doubts about."""


@dataclass(frozen=True)
class Doubt:
    """One reason why look-alikes may not be like the photograph: what was measured, and a sentence about it."""

    component: Component
    detail: str


@dataclass(frozen=True)
class Pose:
    """How a head is held, from its key points.

    Attributes:
        yaw: degrees by which it is turned to the side; 0 faces the camera, positive looks to the picture's right.
        roll: degrees by which it is inclined, clockwise in the picture.
        upright: whether its key points lie as those of an upright face do.
        eye_distance: in pixels of the photograph.
    """

    yaw: float
    roll: float
    upright: bool
    eye_distance: float


@dataclass(frozen=True)
class Quality:
    """What was measured of one face.

    Attributes:
        pose: how the head is held.
        sharpness: fine detail by all contrast, in the face frame.
        likeness: log-odds that this is the photograph of an upright face; None where the probe is for another network.
        fidelity: cosine of the recogniser between the photograph and its most faithful redrawing; None if not redrawn.
        doubts: what is wrong, worst first.
    """

    pose: Pose
    sharpness: float
    likeness: float | None
    fidelity: float | None
    doubts: tuple[Doubt, ...]


class Probe(BaseModel):
    """The linear probe: log-odds = weights . embedding + bias.

    Attributes:
        recognizer: SHA-256 of the network whose embeddings it is for.
        floor: log-odds below which a face is refused.
        sure: log-odds above which nothing speaks for looking again; nearly all upright photographs are above it.
        bias, weights: [192].
    """

    recognizer: str
    floor: float
    sure: float
    bias: float
    weights: list[float]

    def __call__(self, embedding: Floats) -> float:
        """Log-odds of an embedding [192]."""
        return float(embedding @ np.asarray(self.weights) + self.bias)


def probe_for(manifest: Manifest) -> Probe | None:
    """The probe, unless it was made for another recogniser than the model's."""
    probe = _probe()
    return probe if probe.recognizer == manifest.files["recognizer"].sha256 else None


@cache
def _probe() -> Probe:
    return TypeAdapter(Probe).validate_json(FILE.read_bytes())


def pose_of(face: Face) -> Pose:
    """How a head is held, from where its eyes, nose and mouth are; `face` in pixels of the photograph."""
    right, left, nose, mouth = face.points[:4]
    middle, distance = (right + left) / 2, max(face.eye_distance, 1e-6)
    along = (left - right) / distance
    down = np.array([-along[1], along[0]])
    to_nose, to_mouth = (nose - middle) / distance, (mouth - middle) / distance
    roll = float(np.degrees(np.arctan2(along[1], along[0])))
    yaw = float(np.degrees(np.arctan(to_nose @ along / NOSE)))
    below = to_mouth @ down > 0.6 and 0.05 < to_nose @ down < to_mouth @ down
    return Pose(yaw, roll, bool(below and abs(roll) <= MAX_ROLL), face.eye_distance)


def frontal_distance(face: Face) -> float:
    """How far apart the eyes would be if the head were not turned, by the height of the face."""
    middle = (face.points[0] + face.points[1]) / 2
    return max(face.eye_distance, FRONTAL * float(np.linalg.norm(face.points[3] - middle)))


def sharpness(frame: Bytes) -> float:
    """Deviation of the Laplacian by that of the luma, of a face [f, f, 3]."""
    luma = frame @ LUMA
    inner = luma[1:-1, 1:-1]
    laplacian = 4 * inner - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]
    return float(laplacian.std() / max(float(luma.std()), 1e-6))


def agreement(frame: Bytes, redrawn: Bytes) -> tuple[float, float]:
    """Correlation of light and dark around the eyes and around the mouth, of a face and its redrawing, -1..1."""
    one, other = _coarse(frame), _coarse(redrawn)
    return _correlation(one[EYES], other[EYES]), _correlation(one[MOUTH], other[MOUTH])


def _coarse(frame: Bytes) -> NDArray[np.float64]:
    return np.asarray(Image.fromarray(frame).convert("L").resize((GRID, GRID), Image.Resampling.BOX), float)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float((one * other).sum() / max(float(np.sqrt((one**2).sum() * (other**2).sum())), 1e-6))


def judge(
    manifest: Manifest, pose: Pose, frame: Bytes, embedding: Floats, redrawn: Bytes | None, fidelity: float | None
) -> Quality:
    """Everything that can be said of a face.

    Args:
        manifest: of the model.
        pose: how the head is held.
        frame: [f, f, 3], the face.
        embedding: [192], of the face.
        redrawn: [s, s, 3], its most faithful redrawing, where there is one.
        fidelity: cosine of the recogniser between the two.
    """
    probe = probe_for(manifest)
    likeness = probe(embedding) if probe else None
    sharp = sharpness(frame)
    doubts = []
    if probe and likeness is not None and likeness < probe.floor:
        doubts.append(Doubt("face-likeness", "It is unlike the photograph of an upright face."))
    if not pose.upright:
        doubts.append(Doubt("head-pose-roll", "The eyes, nose and mouth do not lie as those of an upright face do."))
    if abs(pose.yaw) > MAX_YAW:
        doubts.append(Doubt("head-pose-yaw", f"The head is turned to the side, by about {abs(pose.yaw):.0f} degrees."))
    if pose.eye_distance < MIN_EYES:
        what = f"The eyes are {pose.eye_distance:.0f} pixels apart; details are made up below {MIN_EYES:.0f}."
        doubts.append(Doubt("inter-eye-distance", what))
    if sharp < MIN_SHARPNESS:
        doubts.append(Doubt("sharpness", "The face is blurred."))
    if redrawn is not None and fidelity is not None:
        doubts += _of_redrawing(manifest, frame, redrawn, fidelity)
    return Quality(pose, sharp, likeness, fidelity, tuple(doubts))


def _of_redrawing(manifest: Manifest, frame: Bytes, redrawn: Bytes, fidelity: float) -> list[Doubt]:
    doubts = []
    eyes, mouth = agreement(frame, redrawn)
    if eyes < manifest.redrawing.eyes:
        doubts.append(
            Doubt("eyes-visible", "Around the eyes the redrawing is unlike the photograph: are they covered?")
        )
    if mouth < manifest.redrawing.mouth:
        what = "Around the mouth the redrawing is unlike the photograph: is it covered, or wide open?"
        doubts.append(Doubt("mouth-visible", what))
    if fidelity < manifest.thresholds.fmr_1e_3:
        stranger = fidelity < manifest.thresholds.fmr_1e_2
        who = "as a stranger would be" if stranger else "less than look-alikes are"
        doubts.append(
            Doubt("fidelity", f"The most faithful redrawing is like the photograph by {fidelity:.2f}, {who}.")
        )
    return doubts
