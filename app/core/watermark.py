"""An imperceptible mark in the pixels of every drawn face, found again without the original.

Spread spectrum (Cox et al. 1997): about 2,400 cosines of middling frequency across the face frame are each added to the
luminance with a sign of their own. A secret key says which sign. A third of them is the same in every picture and says
where the mark lies; the rest carries 32 bits, a byte as one of 256 patterns (M-ary signalling), with a Reed-Solomon
code over the bytes. Whoever has the key correlates: what a picture itself has at these frequencies is independent of
the signs and cancels, save for a Gaussian remainder whose size is known.

The score is that correlation in standard deviations. For a picture that was made without regard to the key, and one
pattern at one place, a score of t or more has a probability of at most exp(-t^2 / 2) over the keys (Hoeffding 1963);
times the patterns and the places that are tried, that bounds the rate of false alarms.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from reedsolo import ReedSolomonError, RSCodec

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Bits = NDArray[np.int8]

OPEN_KEY = "lookalike: the open build's key, known to everybody"
"""The key of whoever sets none. It is public: whoever has this code can find such marks, lay them and remove them."""

PSNR = 41.5
"""How far a marked picture is from the unmarked one, in dB of 8-bit RGB, before rounding."""

LOWEST, HIGHEST = 24, 60
"""Frequencies that carry the mark: their distance from 0 in half periods across the frame. Below, a face has too much
of its own; above, a picture reduced to 64 pixels has nothing left."""

PILOT = 775
"""Cosines that are the same in every picture of a key."""
SYMBOLS, CODED = 10, 160
"""Bytes of the code word, and cosines that carry each."""
DATA = 4
"""Bytes of the message. The other six let any three be wrong."""

READ_SIZE = 128
"""Side in pixels at which a frame is read, whatever its size was when the mark was laid."""

WHITENING = 1.4
"""Faces have amplitudes that fall with this power of the frequency, about; measured on drawn faces and photographs."""
NEIGHBOURHOOD = 3
"""Pixels each way over which a picture's own activity is measured: smooth parts count more than hair."""
PIECE = 4
"""Rows that are multiplied at once; `HIGHEST` and `READ_SIZE` are multiples of it."""
FLOOR = 0.2
"""Least activity, as a part of the frame's mean."""

FALSE_ALARMS = 1e-6
"""At most this rate of unmarked pictures, by the bound, is taken for marked."""
PLACES = 2e7
"""Places, sizes and turns at which a mark is sought in one picture, rounded up."""
THRESHOLD = float(np.sqrt(2 * np.log(2.0 ** (8 * DATA) * PLACES / FALSE_ALARMS)))
"""Least score of a mark: 10.3."""


@dataclass(frozen=True)
class Message:
    """The 32 bits of a mark.

    Attributes:
        version: of the model, packed by `packed_version`; 16 bits.
        installation: a number that the operator chose, 0 where none was; 16 bits.
    """

    version: int
    installation: int

    def data(self) -> bytes:
        """The message as four bytes."""
        return self.version.to_bytes(2, "big") + self.installation.to_bytes(2, "big")

    @classmethod
    def of(cls, data: bytes) -> Message:
        """The message of four bytes."""
        return cls(int.from_bytes(data[:2], "big"), int.from_bytes(data[2:], "big"))


@dataclass(frozen=True)
class Reading:
    """What stands in one frame.

    Attributes:
        score: see the module; of the pattern as a whole.
        message: what it says; None where no code word was found.
    """

    score: float
    message: Message | None


@dataclass(frozen=True)
class Chips:
    """Which cosine carries what, by the key.

    Attributes:
        pilot: indices [PILOT] into the band.
        coded: indices [SYMBOLS, CODED] into the band.
        signs: [n] of the band.
        words: [SYMBOLS, 256, CODED], the pattern of each byte.
    """

    pilot: NDArray[np.int64]
    coded: NDArray[np.int64]
    signs: Bits
    words: Bits


