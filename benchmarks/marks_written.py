"""The figures of `benchmarks.marks` in brief, as the document about origin has them, and their way there."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from app.core.watermark import FALSE_ALARMS, PLACES, THRESHOLD
from benchmarks.attacks import AIMED, TWO, TWO_AIM
from benchmarks.documents import filled

FIGURES = Path(__file__).with_name("marks.json")
"""Figures in brief, kept with the code; what they were made of stays in benchmarks/results."""
DOCUMENT = Path(__file__).parents[1] / "docs" / "provenance.md"
BEGIN, END = "<!-- marks: begin -->\n", "<!-- marks: end -->"
AIMS = {name: aim for name, (_, aim) in AIMED.items()} | {TWO: TWO_AIM}
"""The least part that is to be read right, by what happened."""
Results = dict[str, Any]


def brief(results: Results) -> Results:
    """The figures in brief of all that was measured; each part where it was measured at all."""
    rows, scores, grid = results["drawn"], results["photographs"], results["grid"]
    said: Results = {"of": results["of"], "drawn": len(rows), "threshold": round(THRESHOLD, 2), "ms": results.get("ms")}
    counts: dict[str, list[list[float]]] = defaultdict(list)
    for row in rows:
        for name, read in row["read"].items():
            counts[name].append(read)
    said["rows"] = [
        {
            "name": name,
            "pictures": len(reads),
            "right": int(sum(right for right, _ in reads)),
            "score": round(float(np.median([score for _, score in reads])), 1),
        }
        for name, reads in counts.items()
    ]
    if rows:
        before, after = np.array([row["steps"] for row in rows]).T
        moved = np.abs([row["moved"] for row in rows])
        psnr = [row["psnr"] for row in rows]
        said["psnr"] = [min(psnr), round(float(np.median(psnr)), 2)]
        said["moved"] = _rounded(np.median(moved), np.quantile(moved, 0.95))
        said["steps"] = _rounded(before.mean(), after.mean())
        said["steps_moved"] = _spread(after / before)
    if scores:
        alarms = sum(score >= THRESHOLD for score in scores)
        said["photographs"] = {"looked_at": len(scores), "alarms": alarms, "best": max(scores)}
    if grid:
        said["grid"] = {"looked_at": len(grid), "steps_moved": _spread(np.array(grid))}
    return said


def section(said: Results) -> str:
    """The figures in brief as Markdown."""
    lines = ["| what happened | pictures | read right | score, median | aim |", "|---|---|---|---|---|"]
    for row in said["rows"]:
        aim = f">= {100 * AIMS[row['name']]:.0f} %" if row["name"] in AIMS else "-"
        right = f"{100 * row['right'] / row['pictures']:.1f} %"
        lines.append(f"| {row['name']} | {row['pictures']} | {right} | {row['score']} | {aim} |")
    lines.append("")
    if said["drawn"]:
        steps = said["steps_moved"]
        lines += [
            f"- {said['drawn']} faces that the weights {said['of'].split()[0]} drew of random identities,"
            " saved as JPEG at 95 and then changed.",
            "- PSNR to the unmarked face: least {:.2f} dB, median {:.2f} dB.".format(*said["psnr"]),
            "- Similarity moved by: median {:.4f}, 95 % of faces below {:.4f}.".format(*said["moved"]),
            "- Step ratio of columns: {:.4f} unmarked, {:.4f} marked;".format(*said["steps"])
            + " one by the other {:.4f} (median), {:.4f} to {:.4f} for 99 of 100.".format(*steps),
        ]
    if "photographs" in said:
        seen = said["photographs"]
        lines.append(
            f"- {seen['looked_at']} photographs: {seen['alarms']} false alarms at {said['threshold']:.2f}; the best"
            f" score: {seen['best']:.2f}. Modelled rate: at most {FALSE_ALARMS:.0e}"
            f" (2^32 messages at {PLACES:.0e} places)."
        )
    if "grid" in said:
        lines.append(
            f"- Step ratio of columns of {said['grid']['looked_at']} photographs, marked by unmarked: "
            + "{:.4f} (median), {:.4f} to {:.4f} for 99 of 100.".format(*said["grid"]["steps_moved"])
        )
    if said["ms"]:
        lines.append(
            "- Cost of marking: {:.3f} ms a picture at the least, {:.3f} at the median".format(*said["ms"])
            + " (CPU time, batches of 8 faces of 128 pixels)."
        )
    return "\n".join(lines) + "\n"


def written(text: str, said: Results) -> str:
    """The document with these figures instead of those that it has.

    Raises:
        ValueError: it has no place for them.
    """
    return filled(text, BEGIN, END, section(said))


def write(results: Results) -> None:
    """Put the figures beside the code and into the document."""
    said = brief(results)
    FIGURES.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8"), said), encoding="utf-8")


def _rounded(*values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]


def _spread(ratios: Any) -> list[float]:
    return _rounded(np.median(ratios), *np.quantile(ratios, [0.005, 0.995]))
