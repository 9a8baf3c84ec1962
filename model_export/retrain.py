"""`retrain`: all of it with one command, from photographs to a model that can be served, measured and described.

The other commands one after another. Each goes on where it was stopped, and so does this one.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from app.runtime.manifest import fitting_a_header

CARD = Path(__file__).parents[1] / "app" / "models" / "MODEL_CARD.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `retrain`."""
    parser.add_argument("photographs", type=Path, help="folder, tar or zip of photographs with faces; see prepare")
    parser.add_argument("out", type=Path, help="folder for data, run, models and report")
    parser.add_argument("--images", type=int, default=200_000, help="faces to see in training")
    parser.add_argument(
        "--start-from", type=Path, metavar="FOLDER", help="exported models to begin with, app/models for one; see train"
    )
    parser.add_argument(
        "--recipe",
        help="settings of the training; see train (default: what the models of --start-from were trained with, which "
        "is shipped for app/models; without --start-from from_nothing)",
    )
    parser.add_argument(
        "--recognizer", action="append", default=[], metavar="NAME=FILE", help="a further judge in training; see train"
    )
    parser.add_argument(
        "--landmarks", action="append", default=[], metavar="FILE", help="a network that steers controls; see train"
    )
    parser.add_argument("--mesh", type=Path, help="face mesh that training never saw; see --landmarks of evaluate")
    parser.add_argument("--people", type=Path, help="photographs of people whom training never saw; see evaluate")
    parser.add_argument("--profiles", type=Path, help="photographs of profiles; see evaluate")
    parser.add_argument("--judge", type=Path, help="ONNX recogniser that training never saw; see evaluate")
    parser.add_argument("--version", default="0.1.0", help="version of the model, as clients see it")


def run(arguments: argparse.Namespace) -> int:
    """Run the commands in turn; returns 0, or the status of the first that failed.

    Raises:
        ValueError: the version cannot be served, the folder lies among the photographs, or they have too few faces.
    """
    from model_export.__main__ import main

    fitting_a_header(arguments.version)
    out: Path = arguments.out
    if out.resolve().is_relative_to(arguments.photographs.resolve()):
        raise ValueError(f"{out} lies among the photographs, and would be searched for some: name a folder elsewhere")
    data, trained, models, report = (str(out / name) for name in ("data", "run", "models", "report"))
    export = ["export", trained, models, "--data", data, "--version", arguments.version]
    start = ["--start-from", str(arguments.start_from)] if arguments.start_from else []
    start += ["--recipe", arguments.recipe] if arguments.recipe else []
    start += [word for named in arguments.recognizer for word in ("--recognizer", named)]
    start += [word for file in arguments.landmarks for word in ("--landmarks", file)]
    judges = {"--judge": arguments.judge, "--landmarks": arguments.mesh, "--people": arguments.people}
    judges["--profiles"] = arguments.profiles
    judged = [word for option, file in judges.items() if file for word in (option, str(file))]
    card = out / "models" / CARD.name

    def keep_card() -> int:
        if not card.exists():
            shutil.copy(CARD, card)
        return 0

    for step in (
        lambda: main(["prepare", str(arguments.photographs), data]),
        lambda: check_enough(out / "data"),
        lambda: main(["train", data, trained, *start, "--set", f"total_images={arguments.images}"]),
        lambda: main(export),
        keep_card,
        lambda: main(["evaluate", data, models, report, "--card", str(card), *judged]),
        lambda: main([*export, "--facts", str(out / "report" / "evaluation.json")]),
    ):
        status: int = step()
        if status:
            return status
    print(f"serve it: LOOKALIKE_MODELS={models} make serve; the tables of {card} are yours, its prose is about ours")
    return 0


def check_enough(data: Path) -> int:
    """Whether a prepared set will do for all that follows; returns 0.

    Raises:
        ValueError: it will not. Said now, since the training takes hours.
    """
    from model_export.evaluation.sample import LEAST_FACES
    from model_export.exporting.whitening import LEAST_LATENTS

    found = json.loads((data / "report.json").read_text(encoding="utf-8"))
    for side, least in (("train", LEAST_LATENTS), ("test", LEAST_FACES)):
        if found[side] < least:
            raise ValueError(f"{data}: {found[side]} faces to {side} on are too few; {least} are needed")
    return 0
