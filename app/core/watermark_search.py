"""Where in a picture the mark lies, after it was cut, scaled, turned or mirrored.

A drawn face fills the face frame, so the whole picture is tried first, then the frame of every face that the detector
finds. Its key points are a few pixels off, while the mark must be met to one: correlation with the mark's unchanging
part, at several sizes and turns, says where in the neighbourhood it fits, and a few steps uphill the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.core.faces import FRAME_POINTS, Face, similarity_transform
from app.core.watermark import (
    FLOOR,
    HIGHEST,
    LOWEST,
    NEIGHBOURHOOD,
    READ_SIZE,
    THRESHOLD,
    WHITENING,
    Floats,
    Message,
    Reading,
    Watermark,
    band,
    box_mean,
    rendered,
)

Matrix = NDArray[np.float64]
"""[2, 3]: from the frame, a unit square, to pixels of the picture."""
Fits = NDArray[np.floating]

WINDOW, FRAME = 128, 96
"""Side of what is searched at once, and of the frame in its middle, in pixels."""
REACH = 15
"""Pixels of the window by which the frame may lie elsewhere than a face's points say."""
SIZES = np.exp(np.arange(-4, 5) * 0.02)
TURNS = np.radians(np.arange(-2, 3) * 2.0)
"""Sizes and turns of the frame against what a face's points say."""
MISTAKEN = (1.0, 1.16, 0.86)
"""Sizes of the frame around which those are tried: the detector sees the points of some drawn faces far off."""
WIDENINGS = tuple(0.9 * 1.18**step for step in range(7))
"""Sides of the frame, in longer sides of the picture, where no face says how large it is: up to 2.4."""

PROMISING = 5.0
"""Peak of the correlation in standard deviations from which a place is looked at closely; noise reaches about 4.5."""
HEARD = 3.5
"""The same for the picture as a whole, where there is one place alone."""
PEAKS = 2
"""Places looked at closely at most, a search."""
STEPS = np.array([0.005, 0.005, 0.010, 0.017])
"""First steps uphill: right, down, in parts of the frame; the size's logarithm; radians."""
ROUNDS = 4
MOST_FACES = 16
LARGEST = 40
"""Frames larger than so many pictures, each way, are not looked at."""


