"""Faces in a photograph: detect them, bring them into the face frame, recognise them.

The face frame is the one square in which every network of this project sees a face: eyes at (0.298, 0.2825) and
(0.702, 0.2825), nose tip (0.5, 0.548), mouth centre (0.5, 0.7325), in units of its side. Training and the service share
this module, so a face is always cut in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from PIL import Image

from app.core.images import normalised
from app.runtime import graphs
from app.runtime.manifest import NETWORKS
from app.runtime.sessions import Device, Network, wants_cuda

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

FRAME_SIZE = 128
"""Side of the face frame in pixels, unless the manifest of a model says otherwise."""
FRAME_POINTS = np.array([[0.298, 0.2825], [0.702, 0.2825], [0.5, 0.548], [0.5, 0.7325]])
"""Right eye, left eye (the person's), nose tip, mouth centre in the face frame, in units of its side."""

RECOGNIZER_SIZE = 112
"""Side of the recogniser's crop, unless the manifest says otherwise."""
RECOGNIZER_POINTS = np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [56.14, 92.28]])
"""The same four points in the ArcFace frame that the recogniser was trained in, in pixels of 112 (Deng et al. 2019)."""

EMBEDDING_SIZE = 192

MIN_SCORE = 0.6
SURE_SCORE = 0.7
"""What a face must score that was found in a part of the picture: many looks are many chances to be wrong."""
MIN_OVERLAP = 0.3
MAX_FACES = 256
"""Faces of a picture that are told apart; of more some are not looked for."""
CLOSEST_LOOK = 160
"""Least side in pixels of the squares of a thorough search: smaller ones would hold faces too small to use."""
SECOND_LOOK = 3.5
"""Side of the square in which a face is looked at again, in sides of its box.

Key points are best where a face takes about a quarter of the picture. Measured on 150 tight portraits, distance to the
key points of the mirrored portrait in eye distances: 0.185 as they are, 0.083 with a margin of 0.3, 0.050 with 0.5,
0.038 with 1.0 (edge repeated)."""


