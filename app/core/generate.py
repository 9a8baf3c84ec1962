"""From a face to its look-alikes: encode, redraw under a control vector, and search a band of similarity.

The encoder places a face in an identity latent of 70 numbers; the decoder redraws it under a control vector of 10
numbers in [-1, 1]. Control 0 is the most faithful redrawing, and the farther from 0, the more of a look-alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.core.faces import FRAME_SIZE, RECOGNIZER_SIZE, Bytes, Floats, Recognizer, recognizer_graph
from app.runtime import graphs
from app.runtime.manifest import NETWORKS
from app.runtime.sessions import Device, Network, wants_cuda

IDENTITY_SIZE = 70
CONTROL_SIZE = 10
NEUTRAL = np.zeros((1, CONTROL_SIZE), np.float32)
"""The controls of the most faithful redrawing of one face."""


class Sizes(NamedTuple):
    """Sides of squares in pixels: the face that the encoder sees, the picture drawn, and what the recogniser sees."""

    frame: int = FRAME_SIZE
    image: int = FRAME_SIZE
    crop: int = RECOGNIZER_SIZE


DEFAULT_SIZES = Sizes()


class Generator:
    """The encoder and the decoder, each joined with the recogniser that scores faces, and the recogniser alone.

    Args:
        models: the directory with the networks.
        device, threads: see `Network`.
        decoder: which of the decoder's files.
        half: whether its convolutions compute in float16.
        sizes: of what the networks take and give, as the manifest has them.
        detail: whether there is a detail stage among them.
    """

    def __init__(
        self,
        models: Path,
        device: Device = "auto",
        threads: int = 0,
        decoder: str = NETWORKS["decoder"],
        half: bool = False,
        sizes: Sizes = DEFAULT_SIZES,
        detail: bool = False,
    ) -> None:
        self._sizes = sizes
        scores = {side: recognizer_graph(models, side, sizes.crop) for side in {sizes.frame, sizes.image}}

        def joined(name: str, side: int, half: bool = False) -> Network:
            path = models / name
            graph = graphs.scored(path, scores[side], graphs.IMAGE, half)
            return Network(path, device, threads, graphs.serialized(graph, wants_cuda(device)))

        def recognizer(side: int) -> Recognizer:
            return Recognizer(models, device, threads, side, sizes.crop, scores[side])

        self.encoder = joined(NETWORKS["encoder"], sizes.frame)
        self.decoder = joined(decoder, sizes.image, half)
        self.recognizer = recognizer(sizes.frame)
        same = sizes.image == sizes.frame
        self.judge = self.recognizer if same else recognizer(sizes.image)
        self._detail = Network(models / NETWORKS["detail"], device, threads) if detail else None
        # ONNX Runtime computes a single row in another order. Rounded to int8 its last digits become levels of a pixel,
        # and what a face looks like must not depend on whether others were drawn with it.
        self._never_alone = decoder == NETWORKS["decoder_int8"]

    def encode(self, faces: Bytes) -> tuple[Floats, Floats]:
        """Faces [n, f, f, 3] uint8 in the face frame -> identities [n, 70], embeddings [n, 192] of unit length."""
        identities, embeddings = self.encoder(faces)
        return np.asarray(identities, np.float32), np.asarray(embeddings, np.float32)

    def decode(self, identities: Floats, controls: Floats) -> tuple[Bytes, Floats]:
        """Identities [n, 70] and controls [n, 10] -> images [n, s, s, 3] uint8, their embeddings [n, 192]."""
        count = len(identities)
        if self._never_alone and count == 1:
            identities, controls = np.repeat(identities, 2, 0), np.repeat(controls, 2, 0)
        images, embeddings = self.decoder(identities, controls)
        return np.asarray(images[:count], np.uint8), np.asarray(embeddings[:count], np.float32)

    @property
    def detail(self) -> Callable[[Bytes], tuple[Bytes]] | None:
        """Images [n, s, s, 3] uint8 -> the same with more detail [n, 2s, 2s, 3]; None where there is no such stage."""
        network = self._detail
        return None if network is None else lambda images: (np.asarray(network(images)[0], np.uint8),)

    def drawn_together(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Of batch sizes those for `decode`: none of one row, where that costs as much as two."""
        return tuple(sorted({max(size, 2) for size in sizes})) if self._never_alone else sizes

    def warm(self, size: int) -> None:
        """Run every network once at a batch size, so that no request pays for it."""
        faces = np.zeros((size, self._sizes.frame, self._sizes.frame, 3), np.uint8)
        identities, _ = self.encode(faces)
        images, _ = self.decode(identities, np.zeros((size, CONTROL_SIZE), np.float32))
        self.recognizer(faces)
        if self.judge is not self.recognizer:
            self.judge(images)
        if self.detail:
            self.detail(images)


def sample_controls(seed: int, count: int, strength: float) -> Floats:
    """Random controls [count, 10], uniform in the cube [-strength, strength]^10.

    They come from NumPy's PCG64 seeded with `seed`, the same on every machine; the first k do not depend on `count`.
    """
    return uniform_controls(np.random.Generator(np.random.PCG64(seed)), count) * np.float32(strength)


def sweep_controls(control: int, steps: int) -> Floats:
    """Controls [steps, 10] that walk one control evenly from -1 to 1 while the others stay 0."""
    controls = np.zeros((steps, CONTROL_SIZE), np.float32)
    controls[:, control] = np.linspace(-1, 1, steps)
    return controls


def uniform_controls(random: np.random.Generator, count: int) -> Floats:
    """Controls [count, 10], uniform in the cube [-1, 1]^10."""
    return random.uniform(-1, 1, (count, CONTROL_SIZE)).astype(np.float32)


def held(controls: Floats, fixed: Mapping[int, float]) -> Floats:
    """Controls [n, 10] with some, by their places, as they are fixed."""
    for place, value in fixed.items():
        controls[:, place] = value
    return controls


def floats(values: Floats) -> list[float]:
    """Single-precision numbers as the shortest decimals that read back as the same."""
    return [float(str(value)) for value in np.asarray(values, np.float32)]
