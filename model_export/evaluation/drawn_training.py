"""Does training on drawn people teach anything about real ones? One of two figures that steer the generator.

A linear probe: features of a network that knows pictures but no faces (EfficientNet-Lite0, ImageNet), and on them a
linear discriminant (Fisher 1936, covariance shrunk after Ledoit & Wolf 2004) that was fitted to tell random identities
apart, each drawn under controls of its own. Tested on real people: how often a pair of photographs of one person scores
above a pair of that person and another. The discriminant alone has learned from drawings, so what it adds is theirs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # type: ignore[import-untyped]

from app.core.generate import IDENTITY_SIZE, uniform_controls
from model_export.evaluation.metrics import Array, as_json
from model_export.evaluation.sample import Sample

TAKES = 4
"""Pictures of each drawn person."""
DIRECTIONS = 64


def measure(sample: Sample) -> dict[str, Any]:
    """Accuracy on real people with and without what the drawn ones taught; nothing without real people."""
    if sample.strangers is None:
        return {}
    random, count = sample.settings.chance("drawn training"), sample.settings.random
    identities = random.standard_normal((count, IDENTITY_SIZE)).astype(np.float32)
    faces, _ = sample.studio.decode(np.repeat(identities, TAKES, 0), uniform_controls(random, count * TAKES))
    taught, _ = sample.looks.describe(faces)
    tested, _ = sample.looks.describe(sample.strangers.faces)
    probe = fitted(taught, np.repeat(np.arange(count), TAKES))
    each = sample.settings.each
    figures = {
        "accuracy": sample.intervals.mean(accuracies(probe.transform(tested), each)),
        "accuracy_untaught": sample.intervals.mean(accuracies(tested - taught.mean(0), each)),
    }
    return {"drawn_training": as_json(figures)}


def fitted(features: Array, people: Array) -> LinearDiscriminantAnalysis:
    """The discriminant of features [n, d] of people [n]."""
    directions = min(DIRECTIONS, features.shape[1], len(np.unique(people)) - 1)
    probe = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto", n_components=directions)
    return probe.fit(features.astype(np.float64), people)


def accuracies(features: Array, each: int) -> Array:
    """Of each person [p] the share of (own pair, pair with another) in which the own pair is more alike.

    Args:
        features: [p * each, d], a person's one after another.
        each: photographs of a person.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
    people, (first, second) = len(unit) // each, np.triu_indices(each, 1)
    scores = (unit @ unit.T).reshape(people, each, people, each)
    found = []
    for person in range(people):
        own = scores[person, :, person][first, second]
        others = np.sort(np.delete(scores[person], person, axis=1), axis=None)
        below = np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")
        found.append(float(below.mean() / 2 / len(others)))
    return np.array(found)
