"""`evaluate`: what the served networks do with faces that training never saw, with intervals, beside two baselines.

Judges the ONNX files as they are served, on the CPU. Every interval resamples faces, never the variants of one face.
Writes `evaluation.json` (whose `controls`, `thresholds`, `redrawing` and `metrics` are copied into the manifest by
`export --facts`), plots and sheets.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model_export.evaluation import (
    baselines,
    bounds,
    cohort_gain,
    controls,
    difficult,
    drawn_training,
    fairness,
    features,
    glasses,
    identities,
    likeness,
    profiles,
    realism,
    report,
    sheets,
    texture,
)
from model_export.evaluation.sample import Sample
from model_export.evaluation.settings import Settings

Questions = Mapping[str, Callable[[Sample], dict[str, Any]]]

QUESTIONS: Questions = {
    "likeness": likeness.measure,
    "bounds": bounds.measure,
    "difficult": difficult.measure,
    "profiles": profiles.measure,
    "realism": realism.measure,
    "controls": controls.measure,
    "features": features.measure,
    "texture": texture.measure,
    "glasses": glasses.measure,
    "identities": identities.measure,
    "fairness": fairness.measure,
    "baselines": baselines.measure,
    "cohort_gain": cohort_gain.measure,
    "drawn_training": drawn_training.measure,
}
"""What is asked of a sample. Each has random numbers of its own: none changes another's figures."""


def ask(sample: Sample, questions: Questions) -> dict[str, Any]:
    """Ask; returns the `metrics` of `evaluation.json`."""
    metrics: dict[str, Any] = {}
    seconds = {}
    for name, measure in questions.items():
        start = time.perf_counter()
        metrics |= measure(sample)
        seconds[name] = round(time.perf_counter() - start, 1)
        print(f"{name}: {seconds[name]:.0f} s", flush=True)
    metrics["settings"] = asdict(sample.settings) | {"faces": sample.deep, "wide": len(sample.rows)}
    metrics["seconds"] = seconds
    return metrics


def evaluate(sample: Sample, questions: Questions = QUESTIONS) -> dict[str, Any]:
    """Ask everything; returns what `evaluation.json` holds."""
    metrics = ask(sample, questions)
    return {
        "controls": features.named(sample),
        "thresholds": likeness.thresholds(sample).as_manifest(),
        "redrawing": difficult.least_agreement(sample),
        "metrics": metrics,
        "networks": sample.networks,
    }


def amend(before: dict[str, Any], sample: Sample, questions: Questions) -> dict[str, Any]:
    """What `evaluation.json` held of the same models, with some questions asked anew.

    Raises:
        ValueError: it is of other networks, settings, faces or recognisers.
    """
    if before.get("networks") != sample.networks:
        raise ValueError("the earlier evaluation was of other networks: leave --only out")
    metrics, asked_before = ask(sample, questions), before["metrics"]
    thresholds = likeness.thresholds(sample).as_manifest()
    same = all(math.isclose(value, before["thresholds"][name], abs_tol=1e-4) for name, value in thresholds.items())
    if asked_before["settings"] != metrics["settings"] or not same:
        raise ValueError("the earlier evaluation was of other settings, faces or recognisers: leave --only out")
    seconds = asked_before["seconds"] | metrics["seconds"]
    return before | {"metrics": asked_before | metrics | {"seconds": seconds}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
    defaults = Settings()
    parser.add_argument("data", type=Path, help="prepared faces")
    parser.add_argument("models", type=Path, help="folder with the ONNX files that are served")
    parser.add_argument("out", type=Path, help="folder for evaluation.json, plots and sheets")
    parser.add_argument(
        "--judge", type=Path, help="ONNX recogniser that training never saw; see model_export/evaluation/judge.py"
    )
    parser.add_argument(
        "--landmarks", type=Path, help="ONNX face mesh that training never saw; see model_export/evaluation/mesh.py"
    )
    parser.add_argument(
        "--people", type=Path, help="photographs of people whom training never saw, a folder a person, or their cuts"
    )
    parser.add_argument(
        "--profiles",
        type=Path,
        help="photographs of profiles, a folder a person; where some lie in folders called profile, those alone",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=QUESTIONS,
        metavar="QUESTION",
        help="ask these anew and no others, of the same models, and keep what else OUT/evaluation.json says: "
        f"{', '.join(QUESTIONS)}",
    )
    parser.add_argument("--card", type=Path, help="MODEL_CARD.md whose generated tables are to be written")
    for name, text in {
        "faces": "held-out faces with all random controls",
        "controls": "random controls a face",
        "wide": "held-out faces with one variant each, for realism and fairness",
        "baseline_faces": "faces of the baselines' in-band rate and diversity",
        "reference": "training faces for realism and the attribute probe",
        "sweep_faces": "faces on which each control is walked over its range",
        "random": "random identities",
        "seed": "of every choice and draw",
        "resamples": "of the faces, for the intervals; slow statistics take fewer",
        "steps": "of a control's walk from -1 to 1",
        "each": "photographs of each of --people",
        "most_people": "of --people",
    }.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(defaults, name), help=text)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes them all")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, write everything and print the table; returns the exit status.

    Raises:
        ValueError, OSError: it cannot begin, or something that is wanted cannot be measured.
    """
    if arguments.card:
        report.check_markers(arguments.card)
    settings = Settings(**{name: getattr(arguments, name) for name in asdict(Settings())})
    sample = Sample(
        arguments.data,
        arguments.models,
        arguments.judge,
        settings,
        arguments.threads,
        arguments.landmarks,
        arguments.people,
        arguments.profiles,
    )
    out: Path = arguments.out
    file = out / "evaluation.json"
    if arguments.only:
        result = amend(json.loads(file.read_text()), sample, {name: QUESTIONS[name] for name in arguments.only})
    else:
        result = evaluate(sample)
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    if not arguments.only:
        sheets.draw(sample, result, out)
    tables = report.tables(result)
    (out / "tables.md").write_text(tables)
    if arguments.card:
        report.write(arguments.card, tables)
    print(tables)
    return 0