@dataclass(frozen=True)
class Face:
    """A detected face, in pixels of the photograph it was found in.

    Attributes:
        box: left, top, right, bottom.
        points: [6, 2]: right eye, left eye, nose tip, mouth centre, right ear, left ear; right is the person's right.
        score: detector confidence in (0, 1).
    """

    box: tuple[float, float, float, float]
    points: NDArray[np.float64]
    score: float

    @property
    def eye_distance(self) -> float:
        """Distance between the eyes, in pixels of the photograph."""
        return float(np.linalg.norm(self.points[1] - self.points[0]))

    @property
    def turn(self) -> float:
        """How far the nose tip lies off the line that halves the eyes, in eye distances: 0 frontal, > 0.35 profile."""
        right, left, nose = self.points[:3]
        along = (left - right) / max(self.eye_distance, 1e-6)
        return float(abs(np.dot(nose - (right + left) / 2, along)) / max(self.eye_distance, 1e-6))

    @property
    def centre(self) -> NDArray[np.float64]:
        """Middle of the box, (x, y)."""
        return np.array([self.box[0] + self.box[2], self.box[1] + self.box[3]]) / 2

    @property
    def width(self) -> float:
        """The longer side of the box, in pixels of the photograph."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])

    def turned(self, degrees: int, width: float, height: float) -> Face:
        """The same face in a picture [width, height] after that is turned clockwise by 0, 90, 180 or 270 degrees."""
        x, y = self.points[:, 0], self.points[:, 1]
        left, top, right, bottom = self.box
        if degrees == 90:
            return Face((height - bottom, left, height - top, right), np.stack([height - y, x], 1), self.score)
        if degrees == 180:
            box = (width - right, height - bottom, width - left, height - top)
            return Face(box, np.stack([width - x, height - y], 1), self.score)
        if degrees == 270:
            return Face((top, width - right, bottom, width - left), np.stack([y, width - x], 1), self.score)
        return self

    def scaled(self, factor: float) -> Face:
        """The same face in a picture `factor` times as large."""
        left, top, right, bottom = (value * factor for value in self.box)
        return Face((left, top, right, bottom), self.points * factor, self.score)


class Detector:
    """BlazeFace (Bazarevsky et al. 2019), the rear-camera net, then the full-range net for small faces.

    A face that fills the whole picture escapes both; so a picture with no face is tried once more from further away.
    Each face is then looked at again from the distance at which its key points come out best, and what is not found
    again was no face: a cat or a cup may pass one look, but not two.
    """

    def __init__(self, models: Path, device: Device = "auto", threads: int = 0) -> None:
        near = models / NETWORKS["detector_near"]
        rewritten = None if wants_cuda(device) else graphs.convolved_padding(graphs.read(near)).SerializeToString()
        self._near = Network(near, device, threads, rewritten)
        # This one would be slower rewritten.
        self._far = Network(models / NETWORKS["detector_far"], device, threads)

    def __call__(self, image: Image.Image, thorough: bool | None = False) -> list[Face]:
        """Find the faces of an RGB picture, largest first; at most `MAX_FACES`.

        The largest is found at once. Small ones beside it need a `thorough` search, of up to 58 looks more; so does one
        that is small and alone, which is then looked for unless `thorough` is None.
        """
        faces: list[Face] = []
        self._confirm(image, self.first_look(image), MIN_SCORE, faces)
        if thorough or (not faces and thorough is not None):
            # After those that the whole picture showed: the largest is cut the same however it was asked for.
            closer = sorted(self._closer(image), key=lambda face: face.area, reverse=True)
            self._confirm(image, closer, SURE_SCORE, faces)
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def _confirm(self, image: Image.Image, firsts: list[Face], score: float, faces: list[Face]) -> None:
        """Add to `faces` those of a first look that a second one confirms."""
        for first in firsts:
            if len(faces) == MAX_FACES:
                break
            if any(_same(first, known) for known in faces):
                continue
            face = self._second_look(image, first)
            if face and face.score >= score and not any(_same(face, other) for other in faces):
                faces.append(face)

    def first_look(self, image: Image.Image) -> list[Face]:
        """What looks like a face in the picture as a whole, largest first; key points are rough."""
        centre, side = np.array(image.size) / 2, float(max(image.size))
        for network, distance in ((self._near, 1.0), (self._far, 1.0), (self._near, SECOND_LOOK)):
            if faces := self._look(network, image, centre, side * distance, edge=distance > 1):
                return sorted(faces, key=lambda face: face.area, reverse=True)
        return []

    def _closer(self, image: Image.Image) -> list[Face]:
        """What looks like a face in squares of a half and of a quarter of the picture's side, each overlapping by half.

        A face shows from about a tenth of the side of what the net looks at.
        """
        faces = []
        whole = max(image.size)
        for side in (whole / 2, whole / 4):
            if side < CLOSEST_LOOK:
                break
            starts = [np.arange(max(1, round(2 * length / side) - 1)) for length in image.size]
            for x, y in product(*starts):
                centre = np.array([x + 1, y + 1]) * side / 2
                found = self._look(self._near, image, centre, side, edge=False)
                # One that a neighbouring square holds in full is found there.
                faces += [face for face in found if np.abs(face.centre - centre).max() < 0.4 * side]
        return faces

    def _second_look(self, image: Image.Image, first: Face) -> Face | None:
        again = self._look(self._near, image, first.centre, SECOND_LOOK * first.width, edge=True)
        near = [face for face in again if np.linalg.norm(face.centre - first.centre) < first.width / 2]
        return min(near, key=lambda face: float(np.linalg.norm(face.centre - first.centre)), default=None)

    def warm(self) -> None:
        """Run both nets once, so that no request pays for it."""
        self(Image.new("RGB", (FRAME_SIZE, FRAME_SIZE)))

    def _look(
        self, network: Network, image: Image.Image, centre: NDArray[np.float64], side: float, *, edge: bool
    ) -> list[Face]:
        """The faces in a square of the picture; beyond the picture it is black, or the edge is repeated."""
        size = next(iter(network.inputs.values()))[1]
        scale, corner = size / side, centre - side / 2
        # The pixels of the square, [low, high), whose centres lie in the picture; at least one each way.
        low = np.clip(np.ceil(-corner * scale - 0.5), 0, size - 1).astype(int)
        high = np.clip(np.floor((np.array(image.size) - corner) * scale + 0.5), low + 1, size).astype(int)
        box = np.clip(np.concatenate([corner + low / scale, corner + high / scale]), 0, np.tile(image.size, 2))
        small = image.resize(tuple(high - low), Image.Resampling.BILINEAR, box=tuple(box))
        canvas = np.asarray(small)
        if small.size != (size, size):
            margins = ((low[1], size - high[1]), (low[0], size - high[0]), (0, 0))
            canvas = np.pad(canvas, margins, mode="edge" if edge else "constant")
        regressors, logits = (np.asarray(output)[0] for output in network(normalised(canvas[None])))
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0].astype(np.float64), -50, 50)))
        keep = scores >= MIN_SCORE
        rows = regressors[keep].reshape(-1, 8, 2).astype(np.float64)  # centre, size, six points
        rows[:, 0] += _anchors(size)[keep]
        rows[:, 2:] += _anchors(size)[keep][:, None]
        rows /= scale
        rows[:, 0] += corner
        rows[:, 2:] += corner
        return _merge(rows, scores[keep])


class Recognizer:
    """MobileFaceNet (Chen et al. 2018) trained with ArcFace, fed from the face frame.

    The recogniser's crop is wider than the face frame: what lies outside is mid grey, for every face alike.

    Args:
        models: the directory with the network.
        device, threads: see `Network`.
        side, crop: see `recognizer_graph`.
        graph: what that gave already.
    """

    def __init__(
        self,
        models: Path,
        device: Device = "auto",
        threads: int = 0,
        side: int = FRAME_SIZE,
        crop: int = RECOGNIZER_SIZE,
        graph: ModelProto | None = None,
    ) -> None:
        served = graphs.serialized(graph or recognizer_graph(models, side, crop), wants_cuda(device))
        self._network = Network(models / NETWORKS["recognizer"], device, threads, served)

    def __call__(self, faces: Bytes) -> Floats:
        """Embed faces [n, side, side, 3] uint8 in the face frame; returns unit vectors [n, 192]."""
        (embeddings,) = self._network(faces)
        return np.asarray(embeddings, np.float32)


def recognizer_graph(models: Path, side: int = FRAME_SIZE, crop: int = RECOGNIZER_SIZE) -> ModelProto:
    """The recogniser with its crop and its normalisation: faces uint8 [n, side, side, 3] -> unit vectors [n, 192].

    Args:
        models: the directory with the network.
        side: of the faces.
        crop: side of the square that the network takes.
    """
    return graphs.recognizer_of_frames(models / NETWORKS["recognizer"], *recognizer_maps(side, crop))


def similarity(embeddings: Floats, reference: Floats) -> list[float]:
    """Cosine of unit embeddings [n, 192] to one [192], -1..1, to six decimals.

    Each row is summed by itself, so a score does not depend on the company it was computed in, as in a matrix product.
    """
    cosines = (embeddings.astype(np.float64) * reference).sum(axis=1)
    return [round(float(value), 6) for value in np.clip(cosines, -1, 1)]


def align(image: Image.Image, face: Face, size: int = FRAME_SIZE) -> Bytes:
    """Cut a face out of its photograph and bring it into the face frame.

    The four points are matched by a least-squares similarity transform (Umeyama 1991). A large face is first reduced by
    an integer factor, since bilinear sampling alone would alias.

    Returns:
        [size, size, 3] uint8 RGB; what lies outside the photograph repeats its nearest edge.
    """
    matrix = similarity_transform(FRAME_POINTS * size, face.points[:4])  # frame pixels -> photograph pixels
    scale = float(np.hypot(*matrix[:2, 0]))
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]]) @ matrix[:, :2].T + matrix[:, 2]
    low = np.floor(corners.min(0) - 2 * scale - 2).astype(int)
    high = np.ceil(corners.max(0) + 2 * scale + 2).astype(int)
    factor = max(1, int(scale))
    patch = _crop_with_edge(image, low, high, max_side=64 * size)
    if factor > 1:
        patch = patch.reduce(factor)
    # Pillow maps output pixel centres itself: (x + 0.5, y + 0.5) -> input coordinates.
    coefficients = np.column_stack([matrix[:, :2], matrix[:, 2] - low]) / factor
    aligned = patch.transform(
        (size, size), Image.Transform.AFFINE, tuple(coefficients.ravel()), Image.Resampling.BICUBIC
    )
    return np.asarray(aligned, np.uint8)


def similarity_transform(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation, uniform scale and shift [2, 3] that best map points [n, 2] onto points [n, 2] (Umeyama 1991)."""
    mean_source, mean_target = source.mean(0), target.mean(0)
    a, b = source - mean_source, target - mean_target
    # In the plane a similarity is one complex factor, and least squares gives it in closed form.
    factor = np.vdot(a[:, 0] + 1j * a[:, 1], b[:, 0] + 1j * b[:, 1]) / np.sum(a**2)
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([linear, mean_target - linear @ mean_source])


