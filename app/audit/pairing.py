"""Which pictures are compared with which, and what the recogniser scores them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.audit.cache import Cache
from app.audit.collection import Collection, Item, Told, told_name
from app.audit.rates import Pairs
from app.audit.recognisers import Recogniser, scores
from app.core.faces import Floats
from app.core.normalisation import Statistics, normalise

Rows = NDArray[Any]

SCORED_AT_A_TIME = 16
GATHERED = 65536
"""Pairs of embeddings that are multiplied at a time."""


@dataclass(frozen=True)
class Plan:
    """Pairs as places in the list of items [n, 2] each.

    Attributes:
        genuine: two photographs of one person.
        impostor: two photographs of two people.
        source: a look-alike and the photograph that it was made of.
        other: a look-alike and another photograph of that person, where there is one.
    """

    genuine: Rows
    impostor: Rows
    source: Rows
    other: Rows


def plan(items: Sequence[Item], most: int, seed: int) -> Plan:
    """Every pair there is, impostors at most `most`, drawn at random.

    Args:
        items: photographs first, then look-alikes.
        most: impostor pairs.
        seed: of the draw.
    """
    photographs = [place for place, item in enumerate(items) if item.control is None]
    own: dict[int, list[int]] = {}
    for place in photographs:
        own.setdefault(items[place].person, []).append(place)
    genuine = [(a, b) for places in own.values() for i, a in enumerate(places) for b in places[i + 1 :]]
    source, other = [], []
    at = {(items[place].person, items[place].digest): place for place in photographs}
    for place in range(len(photographs), len(items)):
        made_of = at[items[place].person, items[place].digest]
        source.append((made_of, place))
        rest = [one for one in own[items[place].person] if one != made_of]
        if rest:
            other.append((rest[0], place))
    people = np.array([items[place].person for place in photographs], np.int64)
    return Plan(_pairs(genuine), _impostors(people, most, seed), _pairs(source), _pairs(other))


def _pairs(found: list[tuple[int, int]]) -> Rows:
    return np.array(found, np.int64).reshape(-1, 2)


def _impostors(people: Rows, most: int, seed: int) -> Rows:
    count = len(people)
    if count * (count - 1) // 2 <= max(most, 4_000_000):
        first, second = np.triu_indices(count, 1)
        different = np.flatnonzero(people[first] != people[second])
        if len(different) > most:
            different = np.sort(np.random.default_rng(seed).choice(different, most, replace=False))
        return np.column_stack([first[different], second[different]])
    # Far more than are wanted: drawn, those of one person and those drawn twice left out.
    random = np.random.default_rng(seed)
    drawn = np.sort(random.integers(0, count, (2 * most, 2)), axis=1)
    drawn = np.unique(drawn[people[drawn[:, 0]] != people[drawn[:, 1]]][: most + most // 8], axis=0)
    if len(drawn) > most:  # they are in order, so that the first ones would be those of the first people
        drawn = drawn[np.sort(random.choice(len(drawn), most, replace=False))]
    return drawn


class Scorer:
    """Scores pairs of items, by their embeddings or by asking the recogniser.

    Args:
        items: photographs and look-alikes.
        vectors: of each, None where there is none; of a recogniser that scores pairs an empty list.
        recogniser, collection, cache: to ask, where there are no vectors.
    """

    def __init__(
        self,
        items: Sequence[Item],
        vectors: Sequence[Floats | None],
        recogniser: Recogniser,
        collection: Collection,
        cache: Cache,
    ) -> None:
        self._items, self._recogniser, self._collection, self._cache = items, recogniser, collection, cache
        self.people = np.array([item.person for item in items], np.int64)
        self._vectors: Floats | None = None
        if vectors:
            width = max((len(one) for one in vectors if one is not None), default=1)
            gap = np.full(width, np.nan, np.float32)
            self._vectors = np.stack([gap if one is None else one for one in vectors])

    def __call__(self, rows: Rows, told: Told) -> Rows:
        """Scores [n] of pairs [n, 2]; nan where the recogniser found no face in one of them."""
        if self._vectors is None:
            return self._asked(rows, told)
        parts = []
        for start in range(0, len(rows), GATHERED):
            first, second = rows[start : start + GATHERED].T
            parts.append(np.einsum("ij,ij->i", self._vectors[first], self._vectors[second]))
            told(len(first))
        return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)

    def _asked(self, rows: Rows, told: Told) -> Rows:
        found = np.full(len(rows), np.nan)
        for start in range(0, len(rows), SCORED_AT_A_TIME):
            part = [(self._items[a], self._items[b]) for a, b in rows[start : start + SCORED_AT_A_TIME]]
            keys = [f"score {self._recogniser.key} {self._recogniser.crop} {a.key} {b.key}" for a, b in part]
            known = [self._cache.get(key) for key in keys]
            new = [row for row, one in enumerate(known) if one is None]
            if new:
                first = [self._collection.picture(part[row][0]) for row in new]
                second = [self._collection.picture(part[row][1]) for row in new]
                names = [f"{told_name(part[row][0])} and {told_name(part[row][1])}" for row in new]
                fresh = scores(self._recogniser, first, second, names)
                self._cache.put([keys[row] for row in new], fresh)
                for row, score in zip(new, fresh, strict=True):
                    known[row] = np.zeros(0, np.float32) if score is None else score
            for row, one in enumerate(known):
                if one is not None and len(one):
                    found[start + row] = one[0]
            told(len(part))
        return found

    def pairs(self, rows: Rows, found: Rows) -> tuple[Pairs, Rows]:
        """Scored pairs, those without a score left out, and which rows they are [n]."""
        kept = np.flatnonzero(np.isfinite(found))
        first, second = rows[kept].T if len(kept) else (np.zeros(0, np.int64),) * 2
        return Pairs(found[kept], self.people[first], self.people[second]), kept


def normalised(rows: Rows, found: Rows, of: Statistics) -> Rows:
    """Scores [n] of pairs [n, 2] by what a cohort is to each of their items."""
    if not len(rows):
        return found
    result: Rows = normalise(found, of.of(rows[:, 0]), of.of(rows[:, 1]))
    return result
