"""Do people who do not exist serve as the cohort that normalises a recogniser's scores? One of two figures that steer.

Scores of the independent recogniser on real people, one half of whom lend the real cohort, the other half are scored.
How many of the hard impostors are let in where 5 % of the genuine pairs are refused, before and after AS-norm
(`app/core/normalisation.py`). Hard are those pairs that the service's recogniser finds most alike. A gain of 0.2 is a
fifth less. The study behind it, on more cohorts and with a miner that took no part, is `studies/cohorts.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from app.core.normalisation import TOP, Statistics, normalise, statistics
from model_export.evaluation.identities import random_people
from model_export.evaluation.metrics import Array, as_json
from model_export.evaluation.sample import Sample

HARD = 0.01
FNMR = 0.05


def measure(sample: Sample) -> dict[str, Any]:
    """Gains of two cohorts of one size; nothing without people or without an independent recogniser."""
    if sample.strangers is None or sample.studio.judge is None:
        return {}
    faces, each = sample.strangers.faces, sample.settings.each
    people = len(faces) // each
    order = sample.settings.chance("cohort gain").permutation(people)
    lending, scored = order[: people // 2], order[people // 2 :]
    by_person = faces.reshape(people, each, *faces.shape[1:])
    vectors = sample.studio.judge_faces(faces)
    drawn = sample.studio.judge_faces(random_people(sample).faces)
    assert vectors is not None
    assert drawn is not None
    vectors = vectors.reshape(people, each, -1)
    own = sample.studio.recognise(by_person[scored].reshape(-1, *faces.shape[1:])).reshape(len(scored), each, -1)
    real = vectors[lending].reshape(-1, vectors.shape[2])
    size = min(len(real), len(drawn))
    hard = hardest(similarities(own))
    before = similarities(vectors[scored])
    figures = {
        name: sample.intervals.of(
            gain, *split(before, hard), *split(normalised(vectors[scored], cohort[:size]), hard), cost=3
        )
        for name, cohort in (("random_identities", drawn), ("real_people", real))
    }
    let_in = sample.intervals.of(rate, *split(before, hard), cost=3)
    return {"cohort_gain": as_json({**figures, "let_in_without": let_in})}


def similarities(vectors: Array) -> Array:
    """Cosines of people's photographs [p, k, d]: gallery (the first half of each) against probes, [p, g, p, q]."""
    middle = vectors.shape[1] // 2
    found: Array = np.einsum("agd,bqd->agbq", vectors[:, :middle], vectors[:, middle:])
    return found


def normalised(vectors: Array, cohort: Array) -> Array:
    """The same after AS-norm by a cohort [c, d]."""
    people, each, size = vectors.shape
    middle = each // 2
    scores = similarities(vectors)
    against = (vectors.reshape(-1, size) @ cohort.T).reshape(people, each, -1)
    gallery, probes = (side.reshape(-1, len(cohort)) for side in (against[:, :middle], against[:, middle:]))
    top = min(TOP, len(cohort) // 2)
    one, other = (statistics(side, top) for side in (gallery, probes))
    flat = scores.reshape(len(gallery), len(probes))
    rows = Statistics(one.mean[:, None], one.deviation[:, None])
    return normalise(flat, rows, other).reshape(scores.shape)


def hardest(scores: Array) -> Array:
    """The `HARD` share of pairs of two people that score highest, as a mask [p, g, p, q]."""
    others = np.where(_genuine(scores), -np.inf, scores)
    count = max(1, int(HARD * np.isfinite(others).sum()))
    mask = np.zeros(scores.shape, bool)
    mask.ravel()[np.argsort(-others, axis=None, kind="stable")[:count]] = True
    return mask


def split(scores: Array, hard: Array) -> tuple[Array, Array]:
    """Genuine scores [p, g * q] of each person, and those of hard pairs [p, n], nan for the others."""
    people = len(scores)
    genuine = scores[np.arange(people), :, np.arange(people)].reshape(people, -1)
    return genuine, np.where(hard, scores, np.nan).reshape(people, -1)


def rate(genuine: Array, hard: Array) -> float:
    """Share of hard pairs let in at the threshold that refuses the share `FNMR` of genuine ones."""
    ordered = np.sort(genuine, axis=None)
    known = hard[np.isfinite(hard)]
    return float((known >= ordered[int(FNMR * len(ordered))]).mean()) if len(known) else float("nan")


def gain(genuine: Array, hard: Array, genuine_after: Array, hard_after: Array) -> float:
    """By how much of itself the rate falls; nan where nothing was let in before."""
    before = rate(genuine, hard)
    return 1 - rate(genuine_after, hard_after) / before if before > 0 else float("nan")


def _genuine(scores: Array) -> Array:
    people = np.arange(len(scores))
    return np.broadcast_to((people[:, None] == people)[:, None, :, None], scores.shape)
