"""Near-duplicates: which faces show one person, which are copies of one photograph, and a split that respects both."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from app.core.faces import Floats


def similar_pairs(
    embeddings: Floats, mirrored: Floats, threshold: float, block: int = 2048
) -> tuple[NDArray[np.int64], Floats, NDArray[np.bool_]]:
    """All pairs of faces whose cosine exceeds a threshold, mirrored copies included.

    Args:
        embeddings: unit vectors [n, d] of the faces.
        mirrored: unit vectors [n, d] of the same faces, mirrored.
        threshold: cosine in [-1, 1].
        block: rows of the similarity matrix computed at a time; it bounds the memory to 8 * block * n bytes.

    Returns:
        pairs [m, 2] with first < second, their cosines [m], and whether the mirrored face was the closer one [m].
    """
    pairs, cosines, flips = [], [], []
    for start in range(0, len(embeddings), block):
        rows = embeddings[start : start + block]
        plain = rows @ embeddings[start:].T
        flipped = rows @ mirrored[start:].T
        best = np.maximum(plain, flipped)
        first, second = np.nonzero(np.triu(best > threshold, k=1))
        pairs.append(np.column_stack([first, second]).astype(np.int64) + start)
        cosines.append(best[first, second])
        flips.append(flipped[first, second] > plain[first, second])
    if not pairs:
        return np.empty((0, 2), np.int64), np.empty(0, np.float32), np.empty(0, np.bool_)
    return np.concatenate(pairs), np.concatenate(cosines), np.concatenate(flips)


def connected(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Union-find: pairs [m, 2] over `count` items -> for each item the smallest item of its cluster [count]."""
    parent = np.arange(count)

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = int(parent[item])
        return item

    for first, second in pairs:
        low, high = sorted((root(int(first)), root(int(second))))
        parent[high] = low
    return np.array([root(item) for item in range(count)], np.int64)


def split_clusters(
    clusters: Sequence[str], strata: Sequence[Hashable], test_faces: int, least: int
) -> NDArray[np.bool_]:
    """Choose the test faces: whole clusters, drawn by a hash of their names within each stratum.

    The hash makes the choice independent of the order of the faces and, but for its size, of the other faces.

    Args:
        clusters: the cluster's name of each face [n].
        strata: what should be represented in proportion, for each face [n]; a cluster belongs to its first face's.
        test_faces: about how many test faces in all.
        least: at least this many of each stratum, but never more than a fifth of it. Where all strata are too small
            to have a test face, the whole set is taken as one.

    Returns:
        Whether each face is a test face [n].
    """
    members: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(clusters):
        members[name].append(row)
    by_stratum: dict[Hashable, list[str]] = defaultdict(list)
    for name, rows in members.items():
        by_stratum[strata[rows[0]]].append(name)
    test = np.zeros(len(clusters), np.bool_)
    for names in by_stratum.values():
        size = sum(len(members[name]) for name in names)
        wanted = max(round(test_faces * size / len(clusters)), min(least, size // 5))
        taken = 0
        for name in sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest()):
            rows = members[name]
            # A large cluster that would overshoot by more than it helps stays in training.
            if taken + len(rows) / 2 <= wanted:
                test[rows] = True
                taken += len(rows)
    if not test.any() and len(by_stratum) > 1:
        return split_clusters(clusters, [None] * len(clusters), test_faces, least)
    return test