@cache
def recognizer_maps(size: int = FRAME_SIZE, crop: int = RECOGNIZER_SIZE) -> tuple[Floats, Floats]:
    """The recogniser's crop as two matrices: `rows` [crop, size] and `columns` [crop, size], rows @ x @ columns.T.

    Scale and shift come from the least-squares fit of the four points (the fit's rotation is below 0.1 degrees and left
    out). Each row samples bilinearly with the kernel widened when it shrinks; rows of zeros lie outside the frame.
    """
    matrix = similarity_transform(RECOGNIZER_POINTS * (crop / RECOGNIZER_SIZE), FRAME_POINTS * size)
    scale = float(np.hypot(*matrix[:2, 0]))
    centre = matrix[:, :2] @ np.full(2, crop / 2) + matrix[:, 2]
    maps = []
    for axis in (1, 0):
        positions = centre[axis] + (np.arange(crop) + 0.5 - crop / 2) * scale - 0.5
        distance = np.abs(positions[:, None] - np.arange(size)[None, :]) / max(scale, 1.0)
        weights = np.maximum(0, 1 - distance)
        inside = (positions > -0.5) & (positions < size - 0.5)
        weights = np.where(inside[:, None], weights / np.maximum(weights.sum(1, keepdims=True), 1e-9), 0)
        matrix_of_axis = weights.astype(np.float32)
        matrix_of_axis.setflags(write=False)  # cached: whoever changed it would change every later crop
        maps.append(matrix_of_axis)
    return maps[0], maps[1]


