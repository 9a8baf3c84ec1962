"""Which faces show one person, which are copies of one photograph, and who looks like somebody that is kept away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from app.core.faces import FRAME_SIZE, Bytes, Floats
from model_export.preparing.candidates import Candidate, embeddings

FRAME_EYES = 0.404 * FRAME_SIZE
"""Distance of the eyes in the face frame, in its pixels."""


@dataclass(frozen=True)
class Likeness:
    """What counts as one person, by the recogniser's cosine.

    Attributes:
        same_person: above, two faces are one person and stay on one side, and so does who is connected through others.
        look_alike: above, a face is not trained on beside a test face, though it may be another person's.
        keep_away: above, a face is not trained on because of a set that is kept away.
        copy: above, two faces may be one photograph.
        copy_difference: of such two, mean absolute difference of the pixels (0..255) below which they are. Taken at a
            quarter of the size, where it matters little that the two were not cut alike.
    """

    same_person: float = 0.75
    look_alike: float = 0.7
    keep_away: float = 0.6
    copy: float = 0.85
    copy_difference: float = 10.0


@dataclass(frozen=True)
class Pairs:
    """Pairs of faces that look alike.

    Attributes:
        rows: [m, 2] numbers of two faces, first < second.
        cosines: [m] how alike they are, mirrored or not.
        flipped: [m] whether one of them has to be mirrored for it.
    """

    rows: NDArray[np.int64]
    cosines: Floats
    flipped: NDArray[np.bool_]


def similar_pairs(plain: Floats, mirrored: Floats, threshold: float, block: int = 2048) -> Pairs:
    """All pairs of faces whose cosine exceeds a threshold, mirrored copies included.

    Args:
        plain: unit vectors [n, d] of the faces.
        mirrored: unit vectors [n, d] of the same faces, mirrored.
        threshold: cosine in [-1, 1].
        block: rows of the similarity matrix computed at a time; it bounds the memory to 16 * block * n bytes.
    """
    rows, cosines, flips = [np.empty((0, 2), np.int64)], [np.empty(0, np.float32)], [np.empty(0, np.bool_)]
    for start in range(0, len(plain), block):
        some = plain[start : start + block]
        straight = some @ plain[start:].T
        flipped = some @ mirrored[start:].T
        best = np.maximum(straight, flipped)
        first, second = np.nonzero(np.triu(best > threshold, k=1))
        rows.append(np.column_stack([first, second]).astype(np.int64) + start)
        cosines.append(best[first, second])
        flips.append(flipped[first, second] > straight[first, second])
    return Pairs(np.concatenate(rows), np.concatenate(cosines), np.concatenate(flips))


def people(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs [m, 2] of `count` faces -> the number of each one's person [count], from 0 in the order of the faces."""
    graph = coo_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers].astype(np.int64)


def drop_copies(candidates: Sequence[Candidate], pairs: Pairs, likeness: Likeness) -> list[tuple[Candidate, Candidate]]:
    """Mark copies as dropped; returns (copy, the one that stays).

    Of two, one that is to be held out stays, else the one with more to see: beyond the frame's own resolution that is
    the sharper one.
    """

    def worth(candidate: Candidate) -> tuple[bool, float, float]:
        quality = candidate.quality
        return candidate.held_out, min(quality.eye_distance, FRAME_EYES), quality.sharpness

    copies = []
    near = pairs.cosines > likeness.copy
    for (first, second), flip in zip(pairs.rows[near], pairs.flipped[near], strict=True):
        pair = candidates[first], candidates[second]
        if any(candidate.reason for candidate in pair):
            continue
        one, other = (_reduced(candidate.face()) for candidate in pair)
        if np.abs(one - (other[:, ::-1] if flip else other)).mean() < likeness.copy_difference:
            goes, stays = sorted(pair, key=worth)
            goes.reason = "copy of another"
            copies.append((goes, stays))
    return copies


def nearest(candidates: Sequence[Candidate], others: Floats, block: int = 4096) -> Floats:
    """For each face, mirrored or not, the greatest cosine to any of these unit vectors [m, 192]; -1 where m is 0."""
    if not len(others):
        return np.full(len(candidates), -1, np.float32)
    result = np.empty(len(candidates), np.float32)
    kinds = [embeddings(candidates, kind) for kind in ("embeddings", "embeddings_mirrored")]
    for start in range(0, len(candidates), block):
        some = slice(start, start + block)
        result[some] = np.maximum(*((kind[some] @ others.T).max(1) for kind in kinds))
    return result


def _reduced(face: Bytes, factor: int = 4) -> Floats:
    """A face [128, 128, 3] averaged over squares of `factor` pixels."""
    cells = FRAME_SIZE // factor
    return face.reshape(cells, factor, cells, factor, 3).mean((1, 3), dtype=np.float32)
