"""CFP as studies B and C test with it: all of its people, frontal and in profile, and its own ten folds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.core.faces import FRAME_SIZE, Bytes, Detector, Floats, align
from model_export.evaluation.judge import Judge
from model_export.preparing.cutting import UnusablePicture, read_picture
from studies import figures
from studies.drawings import halved
from studies.figures import NAMES, Array, Trial
from studies.material import GALLERY, PROBES, Kept, digest

FRONTAL, PROFILE, FOLDS = 10, 4, 10
ALL = FRONTAL + PROFILE
FIGURES = (*NAMES, "hard_error", "frontal_error", "profile_error")
"""Of a net in study B, in this order."""


@dataclass(frozen=True)
class Folds:
    """The pairs of one of CFP's protocols.

    Attributes:
        first, second: rows of the 14 pictures of each person [n].
        fold: 0 to 9 [n].
    """

    first: Array
    second: Array
    fold: Array

    @property
    def same(self) -> Array:
        """Whether a pair is of one person [n]."""
        return self.first // ALL == self.second // ALL


@dataclass(frozen=True)
class Celebrities:
    """The people of the test.

    Attributes:
        pictures: [p * 14, 64, 64, 3], ten frontal ones and four in profile of each, black where no face was found.
        found: whether a face was [p * 14].
        of: gallery, probes and hard impostors; its rows are among those who have a face.
        gallery, probes: rows of pictures of whoever stands on either side [g], [q].
        frontal, profile: the ten folds.
    """

    pictures: Bytes
    found: Array
    of: Trial
    gallery: Array
    probes: Array
    frontal: Folds
    profile: Folds

    @property
    def people(self) -> int:
        """How many."""
        return len(self.found) // ALL


def folds(protocol: Path, name: str) -> Folds:
    """CFP's pairs `FF` or `FP`, from its folder `Protocol`: numbers of pictures, counted from 1 in order of people."""
    rows, numbers = [], []
    for fold in range(FOLDS):
        for kind in ("same", "diff"):
            lines = (protocol / "Split" / name / f"{fold + 1:02d}" / f"{kind}.txt").read_text().split()
            rows += [[int(number) - 1 for number in line.split(",")] for line in lines]
            numbers += [fold] * len(lines)
    first, second = np.array(rows).T
    own, start = (FRONTAL, 0) if name == "FF" else (PROFILE, FRONTAL)
    return Folds(
        first // FRONTAL * ALL + first % FRONTAL, second // own * ALL + start + second % own, np.array(numbers)
    )


