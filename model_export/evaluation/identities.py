"""Random identities: are they faces, and whose? Does the generator remember the faces it was trained on?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from app.core.faces import Bytes, Detector, Floats
from app.core.generate import IDENTITY_SIZE
from model_export.evaluation.likeness import thresholds
from model_export.evaluation.metrics import Array, Figure, as_json, auc
from model_export.evaluation.sample import Sample, still

DETECTED_PHOTOGRAPHS = 200
"""Photographs in which the detector is to find a face, to compare with."""


@dataclass(frozen=True)
class RandomPeople:
    """Identities drawn from the prior.

    Attributes:
        faces: [n, 128, 128, 3] at control 0.
        embeddings: [n, 192].
        nearest: [n], rows of the training faces that are most like them.
        similarity: [n], to those.
    """

    faces: Bytes
    embeddings: Floats
    nearest: Array
    similarity: Array


@lru_cache(maxsize=1)
def random_people(sample: Sample) -> RandomPeople:
    """As many as the settings ask for."""
    count = sample.settings.random
    identities = sample.settings.chance("random people").standard_normal((count, IDENTITY_SIZE)).astype(np.float32)
    faces, embeddings = sample.studio.decode(identities, still(count))
    similarity = embeddings @ np.asarray(sample.train.embeddings).T
    return RandomPeople(faces, embeddings, similarity.argmax(1), similarity.max(1))


def measure(sample: Sample) -> dict[str, Any]:
    """Random identities, and memorisation."""
    return {"random_identities": faces_of_nobody(sample), "memorisation": memorisation(sample)}


def faces_of_nobody(sample: Sample) -> dict[str, Any]:
    """Does the detector find a face, and how near is the nearest training face?"""
    people, intervals = random_people(sample), sample.intervals
    photographs = sample.sources[:DETECTED_PHOTOGRAPHS]
    of_people = (sample.embeddings @ np.asarray(sample.train.embeddings).T).max(1)
    figures = {} if sample.studio.judge is None else {"confused_by_judge": confused(sample, people.faces)}
    return as_json(
        figures
        | {
            "detected": intervals.mean(detected(sample.detector, people.faces)).with_aim(">=", 0.99),
            "detected_among_photographs": intervals.mean(detected(sample.detector, photographs)),
            "nearest_training_face": intervals.median(people.similarity),
            "nearest_training_face_of_held_out_people": intervals.median(of_people),
        }
    )


def confused(sample: Sample, faces: Bytes) -> Figure:
    """Share of pairs of random people that the independent recogniser takes for one, at its FMR of 1e-3."""
    assert sample.studio.judge is not None
    vectors, threshold = sample.studio.judge(faces), thresholds(sample).judge_threshold
    alike = np.triu(vectors @ vectors.T >= threshold, 1)
    # Of each person the share of the others that are taken for them, so that people can be resampled.
    shares = (alike | alike.T).sum(1) / max(len(faces) - 1, 1)
    return sample.intervals.mean(shares).with_aim("<=", 2e-3)


def memorisation(sample: Sample) -> dict[str, Any]:
    """Are training faces closer to what the generator draws than held-out ones? (GAN-Leaks, Chen et al. 2020)."""
    generated = random_people(sample).embeddings
    count = min(len(sample.test), len(sample.train))
    order = sample.settings.chance("memorisation").permutation(len(sample.train))[:count]
    chosen = np.sort(order)
    train = 1 - (np.asarray(sample.train.embeddings)[chosen] @ generated.T).max(1)
    test = 1 - (np.asarray(sample.test.embeddings)[:count] @ generated.T).max(1)
    figure = sample.intervals.of(auc, train, test, cost=3)

    few = np.sort(order[: sample.deep])  # of all sources, which stand one after the other
    faces = np.ascontiguousarray(sample.train.faces[few])
    _, embeddings = sample.studio.decode(sample.studio.encode(faces), still(len(few)))
    known = (embeddings * np.asarray(sample.train.embeddings)[few]).sum(1)
    unknown = sample.redrawn.similarity[: len(known)]
    both = min(len(known), len(unknown))
    return {
        "auc": figure.as_json() | {"aim": "0.5 +- 0.03", "met": abs(figure.value - 0.5) <= 0.03},
        "auc_of_reconstruction": sample.intervals.of(auc, unknown[:both], known[:both], cost=3).as_json(),
    }


def detected(detector: Detector, faces: Bytes) -> Array:
    """Whether the detector finds a face in each of faces [n, 128, 128, 3]."""
    return np.array([bool(detector(Image.fromarray(face))) for face in faces])
