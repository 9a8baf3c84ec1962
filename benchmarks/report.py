"""From `benchmarks/results/speed.json` to the tables of README.md and docs/speed.md and the plots beside it.

`python -m benchmarks.report` writes them anew; no figure of theirs is typed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare import BESIDE, IMAGES, SERVICE
from benchmarks.documents import filled

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
README, SPEED, PLOT = ROOT / "README.md", ROOT / "docs" / "speed.md", "speed-growth.png"

TITLES = {
    SERVICE: "**this service**",
    "raw": "the networks alone, in a loop a core, no HTTP",
    "litserve": "LitServe",
    "bentoml": "BentoML",
    "ray": "Ray Serve (HAProxy)",
    "mlserver": "MLServer",
}
Report = dict[str, Any]


def blocks(report: Report) -> dict[str, str]:
    """The generated blocks by their names."""
    return {"speed": _table(report), "speed-spread": _spread(report), "speed-growth": _growth(report)}


def fill(text: str, made: dict[str, str]) -> str:
    """A document with what stands between the marks of its blocks written anew."""
    for name, block in made.items():
        begin, end = f"<!-- benchmark: {name} -->\n", f"<!-- end of {name} -->"
        if begin in text:  # the README has one of them only
            text = filled(text, begin, end, f"{block}\n")
    return text


def write(report: Report) -> None:
    """Fill the documents, and draw the plots."""
    made = blocks(report)
    for path in (README, SPEED):
        path.write_text(fill(path.read_text(encoding="utf-8"), made), encoding="utf-8")
    if report.get("growth"):
        draw(report, SPEED.parent / PLOT)


def _table(report: Report) -> str:
    """One row a system, medians of the rounds."""
    rows = {(row["name"], row["graphs"]): row for row in report["systems"]}
    limit = rows["raw", "same"]["cells"]
    clients = list(rows[SERVICE, "same"]["cells"])
    at = str(BESIDE) if str(BESIDE) in clients else clients[-1]
    head = ["", *(f"{count} client{'s' * (count != '1')}" for count in clients), "of the networks alone"]
    head += ["median, 99th percentile", "CPU-s for 1,000", "MiB", "ready", "graphs as exported"]
    lines = [_said(report, at), "", _line(head), _line(["---"] * len(head))]
    for (name, graphs), row in rows.items():
        if graphs != "same":
            continue
        cells, here = row["cells"], row["cells"][at]
        known = report["machine"]["versions"].get(name, "")
        exported = rows.get((name, "exported"))
        share = [f"{_rate(cells[count]) / _rate(limit[count]):.2f}" for count in clients]
        lines.append(
            _line(
                [
                    f"{TITLES.get(name, name)} {known}".strip(),
                    *(f"{_rate(cells[count]):.0f}" for count in clients),
                    "1" if name == "raw" else ", ".join(share),
                    f"{here['p50_ms']:.0f}, {here['p99_ms']:.0f} ms" if "p50_ms" in here else "-",
                    f"{median(here['cpu_seconds_per_1000']):.1f}" if "cpu_seconds_per_1000" in here else "-",
                    f"{row['mib']:.0f}" if "mib" in row else "-",
                    f"{row['ready_s']:.1f} s" if "ready_s" in row else "-",
                    f"{_rate(exported['cells'][at]):.0f}" if exported and at in exported["cells"] else "-",
                ]
            )
        )
    lines += [_line([f"{name}: {why}", *["-"] * (len(head) - 1)]) for name, why in report["not_had"].items()]
    return "\n".join(lines)


def _said(report: Report, at: str) -> str:
    there = report["machine"]
    return (
        f"Pictures a second, {IMAGES} a request, of a 512x512 photograph: medians of {report['repeats']} rounds that "
        f"took turns, {report['when'][:10]}, weights {there['weights']},\n"
        f"{there['cores']} cores of an {there['cpu']}, ONNX Runtime {there['onnxruntime']}, Python {there['python']}. "
        "Every server has the same graphs and does the same\n"
        f"work; the last column has the graphs as they were exported. Latency, CPU time, that column: {at} clients."
    )


def _spread(report: Report) -> str:
    """Every cell with its spread."""
    head = [
        "",
        "graphs",
        "clients",
        "pictures a second (least to most)",
        "median ms",
        "99th percentile ms",
        "CPU-s for 1,000",
    ]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in report["systems"]:
        for count, cell in row["cells"].items():
            rates, cpu = cell["pictures_per_second"], cell.get("cpu_seconds_per_1000")
            lines.append(
                _line(
                    [
                        TITLES.get(row["name"], row["name"]).strip("*"),
                        {"same": "as served", "exported": "as exported"}[row["graphs"]],
                        count,
                        f"{median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})",
                        f"{cell['p50_ms']:.0f}" if "p50_ms" in cell else "-",
                        f"{cell['p99_ms']:.0f}" if "p99_ms" in cell else "-",
                        f"{median(cpu):.1f}" if cpu else "-",
                    ]
                )
            )
    return "\n".join(lines)


def _growth(report: Report) -> str:
    growth = report.get("growth") or {}
    parts = []
    for name, columns in GROWTH.items():
        rows = [row for row in growth.get(name, []) if all(key in row for key in columns)]
        if rows:
            head = [_line(list(columns.values())), _line(["---"] * len(columns))]
            parts.append("\n".join([*head, *(_line([f"{row[key]:g}" for key in columns]) for row in rows)]))
    parts += [
        "\n".join(
            [_line(["augment", "pictures a second", "both cores busy"]), _line(["---"] * 3), *_augment_rows(growth)]
        )
    ]
    return "\n\n".join(parts)


def _augment_rows(growth: dict[str, Any]) -> list[str]:
    return [
        _line(
            [
                f"on {row['cores']} core{'s' * (row['cores'] > 1)}"
                if "cores" in row
                else f"on Ray, {row['replicas']} replica{'s' * (row['replicas'] > 1)}",
                f"{row['pictures_per_second']:.1f}",
                f"{row['utilisation']:.0%}",
            ]
        )
        for row in growth.get("augment", [])
    ]


COST = {"pictures_per_second": "pictures a second", "p50_ms": "median ms", "cpu_ms_per_request": "CPU-ms a request"}
GROWTH = {
    "variants": {"variants": "variants a request", "clients": "clients"} | COST | {"utilisation": "of all cores"},
    "clients": {"clients": "clients, one picture a request"}
    | COST
    | {"p99_ms": "99th percentile ms", "mib": "most MiB"},
    "megapixels": {"megapixels": "megapixels, one client"} | COST,
}
"""What the tables of growth show of each row, and how it is called."""


def draw(report: Report, path: Path) -> None:
    """The plots of growth as one picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    growth = report["growth"]
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.6), layout="constrained")
    panels: Sequence[tuple[str, str, str, str, str]] = (
        ("variants", "variants", "pictures_per_second", "variants a request", "pictures a second"),
        ("clients", "clients", "pictures_per_second", "clients, one picture a request", "pictures a second"),
        ("megapixels", "megapixels", "p50_ms", "megapixels of the photograph, one client", "median ms"),
        ("clients", "clients", "mib", "requests that wait", "most MiB"),
    )
    for axis, (name, x, y, below, beside) in zip(axes.flat, panels, strict=False):
        rows = growth[name]
        axis.plot([row[x] for row in rows], [row[y] for row in rows], "o-")
        axis.set_xscale("log", base=10 if name == "megapixels" else 2)
        axis.set_xticks([row[x] for row in rows], [f"{row[x]:g}" for row in rows])
        axis.minorticks_off()
        axis.set(xlabel=below, ylabel=beside, ylim=(0, None))
    for axis, key, below in zip(axes.flat[4:], ("cores", "replicas"), ("cores", "replicas on Ray"), strict=True):
        rows = [row for row in growth["augment"] if key in row]
        axis.bar([f"{row[key]:g}" for row in rows], [row["pictures_per_second"] for row in rows])
        axis.set(xlabel=f"augment: {below}", ylabel="pictures a second")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    there = report["machine"]
    figure.suptitle(f"{report['when'][:10]}, weights {there['weights']}, {there['cores']} cores of an {there['cpu']}")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _rate(cell: dict[str, Any]) -> float:
    return float(median(cell["pictures_per_second"]))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def read() -> Report:
    """The results that are committed."""
    found: Report = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    write(read())