class Watermark:
    """Marks of one key.

    Args:
        key: any text.
    """

    def __init__(self, key: str = OPEN_KEY) -> None:
        self._key = key
        self.chips = _chips(key)

    def lay(self, images: Bytes, message: Message) -> Bytes:
        """Mark drawn faces [n, size, size, 3]; each by itself, so equal faces get equal bytes."""
        marked = images + _pattern(self._key, message, images.shape[1])[..., None]
        # Rounded to the nearest level, without a pass of its own.
        np.clip(marked + np.float32(0.5), 0, 255, out=marked)
        return marked.astype(np.uint8)

    def pilot(self, frames: Floats, inside: Floats | None = None) -> Floats:
        """How strongly the mark's unchanging part is in each of the frames; see `read`. Standard normal without it."""
        values = band_values(frames, inside)[:, self.chips.pilot]
        norms = np.sqrt((values**2).sum(1)) + 1e-9
        scores: Floats = values @ self.chips.signs[self.chips.pilot].astype(np.float32) / norms
        return scores

    def read(self, frame: Floats, inside: Floats | None = None) -> Reading:
        """Read the mark of one frame.

        Args:
            frame: luminance [READ_SIZE, READ_SIZE] of the face frame.
            inside: the same shape, 1 where the picture is and 0 beyond it; None where it is everywhere.
        """
        values = band_values(frame[None], None if inside is None else inside[None])[0] * self.chips.signs
        norm = float(np.sqrt((values**2).sum())) + 1e-9
        pilot = float(values[self.chips.pilot].sum())
        likely = np.einsum("sqc,sc->sq", self.chips.words, values[self.chips.coded])
        best = Reading(pilot / norm, None)
        for data in _decoded(likely):
            word = np.frombuffer(bytes(_code().encode(data)), np.uint8)
            score = (pilot + float(likely[np.arange(SYMBOLS), word].sum())) / norm
            if score > best.score or best.message is None:
                best = Reading(score, Message.of(data))
        return best


def band_values(frames: Floats, inside: Floats | None = None) -> Floats:
    """What frames [n, READ_SIZE, READ_SIZE] hold at the band's frequencies [n, band], whitened.

    A picture's own content is the noise here. It is strong at low frequencies and at edges, so both count less: the
    band is whitened, divided by its activity in each neighbourhood, and whitened again, as a matched filter would.
    """
    rows, columns, weights = band()
    cosines = basis(READ_SIZE)
    spectrum = np.zeros((len(frames), HIGHEST, HIGHEST), np.float32)
    spectrum[:, rows, columns] = _both_ways(cosines, frames)[:, rows, columns] * weights
    white = _both_ways(cosines.T, spectrum)
    power = box_mean(white**2, NEIGHBOURHOOD)
    white /= power + np.float32(FLOOR) * power.mean((1, 2), keepdims=True) + np.float32(1e-12)
    if inside is not None:
        white *= inside
    values: Floats = _both_ways(cosines, white)[:, rows, columns] * weights
    return values


@cache
def band() -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """The band's frequencies, down and across, and the weight that whitens each."""
    index = np.arange(HIGHEST)
    distance = np.hypot(index[:, None], index)
    rows, columns = np.nonzero((distance >= LOWEST) & (distance < HIGHEST))
    return rows, columns, ((distance[rows, columns] / HIGHEST) ** WHITENING).astype(np.float32)


@lru_cache(maxsize=8)
def basis(size: int) -> Floats:
    """The first cosines of the orthonormal DCT-II [HIGHEST, size]."""
    angles = np.pi * np.arange(HIGHEST)[:, None] * (np.arange(size) + 0.5) / size
    cosines = np.cos(angles) * np.sqrt(2 / size)
    cosines[0] /= np.sqrt(2)
    return np.asarray(cosines, np.float32)