@dataclass(frozen=True)
class Found:
    """A mark in a picture.

    Attributes:
        message: what it says.
        score: in standard deviations; at least `THRESHOLD`.
        mirrored: whether the picture shows it the wrong way round.
        frame: its corners [4, 2] in pixels of the picture, clockwise from where the upper left one was.
    """

    message: Message
    score: float
    mirrored: bool
    frame: NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        found: marks, the surest first.
        best: the highest score of all that was tried, whether it is a mark or not.
    """

    found: list[Found]
    best: float


def search(image: Image.Image, faces: Iterable[Face], watermark: Watermark, most: int = MOST_FACES) -> Outcome:
    """Seek marks in a picture.

    Args:
        image: RGB or grey, of any size.
        faces: those that were found in it; none is asked for where the picture as a whole carries a mark.
        watermark: whose key marks are sought.
        most: marks after which no more are sought.
    """
    seeker = _Seeker(image.convert("L"), watermark)
    seeker.whole()
    if not seeker.found:
        for face in islice(faces, MOST_FACES):
            seeker.near(face)
            if len(seeker.found) >= most:
                break
    if not seeker.found:
        seeker.anywhere()
    return Outcome(sorted(seeker.found, key=lambda found: -found.score), seeker.best)


class _Seeker:
    """One picture, while it is searched."""

    def __init__(self, image: Image.Image, watermark: Watermark) -> None:
        self.image = image
        self.watermark = watermark
        self.found: list[Found] = []
        self.best = 0.0

    def whole(self) -> None:
        """Take the picture for the frame, whichever side is up."""
        width, height = self.image.size
        matrix = np.array([[width, 0.0, 0.0], [0.0, height, 0.0]])
        for _ in range(4):
            for mirrored in (False, True):
                at = _mirror(matrix) if mirrored else matrix
                pilot = self._pilots([at])[0]
                if pilot >= HEARD and (self._read(at, mirrored) or self._read(self._uphill(at, pilot), mirrored)):
                    return
            matrix = _quarter(matrix)

    def near(self, face: Face) -> bool:
        """Seek the frame where a face's points say that it is; whether it was found."""
        told = similarity_transform(FRAME_POINTS, face.points[:4])
        sized = (_turned(told, np.zeros(2), float(np.log(size)), 0.0) for size in MISTAKEN)
        return any(self.around(matrix, SIZES, TURNS, REACH) for matrix in sized)

    def around(self, matrix: Matrix, sizes: NDArray[np.float64], turns: NDArray[np.float64], reach: int) -> bool:
        """Seek the frame near a place; whether it was found."""
        # The frame in the middle of the window.
        margin = (WINDOW / FRAME - 1) / 2
        outer = _moved(matrix, np.array([-margin, -margin]), WINDOW / FRAME)
        window, inside = _sampled(self.image, outer, WINDOW)
        if inside.mean() < 0.05:
            return False
        for mirrored in (False, True):
            if mirrored:
                window, inside, matrix = window[:, ::-1], inside[:, ::-1], _mirror(matrix)
            for at in self._peaks(_whitened(window, inside), matrix, sizes, turns, reach):
                pilot = self._pilots([at])[0]
                if self._read(self._uphill(at, pilot), mirrored):
                    return True
        return False

    def anywhere(self) -> None:
        """Seek the frame wherever and however large it may be, upright."""
        width, height = self.image.size
        for widening in WIDENINGS:
            side = widening * max(width, height)
            corner = (np.array([width, height]) - side) / 2
            matrix = np.array([[side, 0.0, corner[0]], [0.0, side, corner[1]]])
            if self.around(matrix, SIZES, np.zeros(1), WINDOW // 2):
                return

    def _peaks(
        self, window: Floats, matrix: Matrix, sizes: NDArray[np.float64], turns: NDArray[np.float64], reach: int
    ) -> Iterator[Matrix]:
        """Where the mark's unchanging part shows in a whitened window, likeliest first."""
        bank = _bank(self.watermark, tuple(sizes), tuple(turns))
        fits = np.fft.irfft2(np.fft.rfft2(window) * bank, s=(WINDOW, WINDOW), axes=(1, 2))
        near = np.roll(fits, (reach, reach), (1, 2))[:, : 2 * reach + 1, : 2 * reach + 1]
        near = near.reshape(len(sizes), len(turns), *near.shape[1:])
        # In the middle, where most of the window counts: farther out less does, and peaks are lower.
        middle = slice(max(0, reach - REACH), reach + REACH + 1)
        peaks: list[tuple[float, Matrix]] = []
        for fit, size, turn in ((near, np.log(sizes), turns), _between(near, np.log(sizes), turns)):
            spread = float(np.sqrt((fit[..., middle, middle] ** 2).mean())) + 1e-12
            highest = fit.reshape(*fit.shape[:2], -1).max(-1) / spread
            for index in np.argsort(-highest, axis=None)[:PEAKS]:
                row, column = np.divmod(int(index), len(turn))
                down, right = np.divmod(int(fit[row, column].argmax()), fit.shape[-1])
                shift = np.array([right - reach, down - reach]) / FRAME
                place = _turned(matrix, shift, float(size[row]), float(turn[column]))
                peaks.append((float(highest[row, column]), place))
        peaks.sort(key=lambda peak: -peak[0])
        yield from (place for height, place in peaks[:PEAKS] if height >= PROMISING)

    def _uphill(self, matrix: Matrix, score: float) -> Matrix:
        """The place nearby where the unchanging part shows best."""
        steps = STEPS.copy()
        for _ in range(ROUNDS):
            tries = [sign * step for step in np.diag(steps) for sign in (-1, 1)]
            low, high = self._pilots([_changed(matrix, change) for change in tries]).reshape(4, 2).T
            # The top of the parabola through three points, a step away at most.
            bend = np.minimum(low + high - 2 * score, -1e-6)
            change = np.clip((low - high) / (2 * bend), -1, 1) * steps
            there = _changed(matrix, change)
            higher = float(self._pilots([there])[0])
            best = int(np.argmax([score, higher, max(low.max(), high.max())]))
            if best == 1:
                matrix, score = there, higher
            elif best == 2:
                index = int(np.argmax(np.stack([low, high], 1)))
                matrix, score = _changed(matrix, tries[index]), float(max(low.max(), high.max()))
            steps = steps / 2
        return matrix

    def _pilots(self, places: list[Matrix]) -> Floats:
        frames, insides = zip(*(_sampled(self.image, place, READ_SIZE) for place in places), strict=True)
        return self.watermark.pilot(np.stack(frames), np.stack(insides))

    def _read(self, matrix: Matrix, mirrored: bool) -> bool:
        """Read the mark at a place; whether there is one."""
        reading: Reading = self.watermark.read(*_sampled(self.image, matrix, READ_SIZE))
        self.best = max(self.best, reading.score)
        if reading.message is None or reading.score < THRESHOLD:
            return False
        self.found.append(Found(reading.message, reading.score, mirrored, _corners(matrix)))
        return True


def _sampled(image: Image.Image, matrix: Matrix, size: int) -> tuple[Floats, Floats]:
    """The part of a grey picture that a frame covers [size, size], and where that is inside the picture, 1 or 0.

    What lies outside repeats the nearest edge, so that the border does not ring through the spectrum.
    """
    corners = _corners(matrix)
    most = np.array(image.size)
    step = float(np.sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]))) / size
    nothing = np.zeros((size, size), np.float32)
    if not np.isfinite(corners).all() or (np.ptp(corners, axis=0) > LARGEST * most).any():
        return nothing, nothing
    low = np.clip(np.floor(corners.min(0) - step - 1), 0, most - 1).astype(int)
    high = np.clip(np.ceil(corners.max(0) + step + 1), low + 1, most).astype(int)
    patch = image.crop((*low, *high))
    factor = max(1, round(step))
    if factor > 1:
        patch = patch.reduce(factor)
    middles = (np.arange(size) + 0.5) / size
    x = matrix[0, 0] * middles + matrix[0, 1] * middles[:, None] + matrix[0, 2]
    y = matrix[1, 0] * middles + matrix[1, 1] * middles[:, None] + matrix[1, 2]
    # Pixels that the picture's border touches are left out, unless the picture and the frame end together.
    border = 1.5 * step if (corners < -1e-6).any() or (corners > most + 1e-6).any() else 0.0
    inside = (x > border) & (x < most[0] - border) & (y > border) & (y < most[1] - border)
    values = _bilinear(np.asarray(patch, np.float32), (x - low[0]) / factor, (y - low[1]) / factor)
    return values, inside.astype(np.float32)