def faces(people: Path, models: Path, kept: Kept) -> Bytes:
    """All pictures of CFP's people in the face frame [p, 14, 128, 128, 3], black where no face was found."""
    folders = sorted((path.parent for path in people.rglob("frontal")), key=lambda path: path.name)
    if not folders:
        raise SystemExit(f"{people}: there is no folder of a person in it, with `frontal` and `profile`")
    detector = Detector(models, "cpu", 1)

    def face(path: Path) -> Bytes:
        try:
            photograph = read_picture(path.read_bytes())
        except (UnusablePicture, FileNotFoundError):
            return np.zeros((FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
        seen = detector(photograph, None)
        return align(photograph, seen[0]) if seen else np.zeros((FRAME_SIZE, FRAME_SIZE, 3), np.uint8)

    def of(folder: Path) -> Bytes:
        names = [("frontal", FRONTAL), ("profile", PROFILE)]
        return np.stack([face(folder / kind / f"{n + 1:02d}.jpg") for kind, each in names for n in range(each)])

    return kept("cfp", len(folders), lambda part: np.stack([of(folder) for folder in folders[part]]))


def sides(found: Array) -> tuple[Array, Array]:
    """Rows of the first 2 and the next 3 frontal pictures with a face of everybody who has 5 [g], [q]."""
    gallery, probes = [], []
    for person, own in enumerate(found.reshape(-1, ALL)[:, :FRONTAL]):
        rows = person * ALL + np.flatnonzero(own)
        if len(rows) >= GALLERY + PROBES:
            gallery += rows[:GALLERY].tolist()
            probes += rows[GALLERY : GALLERY + PROBES].tolist()
    return np.array(gallery), np.array(probes)


def celebrities(people: Path, protocol: Path, models: Path, miner: Path, runs: Path) -> Celebrities:
    """Everybody in CFP.

    Args:
        people: its `Images`: a folder for each person, in one or more folders, with `frontal` and `profile`.
        protocol: its `Protocol`.
        models: with the detector.
        miner: as ONNX; it says which impostors are hard.
        runs: what is computed is kept here.
    """
    cut = faces(people, models, Kept(runs / "cfp-14"))
    flat = cut.reshape(-1, *cut.shape[2:])
    found: Array = flat.reshape(len(flat), -1).max(1) > 0
    gallery, probes = sides(found)
    mined, judge = Kept(runs / "cfp-14" / digest(miner)), Judge(miner, 1)
    vectors = mined("miner", len(flat), lambda part: judge(flat[part]))
    of = figures.everybody(vectors[gallery], vectors[probes], gallery // ALL, probes // ALL)
    return Celebrities(halved(flat), found, of, gallery, probes, folds(protocol, "FF"), folds(protocol, "FP"))


def measured(test: Celebrities, vectors: Floats, times: Array) -> Array:
    """A net's figures [d, 6] in the order of `FIGURES`, by its unit vectors of all pictures [p * 14, d]."""
    scores = vectors[test.gallery] @ vectors[test.probes].T
    own = figures.measure(test.of, scores, times)
    rest = [hard_error(test.of, scores, times), *errors(test, vectors, times)]
    return np.concatenate([own, np.stack(rest, 1)], 1)


def hard_error(of: Trial, scores: Array, times: Array) -> Array:
    """Equal error rates [d] of genuine pairs against hard impostors."""
    rows, columns = np.nonzero(of.genuine)
    genuine, weights = scores[rows, columns], times[:, of.first[rows]]
    rows, columns = np.nonzero(of.hard)
    hard, pairs = scores[rows, columns], times[:, of.first[rows]] * times[:, of.second[columns]]
    order = np.argsort(-np.concatenate([genuine, hard]), kind="stable")
    let_in = np.cumsum(np.concatenate([np.zeros_like(weights), pairs], 1)[:, order], 1) / pairs.sum(1, keepdims=True)
    refused = 1 - np.cumsum(np.concatenate([weights, np.zeros_like(pairs)], 1)[:, order], 1) / weights.sum(
        1, keepdims=True
    )
    at = np.abs(let_in - refused).argmin(1)[:, None]
    rates: Array = np.take_along_axis(let_in + refused, at, 1)[:, 0] / 2
    return rates


def errors(test: Celebrities, vectors: Floats, times: Array) -> tuple[Array, Array]:
    """One minus accuracy [d] in the ten folds, frontal and in profile.

    A frontal pair without a face is refused, as a system would; in profile it is left out, for many have none.
    """
    found = []
    for own, refused in ((test.frontal, True), (test.profile, False)):
        seen = test.found[own.first] & test.found[own.second]
        scores = np.where(seen, (vectors[own.first] * vectors[own.second]).sum(1), -1)
        first, second = own.first // ALL, own.second // ALL
        weights = np.where(own.same, times[:, first], times[:, first] * times[:, second]) * (seen | refused)
        found.append(1 - accuracy(scores, own.same, own.fold, weights))
    return found[0], found[1]


def accuracy(scores: Array, same: Array, fold: Array, weights: Array) -> Array:
    """Share of pairs judged rightly [d]: each fold at the threshold that is best on the other nine.

    Args:
        scores, same, fold: of pairs [n].
        weights: how often each counts [d, n].
    """
    right = np.zeros(len(weights))
    for number in np.unique(fold):
        there, here = np.flatnonzero(fold != number), fold == number
        order = there[np.argsort(-scores[there], kind="stable")]
        # Letting in one pair more gains one where it is of one person, and loses one where it is of two.
        gained = np.cumsum(weights[:, order] * np.where(same[order], 1, -1), 1)
        thresholds = scores[order][gained.argmax(1)]
        judged = (scores[here] >= thresholds[:, None]) == same[here]
        right += (judged * weights[:, here]).sum(1)
    total: Array = right / weights.sum(1)
    return total
