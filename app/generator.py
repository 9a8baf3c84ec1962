"""From a face to its look-alikes: encode, redraw under a control vector, and search a band of similarity.

The encoder places a face in an identity latent of 70 numbers; the decoder redraws it under a control vector of 10
numbers in [-1, 1]. Control 0 is the most faithful redrawing, and the farther from 0, the more of a look-alike.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app import graphs
from app.faces import FRAME_SIZE, Bytes, Floats, Recognizer, recognizer_graph
from app.manifest import NETWORKS
from app.runtime import Device, Network, wants_cuda

IDENTITY_SIZE = 70
CONTROL_SIZE = 10


class Generator:
    """The encoder and the decoder, each joined with the recogniser that scores faces, and the recogniser alone.

    Args:
        models: the directory with the networks.
        device, threads: see `Network`.
        decoder: which of the decoder's files.
        half: whether its convolutions compute in float16.
        encoder_threads: as `threads`, for the encoder alone; by default the same.
    """

    def __init__(
        self,
        models: Path,
        device: Device = "auto",
        threads: int = 0,
        decoder: str = "decoder.onnx",
        half: bool = False,
        encoder_threads: int | None = None,
    ) -> None:
        recognizer = recognizer_graph(models)

        def joined(name: str, threads: int, half: bool = False) -> Network:
            path = models / name
            graph = graphs.scored(path, recognizer, "image", half)
            return Network(path, device, threads, graphs.serialized(graph, wants_cuda(device)))

        self.encoder = joined("encoder.onnx", threads if encoder_threads is None else encoder_threads)
        self.decoder = joined(decoder, threads, half)
        self.recognizer = Recognizer(models, device, threads)
        # ONNX Runtime computes a single row in another order. Rounded to int8 its last digits become levels of a pixel,
        # and what a face looks like must not depend on whether others were drawn with it.
        self._never_alone = decoder == NETWORKS["decoder_int8"]

    def encode(self, faces: Bytes) -> tuple[Floats, Floats]:
        """Faces [n, 128, 128, 3] uint8 in the face frame -> identities [n, 70], embeddings [n, 192] of unit length."""
        identities, embeddings = self.encoder(faces)
        return np.asarray(identities, np.float32), np.asarray(embeddings, np.float32)

    def decode(self, identities: Floats, controls: Floats) -> tuple[Bytes, Floats]:
        """Identities [n, 70] and controls [n, 10] -> images [n, 128, 128, 3] uint8, their embeddings [n, 192]."""
        count = len(identities)
        if self._never_alone and count == 1:
            identities, controls = np.repeat(identities, 2, 0), np.repeat(controls, 2, 0)
        images, embeddings = self.decoder(identities, controls)
        return np.asarray(images[:count], np.uint8), np.asarray(embeddings[:count], np.float32)

    def warm(self, sizes: tuple[int, ...]) -> None:
        """Run every network once at each batch size, so that no request pays for it."""
        for size in sizes:
            identities, _ = self.encode(np.zeros((size, FRAME_SIZE, FRAME_SIZE, 3), np.uint8))
            self.decode(identities, np.zeros((size, CONTROL_SIZE), np.float32))


def sample_controls(seed: int, count: int, strength: float) -> Floats:
    """Random controls [count, 10], uniform in the cube [-strength, strength]^10.

    They come from NumPy's PCG64 seeded with `seed`, the same on every machine; the first k do not depend on `count`.
    """
    return _uniform(np.random.Generator(np.random.PCG64(seed)), count) * np.float32(strength)


def sweep_controls(control: int, steps: int) -> Floats:
    """Controls [steps, 10] that walk one control evenly from -1 to 1 while the others stay 0."""
    controls = np.zeros((steps, CONTROL_SIZE), np.float32)
    controls[:, control] = np.linspace(-1, 1, steps)
    return controls


class BandSearch:
    """Looks for controls whose variants fall inside a band of similarity, many at a time.

    Similarity falls with the distance of the control from 0. So through each random control runs a path from 0 to a
    corner of the cube, on which to bisect: too alike, farther out; too different, closer in. All advance together,
    a batch a round; one that is settled, or cannot be, leaves, and a new one takes its place while rounds are left.

    Ask `propose` for controls, tell `report` the similarities that came of them, until `done`.

    Args:
        seed: where the random directions come from.
        count: how many controls to find.
        strength: radius of the cube that controls stay in, 0..1.
        low, high: the band, ends included.
        rounds: most rounds to take.
    """

    def __init__(self, seed: int, count: int, strength: float, low: float, high: float, rounds: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._strength = np.float32(strength)
        self._count, self._low, self._high, self._rounds = count, low, high, rounds
        self._paths: list[_Path] = []
        self.found = 0
        self.tries = 0

    @property
    def done(self) -> bool:
        """Whether enough were found, or the rounds are used up."""
        return self.found == self._count or self._rounds == 0

    def propose(self) -> Floats:
        """The controls [k, 10] to try next, at most as many as are still to be found."""
        missing = self._count - self.found - len(self._paths)
        self._paths += [_Path(control, self._strength) for control in _uniform(self._random, missing)]
        return np.stack([path.control for path in self._paths])

    def report(self, similarities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Take the similarities [k] of what was proposed; returns which of them [k] are inside the band."""
        inside = (similarities >= self._low) & (similarities <= self._high)
        self.found += int(inside.sum())
        self.tries += len(similarities)
        self._rounds -= 1
        left = []
        for path, similarity, hit in zip(self._paths, similarities.tolist(), inside.tolist(), strict=True):
            if not hit:
                path.narrow(too_alike=similarity > self._high)
                if path.open:
                    left.append(path)
        self._paths = left
        return inside


class _Path:
    """From control 0 (place 0) straight to a random control (1), and on to the corner of the cube beyond it (2)."""

    def __init__(self, direction: Floats, strength: np.float32) -> None:
        self._middle = direction * strength
        self._corner = np.copysign(strength, direction)
        self._near, self._far = 0.0, 2.0
        self._place = 1.0

    @property
    def control(self) -> Floats:
        if self._place <= 1:
            point: Floats = self._middle * np.float32(self._place)
        else:
            point = self._middle + (self._corner - self._middle) * np.float32(self._place - 1)
        return point

    @property
    def open(self) -> bool:
        """Whether there is still a stretch worth looking at."""
        return self._far - self._near > 0.02

    def narrow(self, too_alike: bool) -> None:
        if too_alike:
            self._near = self._place
        else:
            self._far = self._place
        self._place = (self._near + self._far) / 2


def _uniform(random: np.random.Generator, count: int) -> Floats:
    return random.uniform(-1, 1, (count, CONTROL_SIZE)).astype(np.float32)
