"""Pictures of an evaluation, for human eyes. They show people: they belong into the output folder and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.faces import Bytes
from model_export.contact_sheet import save_contact_sheet
from model_export.evaluation import metrics
from model_export.evaluation.baselines import baselines
from model_export.evaluation.controls import walk
from model_export.evaluation.effects import Effects
from model_export.evaluation.fairness import in_band_by_face
from model_export.evaluation.identities import random_people
from model_export.evaluation.likeness import thresholds
from model_export.evaluation.sample import Sample
from model_export.evaluation.studio import Variants

Array = NDArray[Any]


def draw(sample: Sample, result: dict[str, Any], out: Path) -> None:
    """Write plots and sheets of an evaluation into a folder. They show held-out and training faces."""
    names = [control["name"] for control in result["controls"]]
    impostors, mask = metrics.impostor_similarities(sample.embeddings, sample.test.clusters[sample.rows])
    plot_similarities(
        out / "similarities.png",
        impostors[mask],
        sample.variants.similarity,
        sample.redrawn.similarity,
        {name: baseline.variants.similarity for name, baseline in baselines(sample).items()},
        np.array(thresholds(sample).band),
    )
    walked = walk(sample)
    plot_responses(out / "responses.png", walked.effects, names)
    groups = result["metrics"]["fairness"]["groups"]
    plot_fairness(out / "fairness.png", groups, float(in_band_by_face(sample).mean()))
    for index, sweeps in enumerate(walked.grid[:3]):
        save_sweeps(out / f"sweeps_{index + 1}.webp", sweeps, walked.positions, names)
    _draw_redrawn(sample, out)
    _draw_variants(sample, out)
    _draw_random_people(sample, out)


def _draw_redrawn(sample: Sample, out: Path) -> None:
    rows, redrawn = range(min(48, sample.deep)), sample.redrawn
    pairs = [face for row in rows for face in (sample.sources[row], redrawn.images[row])]
    captions = [text for row in rows for text in ("source", f"{redrawn.similarity[row]:.2f}")]
    save_contact_sheet(out / "reconstructions.webp", pairs, captions, columns=12)


def _draw_variants(sample: Sample, out: Path) -> None:
    low, high = thresholds(sample).band
    similarity, redrawn = sample.variants.similarity, sample.redrawn
    outside = np.maximum(low - similarity, similarity - high).clip(0).mean(1)
    order = np.argsort(outside - 0.1 * redrawn.similarity[: sample.deep], kind="stable")
    chosen = {"variants": np.arange(min(10, sample.deep)), "best": order[:10], "worst": order[::-1][:10]}
    for name, rows in chosen.items():
        save_cases(out / f"{name}.webp", sample.sources, redrawn.images, redrawn.similarity, sample.variants, rows)


def _draw_random_people(sample: Sample, out: Path) -> None:
    people = random_people(sample)
    some = people.faces[:60]
    save_contact_sheet(out / "random_identities.webp", list(some), [""] * len(some))
    closest = np.argsort(-people.similarity)[:24]
    pairs = [face for row in closest for face in (people.faces[row], sample.train.faces[people.nearest[row]])]
    save_contact_sheet(
        out / "nearest_training_faces.webp",
        [np.asarray(face) for face in pairs],
        [text for row in closest for text in ("random", f"training {people.similarity[row]:.2f}")],
    )


def save_rows(path: Path, rows: Sequence[Sequence[Bytes]], captions: Sequence[Sequence[str]]) -> None:
    """Write rows of pictures, all of one length, each picture with a caption."""
    if rows:
        flat = [face for row in rows for face in row]
        save_contact_sheet(path, flat, [text for row in captions for text in row], columns=len(rows[0]))


def save_cases(
    path: Path,
    sources: Bytes,
    reconstructions: Bytes,
    similarity: Array,
    variants: Variants,
    rows: Array,
    count: int = 8,
) -> None:
    """Source, reconstruction and variants of the chosen faces, with the recogniser's similarity."""
    count = min(count, variants.images.shape[1])
    pictures = [[sources[row], reconstructions[row], *variants.images[row, :count]] for row in rows]
    captions = [
        ["source", f"c = 0: {similarity[row]:.2f}", *(f"{value:.2f}" for value in variants.similarity[row, :count])]
        for row in rows
    ]
    save_rows(path, pictures, captions)


def save_sweeps(path: Path, sweeps: Bytes, positions: Array, names: Sequence[str]) -> None:
    """One row a control: sweeps [controls, steps, 128, 128, 3] of one face."""
    captions = [
        [name[:20] if step == 0 else f"{position:+.2f}" for step, position in enumerate(positions)] for name in names
    ]
    save_rows(path, list(sweeps), captions)


def plot_similarities(
    path: Path, impostors: Array, variants: Array, reconstructions: Array, baselines: dict[str, Array], band: Array
) -> None:
    """Distributions of similarity of impostors, variants, reconstructions and baselines, with the band shaded."""
    axes, save = _figure(path, "similarity to the source")
    edges = np.linspace(-0.3, 1, 66)
    everything = {"impostors": impostors, "variants": variants, "reconstructions": reconstructions, **baselines}
    for name, values in everything.items():
        axes.hist(values.ravel(), edges, density=True, histtype="step", label=name)
    axes.axvspan(*band, alpha=0.15, color="green", label="look-alike band")
    axes.set_ylabel("density")
    axes.legend()
    save()


def plot_responses(path: Path, found: Effects, names: Sequence[str]) -> None:
    """Controls x measurements: effects in standard deviations."""
    axes, save = _figure(path, "", size=(12, 5))
    limit = max(1.0, float(np.abs(found.size).max()))
    picture = axes.imshow(found.size, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(len(found.measurements)), [item.name for item in found.measurements], rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), [f"{index + 1} {name}" for index, name in enumerate(names)], fontsize=7)
    axes.figure.colorbar(picture, label="effect from -1 to 1, standard deviations over people")
    save()


def plot_fairness(path: Path, rows: dict[str, dict[str, Any]], overall: float) -> None:
    """In-band rate of each group x gender with its interval."""
    axes, save = _figure(path, "in-band rate", size=(7, 5))
    names = list(rows)
    figures = [rows[name]["in_band"] for name in names]
    for place, figure in enumerate(figures):
        low, high = figure["interval"]
        if low is not None:
            axes.plot([low, high], [place, place], color="tab:blue")
        axes.plot(figure["value"], place, "o", color="tab:blue")
    axes.axvline(overall, color="grey", linestyle="--")
    axes.set_yticks(range(len(names)), [f"{name} ({rows[name]['faces']})" for name in names])
    axes.set_xlim(0, 1)
    save()


def _figure(path: Path, label: str, size: tuple[float, float] = (8, 5)) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xlabel(label)

    def save() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100)

    return axes, save
