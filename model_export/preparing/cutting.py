"""From the bytes of a picture to a face in the face frame, with what a quality filter wants to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.core.faces import (
    FRAME_POINTS,
    FRAME_SIZE,
    Bytes,
    Detector,
    Face,
    Floats,
    Recognizer,
    align,
    similarity_transform,
)
from app.core.formats import read_any
from app.errors import NotAnImage, TooManyPixels
from app.runtime.sessions import Device

MAX_PIXELS = 100_000_000


class UnusablePicture(ValueError):
    """A picture that gives no face; the message is the reason, in a few words, the same for all alike."""


@dataclass(frozen=True)
class Quality:
    """What was measured of one face.

    Attributes:
        score: detector confidence in (0, 1).
        eye_distance: pixels of the photograph.
        turn: nose tip off the eyes' middle, in eye distances; 0 is frontal.
        misfit: mean distance of the four points to the face frame's after alignment, in eye distances.
        outside: share of the face frame that lies outside the photograph.
        padding: share of the face frame that is black padding baked into the picture, see `padding_share`.
        sharpness: see `sharpness`.
        brightness: mean luminance of the middle of the frame, 0..255.
        contrast: standard deviation of that luminance.
        channel_difference: mean of largest minus least channel over the middle of the frame, 0..255; 0 is grey.
        cut_out: whether the face was cut out and laid on white, see `is_cut_out`.
    """

    score: float
    eye_distance: float
    turn: float
    misfit: float
    outside: float
    padding: float
    sharpness: float
    brightness: float
    contrast: float
    channel_difference: float
    cut_out: bool

    @property
    def grey(self) -> bool:
        """No colour beyond what JPEG adds; a tinted (sepia) face counts as coloured."""
        return self.channel_difference < 4.0


class Cutter:
    """Finds the largest face of a picture, cuts it into the face frame and measures it."""

    def __init__(self, models: Path, device: Device = "cpu", threads: int = 1) -> None:
        self._detect = Detector(models, device, threads)
        self._recognize = Recognizer(models, device, threads)

    def cut(self, data: bytes) -> tuple[Bytes, Quality]:
        """The face [128, 128, 3] uint8 of an encoded picture, and its measures.

        Raises:
            UnusablePicture: not a picture, damaged, too large, or without a face.
        """
        image = read_picture(data)
        face = self._find(image)
        aligned = align(image, face)
        luminance = np.asarray(Image.fromarray(aligned).convert("L"), np.float32)
        middle = luminance[_MIDDLE]
        return aligned, Quality(
            score=face.score,
            eye_distance=face.eye_distance,
            turn=face.turn,
            misfit=misfit(face),
            outside=outside_share(face, image.size),
            padding=padding_share(aligned),
            sharpness=sharpness(luminance),
            brightness=float(middle.mean()),
            contrast=float(middle.std()),
            channel_difference=channel_difference(aligned),
            cut_out=is_cut_out(aligned),
        )

    def embed(self, faces: Bytes, batch: int = 32) -> Floats:
        """Embed faces [n, 128, 128, 3]; unit vectors [n, 192]."""
        parts = [self._recognize(faces[start : start + batch]) for start in range(0, len(faces), batch)]
        return np.concatenate(parts) if parts else np.empty((0, 192), np.float32)

    def _find(self, image: Image.Image) -> Face:
        faces = self._detect(image)
        if not faces:
            raise UnusablePicture("no face")
        return faces[0]


def read_picture(data: bytes) -> Image.Image:
    """Decode a picture to upright RGB, as the service and `augment` do.

    Raises:
        UnusablePicture: not a picture, damaged, or larger than `MAX_PIXELS`.
    """
    try:
        return read_any(data, MAX_PIXELS)
    except TooManyPixels as error:
        raise UnusablePicture("too many pixels") from error
    except NotAnImage as error:
        raise UnusablePicture("unreadable") from error


def misfit(face: Face) -> float:
    """How badly the four points fit the face frame: mean distance after alignment, in eye distances."""
    points = face.points[:4]
    matrix = similarity_transform(FRAME_POINTS, points)
    fitted = FRAME_POINTS @ matrix[:, :2].T + matrix[:, 2]
    return float(np.linalg.norm(fitted - points, axis=1).mean() / max(face.eye_distance, 1e-6))


def outside_share(face: Face, size: tuple[int, int], cells: int = 64) -> float:
    """Share of the face frame that lies outside a picture of `size` (width, height)."""
    matrix = similarity_transform(FRAME_POINTS, face.points[:4])
    line = (np.arange(cells) + 0.5) / cells
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    spots = grid @ matrix[:, :2].T + matrix[:, 2]
    return float(1 - np.all((spots >= 0) & (spots <= size), axis=1).mean())


def padding_share(face: Bytes) -> float:
    """Share of the face [128, 128, 3] that is the black padding of a picture which somebody rotated before.

    Told from dark hair and night by its edge: along one side of the frame the depth of the black is a straight line
    (to a pixel). Of several such sides the largest counts; less than 1 % is not looked for.
    """
    dark = face.max(-1) <= 12
    return max(_straight_share(side) for side in (dark, dark[::-1], dark.T, dark.T[::-1]))


def _straight_share(dark: NDArray[np.bool_]) -> float:
    """The share that is dark from the top down to a straight line; 0 where the line is not straight."""
    size = len(dark)
    depth = np.where(dark.all(0), size, np.argmin(dark, axis=0))
    share = float(depth.sum()) / size**2
    edge = np.flatnonzero((depth > 0) & (depth < size))
    if share < 0.01 or len(edge) < size // 16:
        return 0.0
    slope, offset = np.polyfit(edge, depth[edge], 1)
    misses = np.abs(np.clip(slope * np.arange(size) + offset, 0, size) - depth)
    straight = misses.mean() < 1 and np.median(misses[edge]) < 1 and np.quantile(misses[edge], 0.9) < 2
    return share if straight else 0.0


def sharpness(luminance: Floats) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al. 2000), per standard deviation, of the luminance [128, 128].

    Taken in the middle of the frame after light smoothing, so that noise and JPEG blocks do not pass for detail;
    divided by the deviation, so that dim light and dark skin do not pass for blur (the variance would overdo it: hard
    light would pass for blur).
    """
    x: NDArray[np.floating] = luminance[_MIDDLE]
    contrast = float(x.std())
    x = (x[:-2] + 2 * x[1:-1] + x[2:]) / 4
    x = (x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:]) / 4
    laplacian = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * x[1:-1, 1:-1]
    return float(laplacian.var()) / (contrast + 1.0)


def channel_difference(face: Bytes) -> float:
    """Mean of largest minus least channel over the middle of a face [128, 128, 3], 0..255."""
    channels = face[_MIDDLE].astype(np.int16)
    return float((channels.max(-1) - channels.min(-1)).mean())


def is_cut_out(face: Bytes, size: int = FRAME_SIZE // 16) -> bool:
    """Whether both lower corners of a face [128, 128, 3] are white: an oval laid on white, or the like of one."""
    corner = face[-size:].min(-1) >= 248
    return bool(corner[:, :size].all() and corner[:, -size:].all())


_MIDDLE = (slice(FRAME_SIZE // 8, FRAME_SIZE * 15 // 16), slice(FRAME_SIZE // 6, FRAME_SIZE * 5 // 6))
"""Brows to chin, cheek to cheek: background and hair say nothing of the face's quality."""