def box_mean(values: Floats, reach: int) -> Floats:
    """The mean over squares of 2 reach + 1 pixels [n, side, side], the edges mirrored."""
    side = values.shape[-1]
    padded = np.pad(values, ((0, 0), (reach, reach), (reach, reach)), mode="symmetric")
    rows = padded[:, :side].copy()
    for start in range(1, 2 * reach + 1):
        rows += padded[:, start : start + side]
    means = rows[:, :, :side].copy()
    for start in range(1, 2 * reach + 1):
        means += rows[:, :, start : start + side]
    return means / np.float32((2 * reach + 1) ** 2)


def _both_ways(matrix: Floats, stack: Floats) -> Floats:
    """matrix @ each of the stack @ matrix.T"""
    return _times(_times(stack, matrix), matrix)


def _times(stack: Floats, matrix: Floats) -> Floats:
    """The transposes of each of a stack [n, a, b] times matrix.T [b, c]: [n, c, a].

    A few rows at a time, too small a piece for BLAS to share among threads: on a busy machine the one that has finished
    waits for the other for longer than all of it takes.
    """
    count, rows, columns = stack.shape
    pieces = stack.reshape(count, rows // PIECE, PIECE, columns) @ matrix.T
    return np.asarray(pieces.reshape(count, rows, -1).swapaxes(1, 2), np.float32)


def rendered(spectrum: Floats, size: int) -> Floats:
    """The pixels [size, size] of cosines with the amplitudes [HIGHEST, HIGHEST]."""
    return np.asarray(basis(size).T @ spectrum @ basis(size), np.float32)


@lru_cache(maxsize=8)
def _pattern(key: str, message: Message, size: int) -> Floats:
    """What is added to each colour [size, size]."""
    rows, columns, _ = band()
    chips = _chips(key)
    signs = chips.signs.astype(np.float32)
    word = np.frombuffer(bytes(_code().encode(message.data())), np.uint8)
    signs[chips.coded] *= chips.words[np.arange(SYMBOLS), word]
    spectrum = np.zeros((HIGHEST, HIGHEST), np.float32)
    spectrum[rows, columns] = signs
    pattern = rendered(spectrum, size)
    pattern *= np.float32(255 * 10 ** (-PSNR / 20) / np.sqrt((pattern**2).mean()))
    pattern.setflags(write=False)
    return pattern


@lru_cache(maxsize=4)
def _chips(key: str) -> Chips:
    """Drawn from SHAKE-256 of the key, the same on every machine and with every release of NumPy."""
    rows, _, _ = band()
    count, patterns = len(rows), SYMBOLS * 256 * CODED
    length = 8 * count + (count + patterns) // 8 + 1
    stream = hashlib.shake_256(b"lookalike watermark 1\0" + key.encode()).digest(length)
    order = np.argsort(np.frombuffer(stream, "<u8", count), kind="stable")
    bits = np.unpackbits(np.frombuffer(stream, np.uint8, offset=8 * count))
    signs = bits.astype(np.int8) * 2 - 1
    coded = order[PILOT : PILOT + SYMBOLS * CODED].reshape(SYMBOLS, CODED)
    words = signs[count : count + patterns].reshape(SYMBOLS, 256, CODED)
    return Chips(order[:PILOT], coded, signs[:count], words)


@cache
def _code() -> RSCodec:
    return RSCodec(SYMBOLS - DATA)


def _decoded(likely: NDArray[np.float64]) -> list[bytes]:
    """Messages of code words near the likeliest bytes; `likely` [SYMBOLS, 256] says how likely each byte is.

    The least certain bytes are also tried as erasures (generalised minimum distance decoding, Forney 1966).
    """
    likeliest = likely.argmax(1).astype(np.uint8)
    ordered = np.partition(likely, -2, axis=1)
    doubtful = np.argsort(ordered[:, -1] - ordered[:, -2])
    found = []
    for erased in (0, 2, 4, 6):
        try:
            data, _, _ = _code().decode(bytes(likeliest), erase_pos=doubtful[:erased].tolist())
        except ReedSolomonError:
            continue
        if bytes(data) not in found:
            found.append(bytes(data))
    return found
