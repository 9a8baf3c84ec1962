"""What a study leaves behind: JSON with everything, a table in CSV, a figure."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from studies.figures import FMR, FNMR, HARD, NAMES, RESAMPLES, SEEDS
from studies.material import GALLERY, PROBES, Material, digest


def about(material: Material) -> dict[str, Any]:
    """Of what a study's figures are: model, networks, people, settings."""
    places = material.places
    manifest = json.loads((places.models / "manifest.json").read_text())
    files = {name: digest(path) for name, path in (("mobileface", places.mobileface), ("miner", places.miner))}
    decoder = digest(places.models / "decoder.onnx")
    return {
        "model": {"version": manifest.get("version"), "decoder": decoder},
        "networks": files,
        "people": material.people,
        "photographs_without_a_face": material.frames.without,
        "settings": {
            "gallery": GALLERY,
            "probes": PROBES,
            "hard": HARD,
            "fnmr": FNMR,
            "fmr": FMR,
            "seeds": SEEDS,
            "resamples": RESAMPLES,
        },
    }


def table(
    out: Path, name: str, arms: list[dict[str, Any]], of: dict[str, Any], figures: tuple[str, ...] = NAMES
) -> None:
    """`NAME.json` and `NAME.csv`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps({"about": of, "arms": arms}, indent=1, allow_nan=False) + "\n")
    labels = list(dict.fromkeys(key for arm in arms for key in arm if key not in figures and key != "main"))
    head = [f"{figure}{end}" for figure in figures for end in ("", "_change", "_change_low", "_change_high")]
    with (out / f"{name}.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow([*labels, *head])
        for arm in arms:
            numbers: list[Any] = []
            for figure in figures:
                ends = arm[figure].get("change_interval", ["", ""])
                numbers += [arm[figure]["value"], arm[figure]["change"], *ends]
            rows.writerow([*(arm.get(label, "") for label in labels), *numbers])


def cohort_figure(path: Path, arms: list[dict[str, Any]]) -> None:
    """False matches on hard impostors by size of the cohort, AS-norm, a line a kind, a panel a recogniser."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    recognisers = list(dict.fromkeys(arm["recogniser"] for arm in arms))
    drawing, panels = plt.subplots(1, len(recognisers), figsize=(5.5 * len(recognisers), 4), squeeze=False)
    for panel, recogniser in zip(panels[0], recognisers, strict=True):
        own = [arm for arm in arms if arm["recogniser"] == recogniser]
        nothing = next(arm for arm in own if arm["arm"] == "nothing")
        panel.axhline(nothing["hard_at_fnmr"]["value"], color="black", linestyle=":", label="nothing")
        adaptive = [arm for arm in own if arm["arm"] == "AS-norm"]
        for kind in dict.fromkeys(arm["cohort"] for arm in adaptive):
            line = sorted((arm["size"], arm["hard_at_fnmr"]["value"]) for arm in adaptive if arm["cohort"] == kind)
            panel.plot(*zip(*line, strict=True), marker="o", label=kind)
        panel.set(xscale="log", xlabel="people in the cohort", title=recogniser)
        panel.set_ylabel(f"hard impostors let in at FNMR {FNMR:.0%}")
    panels[0][0].legend(fontsize=8)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)


TITLES = {
    "hard_at_fnmr": f"hard impostors let in at FNMR {FNMR:.0%}",
    "hard_error": "equal error on hard impostors",
    "frontal_error": "error in CFP's frontal folds",
    "profile_error": "error in CFP's profile folds",
}


def arms_figure(path: Path, arms: list[dict[str, Any]], figures: tuple[str, ...]) -> None:
    """Each arm's figures with their intervals, and each seed's as a cross, a panel a figure."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    own = [arm for arm in arms if arm["against"] == arms[0]["against"]]
    height = 1.2 + 0.32 * len(own)
    drawing, panels = plt.subplots(1, len(figures), figsize=(3.6 * len(figures) + 1.5, height), sharey=True)
    for panel, figure in zip(panels, figures, strict=True):
        for place, arm in enumerate(reversed(own)):
            low, high = arm[figure]["interval"]
            panel.plot([low, high], [place, place], color="black")
            panel.plot(arm[figure]["seeds"], [place] * len(arm[figure]["seeds"]), "x", color="grey")
            panel.plot(arm[figure]["value"], place, "o", color="black")
        panel.axvline(own[0][figure]["value"], color="grey", linestyle=":")
        panel.set_xlabel(TITLES[figure], fontsize=9)
    panels[0].set_yticks(range(len(own)), [arm["arm"] for arm in reversed(own)])
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)
