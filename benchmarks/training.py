"""`python -m benchmarks.training PREPARED [--write]`: what a step of training costs by recipe, and each part of it.

Steps of all recipes in turns, CPU time, so that whatever else the machine does disturbs them alike. A part is what a
step of the last recipe costs less without it, backward passes included; parts share work, so they do not add up.
`--recognizer` and `--landmarks` are those of `model_export train`. `--write` puts the tables into docs/retrain.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.documents import filled
from model_export.preparing.dataset import FaceSet
from model_export.training.command import named_file, recipe_file
from model_export.training.config import TrainConfig
from model_export.training.trainer import Trainer

DOCUMENT = Path(__file__).parents[1] / "docs" / "retrain.md"
BEGIN, END = "<!-- training: begin -->\n", "<!-- training: end -->"
ROUNDS = 24
"""So that penalties (one step of eight), judges (four) and landmark networks (three) count as often as in a run."""
PARTS = {
    "the discriminator": ("weights.adversarial=0",),
    "landmarks and steering": ("weights.landmarks=0", "weights.steering=0"),
    "Q, which reads the controls": ("weights.mutual_information=0",),
    "matching of mean features": ("weights.matching=0",),
    "texture": ("weights.texture=0", "weights.variant_texture=0"),
    "phases and seams": ("weights.phases=0", "weights.seams=0"),
}
"""Settings that switch a part off."""


def measured(trainers: dict[str, Trainer], rounds: int) -> dict[str, list[float]]:
    """CPU seconds a face of each run, round by round, from the middle of it on, when every loss counts."""
    found: dict[str, list[float]] = {name: [] for name in trainers}
    for trainer in trainers.values():
        trainer.images = trainer.config.total_images // 2 // trainer.batches.step_images * trainer.batches.step_images
        trainer.step()
    for _ in range(rounds):
        for name, trainer in trainers.items():
            start, images = time.process_time(), trainer.images
            trainer.step()
            found[name].append((time.process_time() - start) / (trainer.images - images))
    return found


def table(recipes: dict[str, Sequence[float]], parts: dict[str, Sequence[float]]) -> str:
    """Recipes by the means of their steps, beside the first; and the parts of the last."""
    means = {name: statistics.mean(values) for name, values in recipes.items()}
    first, last = next(iter(means.values())), list(means)[-1]
    rows = ["| recipe | CPU seconds a face | times as many faces |", "| --- | --- | --- |"]
    rows += [f"| {name} | {mean:.3f} | {first / mean:.2f} |" for name, mean in means.items()]
    rows += ["", f"| part of {last} | share of a step |", "| --- | --- |"]
    for name, values in parts.items():
        rows.append(f"| {name} | {1 - statistics.mean(values) / means[last]:.0%} |")
    return "\n".join(rows) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Measure, print, and write on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="a folder that `model_export prepare` wrote")
    parser.add_argument("--recipes", type=recipe_file, nargs="+", required=True, help="names or files, the base first")
    parser.add_argument("--models", type=Path, default=Path("app/models"))
    parser.add_argument("--recognizer", action="append", default=[], type=named_file, metavar="NAME=FILE")
    parser.add_argument("--landmarks", action="append", default=[], type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    args = parser.parse_args(argv)
    if len({path.stem for path in args.recipes}) < len(args.recipes):
        parser.error("two recipes have one name, and the table goes by names: copy one under another")
    torch.set_num_threads(1)
    faces = FaceSet.open(args.prepared, "train")

    def trainer(config: TrainConfig) -> Trainer:
        return Trainer(config, faces, args.models, torch.device("cpu"), dict(args.recognizer), args.landmarks)

    recipes = {path.stem: TrainConfig.load(path) for path in args.recipes}
    last = recipes[args.recipes[-1].stem]
    used = {name: off for name, off in PARTS.items() if last.changed(list(off)) != last}
    configs = recipes | {name: last.changed(list(off)) for name, off in used.items()}
    found = measured({name: trainer(config) for name, config in configs.items()}, args.rounds)
    block = table({name: found[name] for name in recipes}, {name: found[name] for name in used})
    print(block)
    if args.write:
        DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), BEGIN, END, block), encoding="utf-8")


if __name__ == "__main__":
    main()