@cache
def _anchors(size: int) -> NDArray[np.float64]:
    """Anchor centres [n, 2] in input pixels: 2 a cell on 16x16 and 6 on 8x8 (near), or 1 a cell on 48x48 (far)."""
    grids = [(16, 2), (8, 6)] if size == 256 else [(48, 1)]
    centres = []
    for cells, repeats in grids:
        line = (np.arange(cells) + 0.5) * size / cells
        x, y = np.meshgrid(line, line)
        centres.append(np.repeat(np.column_stack([x.ravel(), y.ravel()]), repeats, axis=0))
    return np.concatenate(centres)


def _same(face: Face, known: Face) -> bool:
    """Whether a face is one that is known already."""
    return bool(np.linalg.norm(face.centre - known.centre) <= known.width / 2)


def _merge(rows: NDArray[np.float64], scores: NDArray[np.float64]) -> list[Face]:
    """Weighted non-maximum suppression: detections that overlap become one, averaged by score (BlazeFace paper)."""
    boxes = np.concatenate([rows[:, 0] - rows[:, 1] / 2, rows[:, 0] + rows[:, 1] / 2], axis=1)
    order = np.argsort(-scores, kind="stable")
    faces = []
    while len(order):
        same = _overlap(boxes[order[0]], boxes[order]) > MIN_OVERLAP
        same[0] = True
        group = order[same]
        weights = scores[group] / scores[group].sum()
        left, top, right, bottom = (float(value) for value in weights @ boxes[group])
        points = np.tensordot(weights, rows[group, 2:], 1)
        faces.append(Face((left, top, right, bottom), points, float(scores[order[0]])))
        order = order[~same]
    return faces


def _overlap(box: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of one box with many."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    ratio: NDArray[np.float64] = common / np.maximum(np.prod(box[2:] - box[:2]) + areas - common, 1e-9)
    return ratio


def _crop_with_edge(image: Image.Image, low: NDArray[np.int_], high: NDArray[np.int_], max_side: int) -> Image.Image:
    """Cut the box [low, high) out of a picture; beyond its border the nearest edge pixel is repeated."""
    width, height = (int(value) for value in np.minimum(high - low, max_side))
    left, top = int(low[0]), int(low[1])
    if left >= 0 and top >= 0 and left + width <= image.width and top + height <= image.height:
        return image.crop((left, top, left + width, top + height))
    x = np.clip(np.arange(left, left + width), 0, image.width - 1)
    y = np.clip(np.arange(top, top + height), 0, image.height - 1)
    inner = np.asarray(image.crop((int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1)))
    return Image.fromarray(inner[y - y[0]][:, x - x[0]])
