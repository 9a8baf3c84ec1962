"""Study B: do drawings teach a recogniser that has no identity labels? The protocol is in README.md."""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.core.faces import Bytes, Floats
from studies import small, written
from studies.drawings import NEIGHBOURS, Drawings, Lessons, closest_below, described, version
from studies.figures import SEEDS, Array, draws, redrawn_seeds, summary
from studies.material import common_arguments, digest
from studies.small import EXTRAS, PAIRS, Batch
from studies.verification import FIGURES, FRONTAL, Celebrities, celebrities, measured

logger = logging.getLogger(__name__)

CANDIDATES = ("full", "full again", "far", "farther")
"""Drawings that may be other people."""


@dataclass(frozen=True)
class Arm:
    """What is one person and what is another.

    Attributes:
        positives: kinds of drawing that are a person's second picture in half of the cases; none for it alone.
        others: `random`, `mined`, `morphs`, or the similarity below which a drawing is another person.
    """

    positives: tuple[str, ...] = ()
    others: str | float = "random"


ARMS = {
    "pixels": Arm(),
    "+ redrawn": Arm(("redrawn",)),
    "+ controls 0.2": Arm(("near",)),
    "+ controls 0.5": Arm(("half",)),
    "look-alikes the same": Arm(("full", "full again")),
    "mined": Arm((), "mined"),
    "morphs": Arm((), "morphs"),
    "others beyond 0.6": Arm(("redrawn",), 0.6),
    "others beyond 0.45": Arm(("redrawn",), 0.45),
    "others beyond 0.3": Arm(("redrawn",), 0.3),
}
AGAINST = {
    "+ redrawn": ("others beyond 0.6", "others beyond 0.45", "others beyond 0.3"),
    "mined": tuple(name for name, arm in ARMS.items() if arm.positives),
    "morphs": tuple(name for name, arm in ARMS.items() if arm.positives),
}
"""What arms are compared with beside `pixels`."""