def _bilinear(pixels: Floats, x: NDArray[np.float64], y: NDArray[np.float64]) -> Floats:
    """Values at places, pixel centres being at halves; outside, those of the nearest edge."""
    height, width = pixels.shape
    x, y = np.clip(x - 0.5, 0, width - 1), np.clip(y - 0.5, 0, height - 1)
    left, top = np.minimum(x.astype(np.int64), max(width - 2, 0)), np.minimum(y.astype(np.int64), max(height - 2, 0))
    right, down = (x - left).astype(np.float32), (y - top).astype(np.float32)
    flat, first = pixels.ravel(), top * width + left
    over, under = int(width > 1), width * int(height > 1)
    upper = flat[first] + (flat[first + over] - flat[first]) * right
    lower = flat[first + under] + (flat[first + under + over] - flat[first + under]) * right
    values: Floats = upper + (lower - upper) * down
    return values


def _corners(matrix: Matrix) -> NDArray[np.float64]:
    corners: NDArray[np.float64] = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) @ matrix[:, :2].T + matrix[:, 2]
    return corners


def _mirror(matrix: Matrix) -> Matrix:
    """The same place, its right and left exchanged."""
    return np.column_stack([-matrix[:, 0], matrix[:, 1], matrix[:, 0] + matrix[:, 2]])


