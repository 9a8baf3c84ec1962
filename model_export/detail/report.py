"""The table of the detail stage in `MODEL_CARD.md`, between markers of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from model_export.evaluation.report import reached, table, write, written

BEGIN, END = "<!-- detail: begin -->", "<!-- detail: end -->"

PAIRS = (
    ("texture", "columns", "steps at odd columns over even ones"),
    ("texture", "rows", "the same of rows"),
    ("texture", "column_standing_out", "largest step at a column, over its neighbours'"),
    ("texture", "row_standing_out", "the same of rows"),
    ("pattern_left", None, "pattern that all faces share, levels of 255"),
    ("finest_octave_db", None, "power of the finest octave, dB"),
    ("kernel_over_floor", None, "kernel distance of eyes, nose and mouth / floor"),
    ("photographs_enlarged_psnr", None, "photographs halved and enlarged again: PSNR, dB"),
)
"""Figures that both ways of enlarging have."""


def write_card(path: Path, facts: dict[str, Any]) -> None:
    """Put the table between the markers of a card.

    Raises:
        ValueError: the card lacks the markers.
    """
    write(path, text(facts), BEGIN, END)


def text(facts: dict[str, Any]) -> str:
    """What `measure` found, as Markdown."""
    rows = []
    for name, words in (
        ("similarity_moved", "similarity to the photograph moves by, median"),
        ("similarity_lost", "similarity lost, mean"),
    ):
        rows.append((words, written(facts[name]), "0", "", facts[name].get("aim", ""), reached(facts[name])))
    for group, key, words in PAIRS:
        found = {kind: entry[key] if key else entry for kind, entry in facts[group].items()}
        cells = [_told(found[kind]) if kind in found else "" for kind in ("detail", "bicubic", "photographs")]
        rows.append((words, *cells, found["detail"].get("aim", ""), reached(found["detail"])))
    said = (
        f"Drawings of {facts['faces']} held-out faces, a redrawing and a variant each, and {facts['photographs']} "
        "held-out photographs at 256 pixels. Brackets hold 95 % bootstrap intervals over faces."
    )
    head = ("metric", "detail stage", "bicubic enlargement", "photographs", "aim", "reached")
    return f"{said}\n\n{table(head, rows)}\n"


def _told(entry: dict[str, Any]) -> str:
    return written(entry) if "interval" in entry else f"{entry['value']:.2f}"
