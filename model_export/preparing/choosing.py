"""From the cuts of all sources to one set: what is dropped, who is held out, how often each face is drawn.

Everything is decided over all sources together, since one person may stand in several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from app.core.faces import Floats
from model_export.preparing.candidates import Candidate, embeddings
from model_export.preparing.filters import Limits
from model_export.preparing.people import Likeness, drop_copies, nearest, people, similar_pairs
from model_export.preparing.pictures import SourceError
from model_export.preparing.sampling import weigh
from model_export.preparing.split import drop_leaks, split


@dataclass(frozen=True)
class Wishes:
    """How to choose.

    Attributes:
        limits, likeness: see there.
        test_faces: source -> about how many faces are held out.
        least_test: at least this many of each group x gender of a source.
        estimate: whether to estimate what is not labelled.
        refine: see `estimates.estimate`.
    """

    limits: Limits
    likeness: Likeness
    test_faces: Mapping[str, int]
    least_test: int
    estimate: bool
    refine: Mapping[str, Sequence[str]]


@dataclass
class Chosen:
    """What came of it.

    Attributes:
        candidates: all faces that were cut, those that are dropped with their reason.
        kept: those of the set, in its order: train first, then by source and file.
        copies: pairs of a copy and the face that stays.
        apparent_ages: estimated age of every candidate; empty without estimates.
        estimates: how good estimates are.
    """

    candidates: Sequence[Candidate]
    kept: list[Candidate]
    copies: list[tuple[Candidate, Candidate]]
    estimates: dict[str, float] = field(default_factory=dict)


def choose(candidates: Sequence[Candidate], kept_away: Floats, wishes: Wishes) -> Chosen:
    """Drop, cluster, split and weigh.

    Args:
        candidates: faces of all sources, in their order.
        kept_away: unit vectors [m, 192] of people who may not be in training.
        wishes: how.

    Raises:
        SourceError: nothing is left.
    """
    for candidate in candidates:
        candidate.reason = wishes.limits.reason(candidate.quality)
    figures = _leave_out_minors([c for c in candidates if not c.reason], wishes)
    good = [candidate for candidate in candidates if not candidate.reason]
    pairs = similar_pairs(
        embeddings(good),
        embeddings(good, "embeddings_mirrored"),
        min(wishes.likeness.look_alike, wishes.likeness.same_person, wishes.likeness.copy),
    )
    copies = drop_copies(good, pairs, wishes.likeness)
    for candidate, number in zip(
        good, people(len(good), pairs.rows[pairs.cosines > wishes.likeness.same_person]), strict=True
    ):
        candidate.cluster = int(number)
    split(good, wishes.test_faces, wishes.least_test)
    drop_leaks(good, pairs, wishes.likeness)
    training = [candidate for candidate in good if not candidate.reason and not candidate.test]
    for candidate, cosine in zip(training, nearest(training, kept_away), strict=True):
        if cosine > wishes.likeness.keep_away:
            candidate.reason = "looks like a person who is kept away"
    kept = sorted((candidate for candidate in good if not candidate.reason), key=lambda candidate: candidate.test)
    if not kept:
        raise SourceError(f"no usable face in it: {reasons(candidates)}")
    weigh([candidate for candidate in kept if not candidate.test])
    return Chosen(candidates, kept, copies, figures)


def reasons(candidates: Sequence[Candidate]) -> dict[str, int]:
    """How many are dropped for what."""
    names, counts = np.unique([candidate.reason for candidate in candidates if candidate.reason], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _leave_out_minors(candidates: Sequence[Candidate], wishes: Wishes) -> dict[str, float]:
    labelled = [candidate.labels.least_age for candidate in candidates]
    apparent: Floats = np.full(len(candidates), np.nan, np.float32)
    figures: dict[str, float] = {}
    if wishes.estimate and candidates:
        from model_export.preparing.estimates import estimate

        apparent, figures = estimate(candidates, wishes.refine)
    for candidate, age, looks in zip(candidates, labelled, apparent, strict=True):
        candidate.reason = wishes.limits.too_young(age, float(looks))
    return figures