class Sampler:
    """The pictures of a step of an arm."""

    def __init__(self, lessons: Lessons, arm: Arm) -> None:
        self._lessons, self._arm = lessons, arm
        if isinstance(arm.others, float):
            self._which, self._there = closest_below(lessons.similarity, arm.others, CANDIDATES)

    @property
    def share(self) -> float:
        """Of how many photographs there is a drawing below the arm's limit."""
        return float(self._there.mean())

    def __call__(self, random: np.random.Generator) -> Batch:
        """See `small.trained`: every arm draws the same numbers."""
        photographs = self._lessons.photographs
        order = random.permutation(len(photographs))
        people, strangers = order[:PAIRS], order[PAIRS : PAIRS + EXTRAS]
        drawn, either = random.random(PAIRS) < 0.5, random.integers(0, 2, PAIRS)
        place = random.integers(0, NEIGHBOURS, EXTRAS)
        second = photographs[people]
        for number, kind in enumerate(self._arm.positives):
            rows = drawn & (either % len(self._arm.positives) == number)
            second[rows] = self._lessons.drawings[kind][people[rows]]
        return photographs[people], second, self._others(people, strangers, place)

    def _others(self, people: Array, strangers: Array, place: Array) -> Bytes:
        photographs, own = self._lessons.photographs, people[:EXTRAS]
        if self._arm.others == "morphs":
            both = photographs[own].astype(np.uint16) + photographs[strangers]
            return (both // 2).astype(np.uint8)
        if self._arm.others == "mined":
            rows = self._lessons.neighbours[own, place]
            # Nobody may stand among the others of a step in which they are learned.
            return photographs[np.where(np.isin(rows, people), strangers, rows)]
        found = photographs[strangers]
        if isinstance(self._arm.others, float):
            for number, kind in enumerate(CANDIDATES):
                rows = self._there[own] & (self._which[own] == number)
                found[rows] = self._lessons.drawings[kind][own[rows]]
        return found


class Nets:
    """Trains, and keeps what a net makes of the test: an interrupted study goes on after the last one.

    Args:
        test: what is embedded.
        folder: where embeddings are kept.
        of: whatever they depend on beside arm and seed.
        steps: of training.
    """

    def __init__(self, test: Celebrities, folder: Path, of: str, steps: int = small.STEPS) -> None:
        settings = [small.WIDTHS, small.DIMENSIONS, PAIRS, EXTRAS, small.RATE, small.TEMPERATURE, steps, of]
        self._folder = folder / hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
        self._test, self._steps = test, steps

    def __call__(self, name: str, seed: int, batch: Callable[[np.random.Generator], Batch], calm: Bytes) -> Floats:
        """Unit vectors of all of the test's pictures [p * 14, d].

        Args:
            name: of the arm.
            seed: see `small.trained`.
            batch: see there.
            calm: pictures from which batch normalisation learns its statistics anew.
        """
        path = self._folder / f"{name}-{seed}.npy"
        if not path.exists():
            logger.info("%s, seed %d", name, seed)
            net = small.recalibrated(small.trained(batch, seed, self._steps), calm)
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = path.with_suffix(".part.npy")
            np.save(whole, small.embedded(net, self._test.pictures))
            whole.replace(path)
        vectors: Floats = np.load(path)
        return vectors


def compared(
    figures: dict[str, Array], base: str, also: dict[str, tuple[str, ...]], names: tuple[str, ...] = FIGURES
) -> list[dict[str, Any]]:
    """Each arm's figures [seeds, d, k] against a base, and of some against others."""
    drawn = {name: redrawn_seeds(own) for name, own in figures.items()}
    pairs = [(name, base) for name in drawn]
    pairs += [(name, other) for other, names in also.items() for name in names]
    return [
        {"arm": name, "against": other, **summary(drawn[name], drawn[other], names)}
        for name, other in pairs
        if name in drawn and other in drawn
    ]


def learned(lessons: Lessons, nets: Nets, seeds: Iterable[int]) -> Iterator[tuple[str, Floats]]:
    """All arms, seed by seed, with what their nets make of the test."""
    for seed in seeds:
        for name, arm in ARMS.items():
            yield name, nets(name, seed, Sampler(lessons, arm), lessons.photographs)


def study(lessons: Lessons, nets: Nets, test: Celebrities, seeds: Iterable[int]) -> list[dict[str, Any]]:
    """All arms with their figures."""
    times = draws(test.people)
    figures: dict[str, list[Array]] = {name: [] for name in ARMS}
    for name, vectors in learned(lessons, nets, seeds):
        figures[name].append(measured(test, vectors, times))
    return compared({name: np.stack(own) for name, own in figures.items()}, "pixels", AGAINST)


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of studies B and C."""
    common_arguments(parser)
    parser.add_argument("--prepared", type=Path, required=True, help="a folder that model_export prepare wrote")
    parser.add_argument("--people", type=Path, required=True, help="CFP's photographs, a folder for each person")
    parser.add_argument("--protocol", type=Path, required=True, help="CFP's folder Protocol")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many nets of each arm")
    parser.add_argument(
        "--seed", type=int, action="append", help="let the nets of this one learn and write nothing: to share the work"
    )


@dataclass(frozen=True)
class Opened:
    """What the options say: photographs and drawings, the test, and nets that learn from the former."""

    drawings: Drawings
    lessons: Lessons
    test: Celebrities
    nets: Nets
    about: dict[str, Any]


def opened(chosen: argparse.Namespace) -> Opened:
    """Draw and read whatever is not there yet."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    drawings = Drawings(chosen.models, chosen.runs)
    lessons = drawings.lessons(chosen.prepared)
    test = celebrities(chosen.people, chosen.protocol, chosen.models, chosen.miner, chosen.runs)
    model = version(chosen.models)
    learned = f"{model} {digest(chosen.prepared / 'faces.csv')} {len(lessons.photographs)}"
    nets = Nets(test, chosen.runs / "nets", learned)
    frontal, profile = np.split(test.found.reshape(test.people, -1), [FRONTAL], axis=1)
    about = {
        "model": model,
        "photographs": len(lessons.photographs),
        "similarity_of_drawings": described(lessons),
        "share_with_a_drawing_below": {
            name: round(Sampler(lessons, arm).share, 3) for name, arm in ARMS.items() if isinstance(arm.others, float)
        },
        "people": test.people,
        "without_a_face": {"frontal": int((~frontal).sum()), "profile": int((~profile).sum())},
        "hard_pairs": int(test.of.hard.sum()),
        "net": {"multiplications": small.cost(), "steps": small.STEPS, "pictures_a_step": 2 * PAIRS + EXTRAS},
        "seeds": chosen.seeds,
    }
    return Opened(drawings, lessons, test, nets, about)


def main(options: list[str] | None = None) -> int:
    """Run the study and write its results; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m studies.scratch", description=__doc__)
    arguments(parser)
    chosen = parser.parse_args(options)
    ready = opened(chosen)
    if chosen.seed:
        for _ in learned(ready.lessons, ready.nets, chosen.seed):
            pass
        return 0
    found = study(ready.lessons, ready.nets, ready.test, range(chosen.seeds))
    written.table(chosen.out, "scratch", found, ready.about, FIGURES)
    written.arms_figure(chosen.out / "scratch.png", found, ("hard_at_fnmr", "hard_error", "frontal_error"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