def _quarter(matrix: Matrix) -> Matrix:
    """The same place, a quarter turn on."""
    return np.column_stack([matrix[:, 1], -matrix[:, 0], matrix[:, 0] + matrix[:, 2]])


def _moved(matrix: Matrix, shift: NDArray[np.float64], size: float = 1.0) -> Matrix:
    """The frame with its corner elsewhere and its sides as many times as long, in units of the frame as it was."""
    return np.column_stack([matrix[:, :2] * size, matrix[:, :2] @ shift + matrix[:, 2]])


def _turned(matrix: Matrix, shift: NDArray[np.float64], size: float, turn: float) -> Matrix:
    """The frame made larger (`size` is a logarithm) and turned about its middle, then shifted, in its own units."""
    factor = np.exp(size)
    linear = factor * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.full(2, 0.5)
    return np.column_stack([matrix[:, :2] @ linear, matrix[:, :2] @ (middle + shift - linear @ middle) + matrix[:, 2]])


def _changed(matrix: Matrix, change: NDArray[np.float64]) -> Matrix:
    return _turned(matrix, change[:2], float(change[2]), float(change[3]))


def _between(
    fits: Fits, sizes: NDArray[np.float64], turns: NDArray[np.float64]
) -> tuple[Fits, NDArray[np.float64], NDArray[np.float64]]:
    """Fits [sizes, turns, rows, columns] at the sizes and turns midway between, each the sum of its neighbours'.

    A mark that lies midway shows in all of its neighbours a little, at one place, and in none of them enough.
    """
    fits = fits[1:] + fits[:-1]
    sizes = (sizes[1:] + sizes[:-1]) / 2
    if len(turns) > 1:
        fits, turns = fits[:, 1:] + fits[:, :-1], (turns[1:] + turns[:-1]) / 2
    return fits, sizes, turns


def _whitened(window: Floats, inside: Floats) -> Floats:
    """A window with its own content evened out, as `band_values` does it."""
    white = np.fft.irfft2(np.fft.rfft2(window) * _whitening(), s=window.shape)[None]
    power = box_mean((white**2).astype(np.float32), NEIGHBOURHOOD - 1)
    level = float((power[0] * inside).sum() / max(inside.sum(), 1))
    evened: Floats = (white / (power + FLOOR * level + 1e-12))[0].astype(np.float32) * inside
    return evened


@cache
def _whitening() -> Floats:
    """The weight of each frequency of a window [WINDOW, WINDOW // 2 + 1]."""
    distance = np.hypot(np.fft.fftfreq(WINDOW)[:, None], np.fft.rfftfreq(WINDOW)) * 2 * FRAME
    carries = (distance >= LOWEST) & (distance < HIGHEST)
    return np.where(carries, (distance / HIGHEST) ** WHITENING, 0).astype(np.float32)


@lru_cache(maxsize=8)
def _bank(watermark: Watermark, sizes: tuple[float, ...], turns: tuple[float, ...]) -> NDArray[np.complex64]:
    """Conjugate spectra [sizes x turns, WINDOW, WINDOW // 2 + 1] of the unchanging part, in the middle of a window."""
    rows, columns, weights = band()
    spectrum = np.zeros((HIGHEST, HIGHEST), np.float32)
    chosen = watermark.chips.pilot
    spectrum[rows[chosen], columns[chosen]] = (watermark.chips.signs * weights)[chosen]
    fine = 3 * FRAME
    pattern = Image.fromarray(rendered(spectrum, fine))
    middle = WINDOW / 2
    spectra = []
    for size in sizes:
        for turn in turns:
            # From pixels of the window to pixels of the fine pattern: the way back.
            back = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) * 3 / size
            offset = np.full(2, fine / 2) - back @ np.full(2, middle)
            coefficients = tuple(np.column_stack([back, offset]).ravel())
            turned = pattern.transform((WINDOW, WINDOW), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
            spectra.append(np.conj(np.fft.rfft2(np.asarray(turned, np.float32))).astype(np.complex64))
    return np.stack(spectra)
