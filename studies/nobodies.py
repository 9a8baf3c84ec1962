"""Study C: what does a recogniser reach that has only seen people who do not exist? The protocol is in README.md."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from app.core.faces import Bytes, Floats
from studies import written
from studies.figures import Array, draws
from studies.scratch import ARMS, Nets, Opened, Sampler, arguments, compared, opened
from studies.small import EXTRAS, PAIRS, Batch
from studies.verification import ALL, FOLDS, FRONTAL, Celebrities, measured

DRAWINGS = {
    "5,000 nobodies, one picture": (5000, 1),
    "5,000 nobodies, to 0.5": (5000, 10),
    "5,000 nobodies, to 0.95": (5000, 20),
    "10,000 nobodies, to 0.95": (10000, 20),
    "1,000 nobodies, to 0.95": (1000, 20),
    "500 nobodies, to 0.95": (500, 20),
}
"""People of an arm, and drawings of each: the first ones, whose controls are weakest."""
AGAINST = {
    "500 nobodies, to 0.95": ("1,000 nobodies, to 0.95", "5,000 nobodies, to 0.95", "10,000 nobodies, to 0.95"),
    "5,000 nobodies, one picture": ("5,000 nobodies, to 0.5", "5,000 nobodies, to 0.95"),
}
"""What arms are compared with beside `photographs`."""
PEOPLE_FIGURES = ("frontal_error", "profile_error")


class People:
    """Steps from people with several pictures each: two of one person, one of each other.

    Args:
        pictures: [n, 64, 64, 3].
        owners: whose each is [n].
    """

    def __init__(self, pictures: Bytes, owners: Array) -> None:
        self._pictures = pictures
        self._rows = [np.flatnonzero(owners == owner) for owner in np.unique(owners)]

    def __call__(self, random: np.random.Generator) -> Batch:
        """See `small.trained`. Somebody with one picture has it twice."""
        order = random.permutation(len(self._rows))[: PAIRS + EXTRAS]
        first: list[int] = []
        second: list[int] = []
        for place, step in zip(random.random(len(order)), random.random(len(order)), strict=True):
            rows = self._rows[order[len(first)]]
            at = int(place * len(rows))
            first.append(rows[at])
            second.append(rows[(at + 1 + int(step * (len(rows) - 1))) % len(rows)])
        return self._pictures[first[:PAIRS]], self._pictures[second[:PAIRS]], self._pictures[first[PAIRS:]]


def real(test: Celebrities, nets: Nets, seed: int) -> Floats:
    """Unit vectors of each half of CFP's people, by folds, of a net that learned from the other half's frontal ones."""
    numbers = np.arange(len(test.found))
    early = numbers // ALL < test.people // 2
    usable = test.found & (numbers % ALL < FRONTAL)
    parts = []
    for name, learned in (("late", ~early), ("early", early)):
        rows = np.flatnonzero(usable & learned)
        pictures = test.pictures[rows]
        parts.append(nets(f"real people, {name}", seed, People(pictures, rows // ALL), pictures))
    vectors: Floats = np.where(early[:, None], parts[0], parts[1])
    return vectors


def learned(ready: Opened, seeds: Iterable[int]) -> Iterator[tuple[str, Floats]]:
    """All arms, seed by seed, with what their nets make of the test."""
    pictures = ready.drawings.nobodies()
    for seed in seeds:
        photographs = ready.lessons.photographs
        yield "photographs", ready.nets("pixels", seed, Sampler(ready.lessons, ARMS["pixels"]), photographs)
        for name, (people, each) in DRAWINGS.items():
            own = pictures[:people, :each].reshape(-1, *pictures.shape[2:])
            yield name, ready.nets(name, seed, People(own, np.arange(len(own)) // each), own)
        yield "real people", real(ready.test, ready.nets, seed)


def study(ready: Opened, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """All arms with their errors."""
    times = draws(ready.test.people)
    figures: dict[str, list[Array]] = {}
    for name, vectors in learned(ready, seeds):
        figures.setdefault(name, []).append(measured(ready.test, vectors, times)[:, -len(PEOPLE_FIGURES) :])
    return compared({name: np.stack(own) for name, own in figures.items()}, "photographs", AGAINST, PEOPLE_FIGURES)


def main(options: list[str] | None = None) -> int:
    """Run the study and write its results; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m studies.nobodies", description=__doc__)
    arguments(parser)
    chosen = parser.parse_args(options)
    ready = opened(chosen)
    if ready.test.people % FOLDS:
        raise ValueError(f"{ready.test.people} people do not fall into {FOLDS} folds")
    if chosen.seed:
        for _ in learned(ready, chosen.seed):
            pass
        return 0
    found = study(ready, range(chosen.seeds))
    written.table(chosen.out, "nobodies", found, ready.about, PEOPLE_FIGURES)
    written.arms_figure(chosen.out / "nobodies.png", found, PEOPLE_FIGURES)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
