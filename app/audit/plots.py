"""The plots of a report, as SVG that stands in its page. Matplotlib is an extra, and imported only here."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.audit.figures import Scored
from app.audit.rates import det_curve

TICKS = (1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5)
POINTS = 400
"""Of a curve that are drawn: the eye sees no more."""
COLOURS = {"genuine": "#0072b2", "impostor": "#444444", "source": "#d55e00", "other": "#cc79a7"}
"""Of Okabe and Ito, which people with any colour vision tell apart."""
AXES = (0.11, 0.12, 0.87, 0.85)
"""Left, bottom, width and height, in shares of the figure: to have Matplotlib find them draws everything twice."""


def det(scored: Scored) -> str:
    """FNMR over FMR on normal deviates, for impostors as they are and for look-alikes in their place."""

    def draw(axes: Axes) -> None:
        lowest = 0.5 / max(len(scored.impostor), 2)
        for pairs, name, label in (
            (scored.impostor, "impostor", "without look-alikes: other people"),
            (scored.other, "other", "with: look-alikes, against another photograph"),
            (scored.source, "source", "with: look-alikes, against their photograph"),
        ):
            if not len(pairs):
                continue
            fmr, fnmr, _ = det_curve(scored.genuine.scores, pairs.scores)
            shown = np.unique(np.linspace(0, len(fmr) - 1, 20 * POINTS).astype(int))
            x, y = (_deviates(np.clip(rates[shown], lowest, 0.99)) for rates in (fmr, fnmr))
            kept = np.flatnonzero(np.append(True, (np.abs(np.diff(x)) > 2e-3) | (np.abs(np.diff(y)) > 2e-3)))
            axes.plot(x[kept], y[kept], color=COLOURS[name], label=label)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(list(_deviates(np.array(TICKS))), [f"{tick:g}" for tick in TICKS])
        axes.set(xlim=_deviates(np.array([lowest, 0.9])), ylim=_deviates(np.array([1e-3, 0.95])))
        axes.set(xlabel="share of impostors, or of look-alikes, that match", ylabel="FNMR")
        axes.legend(fontsize=8)

    return _svg(draw, "DET curve")


def _deviates(rates: Any) -> Any:
    return np.array([NormalDist().inv_cdf(float(rate)) for rate in rates])


def histograms(scored: Scored, thresholds: Sequence[float]) -> str:
    """How scores of each kind of pair are distributed, and where thresholds lie."""

    def draw(axes: Axes) -> None:
        kinds = [
            (scored.impostor, "impostor", "two people"),
            (scored.genuine, "genuine", "one person"),
            (scored.source, "source", "look-alikes and their photograph"),
            (scored.other, "other", "look-alikes and another photograph"),
        ]
        every = np.concatenate([pairs.scores for pairs, _, _ in kinds])
        edges = np.linspace(float(np.quantile(every, 0.0001)), float(every.max()), 61)
        for pairs, name, label in kinds:
            if len(pairs):
                share = np.histogram(pairs.scores, edges)[0] / len(pairs)
                axes.stairs(share, edges, color=COLOURS[name], label=label)
        for threshold in thresholds:
            axes.axvline(threshold, color="#999999", linewidth=0.8, linestyle=":")
        axes.set(xlabel="score (dotted: thresholds)", ylabel="share of pairs")
        axes.legend(fontsize=8)

    return _svg(draw, "Histograms of scores")


def let_in(bins: Sequence[dict[str, Any]]) -> str:
    """The share of look-alikes let in over the generator's similarity, with intervals."""

    def draw(axes: Axes) -> None:
        for name, colour, label in (
            ("against_their_photograph", "source", "against their photograph"),
            ("against_another", "other", "against another photograph"),
        ):
            rows = [(row["from"] + 0.05, row[name]) for row in bins if row[name]]
            if not rows:
                continue
            x = [middle for middle, _ in rows]
            y = np.array([share["value"] for _, share in rows])
            ends = np.array([[np.nan if end is None else end for end in share["interval"]] for _, share in rows])
            errors = np.nan_to_num(np.abs(ends.T - y))
            axes.errorbar(x, y, errors, color=COLOURS[colour], marker="o", markersize=4, capsize=2, label=label)
        axes.set(xlabel="similarity to the photograph, by the generator's recogniser", ylabel="share let in")
        axes.set_ylim(-0.02, 1.02)
        axes.legend(fontsize=8)

    return _svg(draw, "Look-alikes let in")


def _svg(draw: Callable[[Axes], None], title: str) -> str:
    # Text stays text, so that it can be searched and read aloud; ids are the same in every run.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 9}):
        figure = Figure(figsize=(6.4, 4.2))
        axes = figure.add_axes(AXES)
        axes.grid(alpha=0.25)
        draw(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Title": title, "Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
