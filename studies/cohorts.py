"""Study A: does a cohort that holds nobody's photograph help as a real one does? The protocol is in README.md."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.core.normalisation import TOP, Statistics, normalise, statistics
from studies import written
from studies.figures import SEEDS, Array, Trial, draws, measure, rows_of, summary, trial
from studies.material import GALLERY, PROBES, Material, arguments, opened

WEIGHTS = (0.25, 0.5, 1.0)
SIZES = (100, 250, 500, 1000, 2000)
MAIN = 500
"""The size of the main comparison, which alone has intervals."""
KINDS = ("real", "utkface", "fairface", "redrawn", "look-alikes", "random", "random matched")


@dataclass(frozen=True)
class Seen:
    """What one recogniser makes of the material: unit vectors [n, d] by kind."""

    vectors: dict[str, Array]

    def scores(self, of: Trial) -> Array:
        """Cosines [g, q] of the reporting half."""
        found: Array = self.vectors["gallery"][of.gallery] @ self.vectors["probes"][of.probes].T
        return found


def cohort_rows(kind: str, of: Trial, model_of: Array, available: int) -> Array:
    """Rows of a kind that may be in a trial's cohort: nothing of the reporting half's people."""
    if kind in ("redrawn", "look-alikes", "gallery"):
        return rows_of(of.development, GALLERY)
    if kind == "probes":
        return rows_of(of.development, PROBES)
    if kind == "random matched":
        return np.flatnonzero(np.isin(model_of // GALLERY, of.development))
    return np.arange(available)


def cohort(kind: str, of: Trial, seen: Seen, model_of: Array) -> Array:
    """Everybody who may be in a trial's cohort [c, d]."""
    parts = ("gallery", "probes") if kind == "real" else (kind,)
    vectors = [seen.vectors[part] for part in parts]
    chosen = [own[cohort_rows(part, of, model_of, len(own))] for part, own in zip(parts, vectors, strict=True)]
    return np.concatenate(chosen)


def less_look_alikes(of: Trial, seen: Seen, weight: float) -> Array:
    """Similarity less a share of the probe's mean similarity to look-alikes of the person [g, q]."""
    mean = seen.vectors["look-alikes"].reshape(-1, GALLERY, seen.vectors["look-alikes"].shape[1]).mean(1)
    found: Array = seen.scores(of) - weight * (mean[of.first] @ seen.vectors["probes"][of.probes].T)
    return found


def normalised(of: Trial, seen: Seen, members: Array, *, adaptive: bool) -> Array:
    """S-norm or AS-norm of the reporting half's scores [g, q] by a cohort [c, d]."""
    top = min(TOP, len(members) // 2) if adaptive else None
    gallery = statistics(seen.vectors["gallery"][of.gallery] @ members.T, top)
    probes = statistics(seen.vectors["probes"][of.probes] @ members.T, top)
    rows = Statistics(gallery.mean[:, None], gallery.deviation[:, None])
    return normalise(seen.scores(of), rows, probes)


def arms(seed: int, of: Trial, seen: Seen, model_of: Array) -> Iterator[tuple[dict[str, Any], Array]]:
    """Each arm's description and its scores [g, q]."""
    yield {"arm": "nothing", "main": True}, seen.scores(of)
    for weight in WEIGHTS:
        yield {"arm": "less look-alikes", "weight": weight, "main": True}, less_look_alikes(of, seen, weight)
    for number, kind in enumerate(KINDS):
        everybody = cohort(kind, of, seen, model_of)
        order = np.random.default_rng([seed, number]).permutation(len(everybody))
        fits = [size for size in SIZES if size <= len(everybody)]
        for size in fits if len(everybody) >= MAIN else [*fits, MAIN]:
            members = everybody[order[:size]]
            for adaptive in (False, True):
                about = {"arm": "AS-norm" if adaptive else "S-norm", "cohort": kind, "size": size, "main": size == MAIN}
                yield about, normalised(of, seen, members, adaptive=adaptive)


def study(material: Material) -> list[dict[str, Any]]:
    """All arms of all recognisers, with their figures."""
    times, mined = draws(material.people), material.mined
    trials = [trial(seed, *mined, material.people) for seed in range(SEEDS)]
    found = []
    kinds = ["gallery", "probes", *(kind for kind in KINDS if kind != "real")]
    for recogniser in material.recognisers:
        seen = Seen({kind: material.embeddings(kind, recogniser) for kind in kinds})
        figures: dict[tuple[tuple[str, Any], ...], list[Array]] = {}
        for seed, of in enumerate(trials):
            for about, scores in arms(seed, of, seen, material.model_of):
                resampled = times if about["main"] else times[:1]
                figures.setdefault(tuple(about.items()), []).append(measure(of, scores, resampled))
        nothing = np.stack(figures[("arm", "nothing"), ("main", True)])
        for key, of_seeds in figures.items():
            # A cohort may be too small for a size in some of the halves: what is not of all seeds is no figure.
            if len(of_seeds) == len(trials):
                found.append({"recogniser": recogniser, **dict(key), **summary(np.stack(of_seeds), nothing)})
    return found


def main(options: list[str] | None = None) -> int:
    """Run the study and write its results; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m studies.cohorts", description=__doc__)
    arguments(parser)
    chosen = parser.parse_args(options)
    material = opened(chosen)
    found = study(material)
    written.table(chosen.out, "cohorts", found, written.about(material))
    written.cohort_figure(chosen.out / "cohorts.png", found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
