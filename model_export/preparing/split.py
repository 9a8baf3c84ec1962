"""Which faces are held out: whole people, in proportion, and nobody who looks like them is trained on."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model_export.preparing.candidates import Candidate
from model_export.preparing.people import Likeness, Pairs


def split(candidates: Sequence[Candidate], test_faces: Mapping[str, int], least: int) -> None:
    """Choose the test faces among those that are not dropped.

    Those that are to be held out are, with everybody of their clusters; the rest is drawn within each source, from
    clusters that lie in it whole.

    Args:
        candidates: all faces, clusters known.
        test_faces: source -> about how many, never over a fifth of it.
        least: at least this many of each group x gender of a source.
    """
    members: dict[int, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if not candidate.reason:
            members[candidate.cluster].append(candidate)
    for together in members.values():
        if any(candidate.held_out for candidate in together):
            for candidate in together:
                candidate.test = True
    for source, wanted in test_faces.items():
        whole = [
            candidate
            for together in members.values()
            if all(candidate.source == source and not candidate.test for candidate in together)
            for candidate in together
        ]
        present = sum(candidate.source == source and not candidate.reason for candidate in candidates)
        held_out = sum(candidate.held_out and candidate.test for candidate in candidates if candidate.source == source)
        wanted = min(wanted, present // 5) - held_out
        if wanted <= 0 or not whole:
            continue
        # A cluster is named by its first file, so that its side depends on the pictures and not on a number.
        names = [members[candidate.cluster][0].file for candidate in whole]
        for candidate, test in zip(whole, split_clusters(names, [c.cell for c in whole], wanted, least), strict=True):
            candidate.test = bool(test)


def drop_leaks(candidates: Sequence[Candidate], pairs: Pairs, likeness: Likeness) -> None:
    """Mark training faces that look like a test face as dropped."""
    for first, second in pairs.rows[pairs.cosines > likeness.look_alike]:
        one, other = candidates[first], candidates[second]
        if not one.reason and not other.reason and one.test != other.test:
            (other if one.test else one).reason = "looks like a test face"


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
