"""What could be had without controls: noise on the latent, and pixels blended with a neighbour's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from app.core.faces import Bytes, Floats
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from model_export.evaluation import likeness, realism
from model_export.evaluation.metrics import Array, as_json, ratio_of_means
from model_export.evaluation.sample import Sample, still
from model_export.evaluation.studio import Studio, Variants

MORPH_SHARE = 0.5
"""The pixel morphs of a face take shares of its neighbour that grow evenly up to this."""
MATCHED_FACES = 60
"""Faces on which the noise is made as strong as the variants are far."""


@dataclass(frozen=True)
class Baseline:
    """Look-alikes made in another way.

    Attributes:
        variants: of the first faces.
        firsts: one of each face of the wide sample [n, 128, 128, 3].
        facts: what else is to be told.
    """

    variants: Variants
    firsts: Bytes
    facts: dict[str, Any]


@lru_cache(maxsize=1)
def baselines(sample: Sample) -> dict[str, Baseline]:
    """Both of them, by name."""
    return {"latent jitter": latent_jitter(sample), "pixel morph": pixel_morph(sample)}


def _count(sample: Sample) -> int:
    return min(sample.settings.baseline_faces, sample.deep)


def latent_jitter(sample: Sample) -> Baseline:
    """Control 0 of latents with noise, as far from the source as the variants are."""
    count, each, chance = _count(sample), sample.settings.controls, sample.settings.chance
    wanted = float(np.median(sample.variants.similarity))
    few = slice(0, MATCHED_FACES)
    scale = match_jitter(sample.studio, sample.identities[few], sample.embeddings[few], wanted, chance("jitter scale"))
    noise = chance("latent jitter").standard_normal((len(sample.rows), each, IDENTITY_SIZE))
    jittered = (sample.identities[:, None] + scale * noise).astype(np.float32)
    variants = sample.decode(jittered[:count], np.zeros((count, each, CONTROL_SIZE), np.float32))
    firsts = variants.images[:, 0]
    if len(sample.rows) > count:
        rest, _ = sample.studio.decode(jittered[count:, 0], still(len(sample.rows) - count))
        firsts = np.concatenate([firsts, rest])
    return Baseline(variants, firsts, {"scale": scale})


def pixel_morph(sample: Sample) -> Baseline:
    """Photographs blended with those of the nearest other face."""
    count, each = _count(sample), sample.settings.controls
    others = nearest_others(np.asarray(sample.test.embeddings), sample.test.clusters)[sample.rows]
    neighbours = np.ascontiguousarray(sample.test.faces[others])
    shares = np.arange(1, each + 1) / each * MORPH_SHARE
    flat = morph(sample.sources[:count], neighbours[:count], shares).reshape(-1, *sample.sources.shape[1:])
    variants = sample.score(flat, sample.studio.recognise(flat), count)
    # For realism each face takes another share of its neighbour, so that all shares are there.
    firsts = [
        morph(face[None], neighbour[None], shares[[row % each]])[0, 0]
        for row, (face, neighbour) in enumerate(zip(sample.sources, neighbours, strict=True))
    ]
    return Baseline(variants, np.stack(firsts), {})


def measure(sample: Sample) -> dict[str, Any]:
    """The figures of the variants, of both baselines."""
    entry = {}
    for name, baseline in baselines(sample).items():
        spread = sample.looks.spread(baseline.variants.images)
        figures = {
            **likeness.in_band(baseline.variants, likeness.thresholds(sample), sample.intervals),
            "diversity": sample.intervals.of(ratio_of_means, spread, sample.people[: len(spread)]),
            **realism.distances(sample, baseline.firsts),
        }
        entry[name.replace(" ", "_")] = as_json(figures) | baseline.facts
    return {"baselines": entry}


def match_jitter(
    studio: Studio, identities: Floats, sources: Floats, wanted: float, chance: np.random.Generator, steps: int = 8
) -> float:
    """The scale of the noise on z at which the median similarity at c = 0 is the wanted one, by bisection."""
    noise = chance.standard_normal(identities.shape).astype(np.float32)
    controls = still(len(identities))

    def median(scale: float) -> float:
        _, embeddings = studio.decode(identities + np.float32(scale) * noise, controls)
        return float(np.median((embeddings * sources).sum(1)))

    low, high = 0.0, 4.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if median(middle) > wanted else (low, middle)
    return (low + high) / 2


def nearest_others(embeddings: Floats, clusters: Array) -> Array:
    """For each face the most similar one of another cluster, [n]."""
    similarity = embeddings @ embeddings.T
    similarity[clusters[:, None] == clusters[None, :]] = -2
    return similarity.argmax(1)


def morph(faces: Bytes, others: Bytes, shares: Array) -> Bytes:
    """Pixel blends [n, k, ...] of faces [n, ...] and others [n, ...], the others at shares [k]."""
    weight = np.asarray(shares, np.float32).reshape(1, -1, 1, 1, 1)
    blend = faces[:, None].astype(np.float32) * (1 - weight) + others[:, None].astype(np.float32) * weight
    return np.asarray(blend.round(), np.uint8)
