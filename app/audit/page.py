"""The report as one HTML file: no script, nothing loaded from anywhere, and printable."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

from PIL import Image

from app.core.faces import Bytes

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid #bbb; padding: .25rem .6rem; text-align: left; vertical-align: top; }
svg { max-width: 100%; height: auto; }
.pairs { display: flex; flex-wrap: wrap; gap: 1rem; }
.pairs figure { margin: 0; width: 17rem; break-inside: avoid; overflow-wrap: anywhere; font-size: 13px; }
.pairs img { width: 8rem; height: 8rem; }
.note { background: #f4f4f4; padding: .5rem 1rem; }
@media print { body { margin: 0; max-width: none; } section { break-inside: avoid-page; } }
"""


def page(report: dict[str, Any], plots: Sequence[tuple[str, str]], pairs: Sequence[dict[str, Any]]) -> str:
    """The whole file.

    Args:
        report: what `report.json` holds.
        plots: SVG elements, each with what it shows.
        pairs: the worst ones: `title`, `text` and two `faces`.
    """
    sections = [
        _about(report),
        _points(report),
        *(f"<section><h2>{escape(title)}</h2>{svg}</section>" for title, svg in plots),
        _bins(report),
        _groups(report),
        _cohort(report),
        _worst(pairs),
        _conclusions(report),
        _skipped(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Audit of {escape(report['recogniser'])}</title><style>{STYLE}</style></head><body>"
        f"<h1>Audit of a face recogniser</h1>{''.join(sections)}</body></html>\n"
    )


def _about(report: dict[str, Any]) -> str:
    of = report["photographs"]
    rows = [
        ("recogniser", report["recogniser"]),
        ("what it was shown", report["crop"]),
        ("photographs", f"{of['used']} of {of['people']} people used, {of['skipped']} skipped"),
        ("people with one photograph", f"{of['people_with_one']}, used for impostor pairs and look-alikes"),
        ("failures to extract", f"{of['failures_to_extract']} photographs, "
         f"{report['look_alikes']['failures']} look-alikes"),
        ("look-alikes", f"{report['look_alikes']['made']}, {report['look_alikes']['each']} of each person, drawn by "
         f"{report['model']}"),
        ("pairs", f"{report['pairs']['genuine']} genuine, {report['pairs']['impostor']} impostor"),
        ("equal error rate", _percent(report["summary"]["equal_error_rate"])),
        ("intervals", f"95 %, {report['resamples']} bootstrap draws of the people, seed {report['seed']}"),
    ]  # fmt: skip
    return "<section>" + _table((), rows) + "</section>"


def _points(report: dict[str, Any]) -> str:
    rows = []
    for point in report["operating_points"]:
        asked = f"{point['fmr_asked']:g}"
        if not point["can_be_had"]:
            rows.append((asked, point["why"], "", "", "", ""))
            continue
        let_in = point["look_alikes_let_in"]
        rows.append(
            (
                asked + (" (rough: fewer than 30 false matches)" if point["rough"] else ""),
                _figure(point["threshold"], as_share=False),
                _figure(point["fmr"]),
                _figure(point["fnmr"]),
                _figure(let_in["against_their_photograph"]),
                _figure(let_in["against_another"]),
            )
        )
    head = ("FMR asked", "threshold", "FMR", "FNMR", "look-alikes let in, against their photograph", "against another")
    return (
        "<section><h2>Operating points</h2><p>FMR: pairs of two people that match. FNMR: pairs of one person that do "
        "not. Both as in ISO/IEC 19795-1.</p>" + _table(head, rows, "points") + "</section>"
    )


def _bins(report: dict[str, Any]) -> str:
    if not report["by_similarity"]:
        return ""
    rows = [
        (
            f"{row['from']:.1f} to {row['to']:.1f}",
            _figure(row["against_their_photograph"]),
            _figure(row["against_another"]),
        )
        for row in report["by_similarity"]
    ]
    head = ("similarity, by the generator's recogniser", "let in, against their photograph", "against another")
    at = f"{report['reference_fmr']:g}"
    return f"<section><h2>Look-alikes let in at FMR {at}, by similarity</h2>{_table(head, rows, 'bins')}</section>"


def _groups(report: dict[str, Any]) -> str:
    parts = []
    for label, told in report["groups"].items():
        rows = [
            (*(row[name] for name in ("group", "people", "impostor_pairs", "genuine_pairs")),
             _figure(row["fmr"]), _figure(row["fnmr"]))
            for row in told["groups"]
        ]  # fmt: skip
        head = ("group", "people", "impostor pairs within it", "genuine pairs", "FMR", "FNMR")
        apart = ", ".join(
            f"{rate.upper()} {told['apart'][rate] if told['apart'][rate] else 'unknown: no error in a group'}"
            for rate in ("fmr", "fnmr")
        )
        parts.append(
            f"<section><h2>By {escape(label)}, at the one threshold of FMR {report['reference_fmr']:g}</h2>"
            f"{_table(head, rows)}<p>Largest over geometric mean: {escape(apart)}.</p></section>"
        )
    return "".join(parts)


def _cohort(report: dict[str, Any]) -> str:
    cohort = report["cohort"]
    if not cohort:
        return ""
    if "verdict" not in cohort:
        return f"<section><h2>Normalised by a cohort</h2><p>{escape(cohort['why'])}</p></section>"
    rows = [
        (f"FNMR at FMR {cohort['fmr']:g}", _figure(cohort["fnmr_before"]), _figure(cohort["fnmr_after"])),
        ("equal error rate", _percent(cohort["equal_error_rate_before"]), _percent(cohort["equal_error_rate_after"])),
    ]
    return (
        f"<section><h2>Normalised by a cohort</h2><p>Adaptive S-norm with {cohort['members']} members, the "
        f"{cohort['top']} most like each photograph. <strong>On these photographs the cohort "
        f"{escape(cohort['verdict'])}</strong>: FNMR changes by {_figure(cohort['difference'])}.</p>"
        f"{_table(('', 'as they are', 'normalised'), rows)}</section>"
    )


def _worst(pairs: Sequence[dict[str, Any]]) -> str:
    if not pairs:
        return ""
    figures = "".join(
        f"<figure><figcaption>{escape(pair['title'])}</figcaption>{''.join(map(_face, pair['faces']))}"
        f"<figcaption>{escape(pair['text'])}</figcaption></figure>"
        for pair in pairs
    )
    return (
        f'<section><h2>The {len(pairs)} worst pairs</h2><p class="note">These are your own photographs, cut out, '
        "the only ones in this file. Whoever has it has them; <code>--pictures 0</code> leaves them out.</p>"
        f'<div class="pairs">{figures}</div></section>'
    )


def _face(face: Bytes) -> str:
    file = io.BytesIO()
    Image.fromarray(face).save(file, "JPEG", quality=90)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _conclusions(report: dict[str, Any]) -> str:
    def listed(items: Sequence[str]) -> str:
        return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"

    told = report["conclusions"]
    return (
        f"<section><h2>What can be concluded</h2>{listed(told['can'])}</section>"
        f"<section><h2>And what cannot</h2>{listed(told['cannot'])}</section>"
    )


def _skipped(report: dict[str, Any]) -> str:
    rows = [(one["photograph"], one["reason"]) for one in report["skipped"]]
    return f"<section><h2>Skipped</h2>{_table(('photograph', 'why'), rows)}</section>" if rows else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], name: str = "") -> str:
    top = "<thead><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr></thead>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table{f' id={name}' if name else ''}>{top}<tbody>{body}</tbody></table>"


def _figure(figure: dict[str, Any] | None, as_share: bool = True) -> str:
    if figure is None:
        return "none to measure"
    show = _percent if as_share else (lambda value: "?" if value is None else f"{value:.4f}")
    low, high = figure["interval"]
    ends = f" ({show(low)} to {show(high)})" if low is not None and high is not None else ""
    return f"{show(figure['value'])}{ends}" + (f" of {figure['of']}" if "of" in figure else "")


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.3g} %"
