"""Study D: a classifier of pairs that learned from drawings alone, on real people who look alike. See README.md."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from sklearn.model_selection import GridSearchCV, GroupKFold  # type: ignore[import-untyped]
from sklearn.pipeline import Pipeline, make_pipeline  # type: ignore[import-untyped]
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from studies import written
from studies.figures import SEEDS, Array, Trial, draws, measure, rows_of, summary, trial
from studies.material import GALLERY, PROBES, Material, arguments, opened

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Values of C, the inverse of the penalty, that are tried on the training pairs."""


def features(first: Array, second: Array) -> Array:
    """Pairs of unit vectors [n, d] -> [n, d + 1]: product of each entry, and the cosine. Either may come first."""
    products = first * second
    return np.concatenate([products, products.sum(1, keepdims=True)], axis=1)


def drawn_pairs(people: Array, redrawn: Array, look_alikes: Array) -> tuple[Array, Array, Array]:
    """Pairs with drawings on both sides, whether genuine or not, and of whom.

    Args:
        people: numbers [p].
        redrawn, look_alikes: unit vectors of the gallery, two photographs a person [p_all * 2, d].
    """
    rows = people * GALLERY
    genuine = features(redrawn[rows], redrawn[rows + 1])
    # One of either photograph, so that the two classes see the same photographs on both sides.
    others = [features(redrawn[rows], look_alikes[rows + 1]), features(redrawn[rows + 1], look_alikes[rows])]
    found = np.concatenate([genuine, *others])
    return found, np.repeat([True, False, False], len(people)), np.tile(people, 3)


def real_pairs(people: Array, gallery: Array, probes: Array, *, mined: bool, seed: int) -> tuple[Array, Array, Array]:
    """Pairs of photographs: all genuine ones, and as many of two people, mined or random."""
    rows, columns = rows_of(people, GALLERY), rows_of(people, PROBES)
    first, second = rows // GALLERY, columns // PROBES
    same = first[:, None] == second
    of_one, of_two = np.argwhere(same), np.argwhere(~same)
    if mined:
        alike = (gallery[rows] @ probes[columns].T)[tuple(of_two.T)]
        chosen = of_two[np.argsort(-alike, kind="stable")[: len(of_one)]]
    else:
        chosen = of_two[np.random.default_rng([seed, 11]).permutation(len(of_two))[: len(of_one)]]
    pairs = np.concatenate([of_one, chosen])
    found = features(gallery[rows[pairs[:, 0]]], probes[columns[pairs[:, 1]]])
    return found, np.repeat([True, False], len(of_one)), first[pairs[:, 0]]


def fitted(pairs: Array, genuine: Array, people: Array) -> Pipeline:
    """Logistic regression whose penalty is chosen by cross-validation over people."""
    plain = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
    search = GridSearchCV(plain, {"logisticregression__C": STRENGTHS}, cv=GroupKFold(5), scoring="roc_auc", refit=True)
    best: Pipeline = search.fit(pairs, genuine, groups=people).best_estimator_
    return best


def log_odds(net: Pipeline, gallery: Array, probes: Array) -> Array:
    """The classifier's log-odds of all pairs [g, q], a gallery photograph at a time."""
    return np.stack([net.decision_function(features(np.broadcast_to(one, probes.shape), probes)) for one in gallery])


def added(of: Trial, net: Pipeline, gallery: Array, probes: Array) -> Array:
    """Cosine and log-odds of the reporting half [g, q], each in deviations of the development half's, added."""
    rows, columns = rows_of(of.development, GALLERY), rows_of(of.development, PROBES)
    here, there = (gallery[of.gallery], probes[of.probes]), (gallery[rows], probes[columns])
    total = np.zeros((len(of.gallery), len(of.probes)))
    for scores, scale in (
        (here[0] @ here[1].T, there[0] @ there[1].T),
        (log_odds(net, *here), log_odds(net, *there)),
    ):
        total += (scores - scale.mean()) / scale.std()
    return total


def arms(seed: int, of: Trial, vectors: dict[str, Array]) -> Iterator[tuple[str, Array]]:
    """Each arm's name and its scores [g, q]."""
    gallery, probes, half = vectors["gallery"], vectors["probes"], of.development
    yield "nothing", gallery[of.gallery] @ probes[of.probes].T
    training = {
        "drawn": drawn_pairs(half, vectors["redrawn"], vectors["look-alikes"]),
        "real mined": real_pairs(half, gallery, probes, mined=True, seed=seed),
        "real random": real_pairs(half, gallery, probes, mined=False, seed=seed),
    }
    for name, pairs in training.items():
        yield name, added(of, fitted(*pairs), gallery, probes)


def study(material: Material) -> list[dict[str, Any]]:
    """All arms of all recognisers, with their figures."""
    times, mined = draws(material.people), material.mined
    trials = [trial(seed, *mined, material.people) for seed in range(SEEDS)]
    found = []
    for recogniser in material.recognisers:
        kinds = ("gallery", "probes", "redrawn", "look-alikes")
        vectors = {kind: material.embeddings(kind, recogniser) for kind in kinds}
        figures: dict[str, list[Array]] = {}
        for seed, of in enumerate(trials):
            for name, scores in arms(seed, of, vectors):
                figures.setdefault(name, []).append(measure(of, scores, times))
        nothing = np.stack(figures["nothing"])
        for name, of_seeds in figures.items():
            found.append({"recogniser": recogniser, "arm": name, **summary(np.stack(of_seeds), nothing)})
    return found


def main(options: list[str] | None = None) -> int:
    """Run the study and write its results; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m studies.doppelgaenger", description=__doc__)
    arguments(parser)
    chosen = parser.parse_args(options)
    material = opened(chosen)
    written.table(chosen.out, "doppelgaenger", study(material), written.about(material))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
