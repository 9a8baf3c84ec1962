"""Every face that was cut, on its way into the set or out of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.faces import EMBEDDING_SIZE, Bytes, Floats
from model_export.preparing.cuts import Cuts
from model_export.preparing.cutting import Quality
from model_export.preparing.labels import Labels


@dataclass
class Candidate:
    """A face.

    Attributes:
        source: name of its source.
        file: its photograph's name in there.
        cuts: where its source's faces are kept.
        place: its chunk, and its row in it.
        quality: what was measured of it.
        labels: what is known of it; with estimates filled in once there are any.
        estimated: which of `labels` are estimates.
        held_out: whether it is to be a test face in any case.
        reason: why it is dropped; empty while it is not.
        cluster: number of the person it seems to show.
        test: its side of the split.
        weight: how often it is to be drawn in training, of mean 1.
    """

    source: str
    file: str
    cuts: Cuts
    place: tuple[int, int]
    quality: Quality
    labels: Labels
    estimated: tuple[str, ...] = ()
    held_out: bool = False
    reason: str = ""
    cluster: int = -1
    test: bool = False
    weight: float = field(default=1.0)

    @property
    def name(self) -> str:
        """Its name in the set."""
        return f"{self.source}/{self.file}" if self.source else self.file

    @property
    def cell(self) -> tuple[str, str]:
        """What the set is to be balanced over: group and gender."""
        return self.labels.group, self.labels.gender

    def face(self) -> Bytes:
        """The picture [128, 128, 3]."""
        index, row = self.place
        return np.array(self.cuts.rows("faces", index)[row])


def gather(
    source: str, cuts: Cuts, look_up: Callable[[str], Labels], held_out: frozenset[str]
) -> tuple[list[Candidate], list[tuple[str, str, str]]]:
    """All faces of a source in its order, and what gave none: source, file, reason."""
    candidates, dropped = [], []
    for index, record in cuts.records():
        file = record["file"]
        if "reason" in record:
            dropped.append((source, file, record["reason"]))
        else:
            quality = Quality(**record["quality"])
            place = (index, record["row"])
            candidates.append(Candidate(source, file, cuts, place, quality, look_up(file), held_out=file in held_out))
    return candidates, dropped


def parts(
    candidates: Sequence[Candidate],
) -> Iterator[tuple[NDArray[np.int64], Cuts, int, NDArray[np.int64]]]:
    """Candidates by chunk, to bound the memory: their places in the list, and the chunk's folder, number and rows."""
    by_chunk: dict[tuple[str, int], list[int]] = defaultdict(list)
    for number, candidate in enumerate(candidates):
        by_chunk[candidate.source, candidate.place[0]].append(number)
    for (_, index), numbers in by_chunk.items():
        rows = np.array([candidates[number].place[1] for number in numbers], np.int64)
        yield np.array(numbers, np.int64), candidates[numbers[0]].cuts, index, rows


def fill(array: NDArray[Any], kind: str, candidates: Sequence[Candidate]) -> None:
    """Put an array of the chunks into `array`, in the order of the candidates."""
    for numbers, cuts, index, rows in parts(candidates):
        array[numbers] = cuts.rows(kind, index)[rows]


def embeddings(candidates: Sequence[Candidate], kind: str = "embeddings") -> Floats:
    """Their unit vectors [n, 192]; `embeddings_mirrored` of the mirrored faces."""
    array = np.empty((len(candidates), EMBEDDING_SIZE), np.float32)
    fill(array, kind, candidates)
    return array
