"""`detail`: trains the stage that draws a face at twice its side, for a model whose decoder is there already."""

from __future__ import annotations

import argparse
import json
import math
import signal
import time
from pathlib import Path

import numpy as np
import torch

from app.core.faces import Bytes
from app.runtime.manifest import NETWORKS, read_manifest
from model_export.detail.config import DetailConfig
from model_export.detail.export import add_to_model, write_detail
from model_export.detail.material import LEAST_EYES, Material, Wanted, gather
from model_export.detail.measure import Enlarge, Enlarger, measure
from model_export.detail.report import BEGIN, END, write_card
from model_export.detail.sheet import write_sheet
from model_export.detail.trainer import DetailTrainer
from model_export.evaluation.report import check_markers
from model_export.evaluation.studio import batches
from model_export.exporting.graphs import digest
from model_export.networks.detail import DetailStage
from model_export.pictures import to_bytes, to_tensor
from model_export.preparing.dataset import Split
from model_export.preparing.files import replacing
from model_export.preparing.sources import read_sources
from model_export.training.command import choose_device, until_terminated
from model_export.training.loop import Pace, RunFolder, keep_stepping

SHOWN = 24
"""Held-out faces on the sheet."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `detail`."""
    parser.add_argument("source", type=Path, help="the photographs, or the list of them, that `prepare` was given")
    parser.add_argument("data", type=Path, help="the folder that `prepare` wrote")
    parser.add_argument("folder", type=Path, help="folder of the run; a run that is there already goes on")
    parser.add_argument("--models", type=Path, default=Path("app/models"), help="the model that draws")
    parser.add_argument("--out", type=Path, help="model folder to write the detail stage to at the end (MODELS)")
    parser.add_argument("--steps", type=int, help=f"steps of a new training ({DetailConfig().steps})")
    parser.add_argument("--faces", type=int, default=3000, help="most photographs, and most faces that are drawn")
    parser.add_argument(
        "--least-eyes", type=float, default=LEAST_EYES, help="least distance of the eyes in a photograph, in pixels"
    )
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="NAME", help="sources with real detail; others are drawn alone"
    )
    parser.add_argument("--card", type=Path, help="MODEL_CARD.md whose table of the detail stage is to be written")
    parser.add_argument("--max-seconds", type=float, default=math.inf, help="stop after this time, checkpoint written")
    parser.add_argument("--look-every", type=float, default=300, help="seconds between sample sheets")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def run(arguments: argparse.Namespace) -> int:
    """Train, measure and write; returns 0, or 143 if SIGTERM stopped it.

    Raises:
        SourceError, ModelsInvalid, ValueError, OSError: it cannot begin; said before anything is trained.
    """
    deadline = time.monotonic() + arguments.max_seconds
    folder, out = RunFolder(arguments.folder), arguments.out or arguments.models
    folder.path.mkdir(parents=True, exist_ok=True)
    read_manifest(out)
    if arguments.card:
        check_markers(arguments.card, BEGIN, END)
    config = _settings(folder, arguments.steps)
    training, held_out = (_material(arguments, split) for split in ("train", "test"))
    # Not before: of a run that could not begin, other settings may be asked for.
    if not folder.config.exists():
        with replacing(folder.config) as unfinished:
            unfinished.write_text(config.model_dump_json(indent=2))
    trainer = DetailTrainer(config, training, choose_device(arguments.device))
    if folder.checkpoint.exists():
        trainer.load(folder.checkpoint)
    with until_terminated() as told_to_stop:
        pace = Pace(
            limit=config.steps,
            stop=lambda: told_to_stop.is_set() or time.monotonic() > deadline,
            save_every=60,
            look_every=arguments.look_every,
        )
        keep_stepping(
            trainer, lambda: trainer.steps, folder, pace, lambda: _look(trainer, held_out, folder), writes=True
        )
    if told_to_stop.is_set():
        return 128 + signal.SIGTERM
    if trainer.steps < config.steps:
        print(f"detail: {trainer.steps} of {config.steps} steps; the same command goes on from here")
        return 0
    stage = trainer.averaged.cpu().eval()
    # Beside the run first: a model whose manifest names another file is not served.
    parity = write_detail(stage, folder.path)
    facts = measure(held_out, training, arguments.models, Enlarger(enlarger(stage), enlarger(stage, drawn=False)))
    decoder = digest(arguments.models / NETWORKS["decoder"])
    told = {"settings": config.model_dump(mode="json"), **_told(training), "decoder": decoder}
    add_to_model(out, folder.path / NETWORKS["detail"], facts, told, parity)
    folder.path.joinpath("detail.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if arguments.card:
        write_card(arguments.card, facts)
    print(json.dumps(facts, indent=1))
    return 0


def _material(arguments: argparse.Namespace, split: Split) -> Material:
    sources = read_sources(arguments.source)
    kept = arguments.folder / "material"
    wanted = Wanted(arguments.faces, arguments.least_eyes, tuple(arguments.only))
    return gather(sources, arguments.data, arguments.models, split, kept, wanted)


def _told(training: Material) -> dict[str, int]:
    return {"photographs": len(training.photographs), "faces_drawn": len(training.drawings)}


def _settings(folder: RunFolder, steps: int | None) -> DetailConfig:
    """Of the run that goes on, or new ones.

    Raises:
        ValueError: other steps are asked of a run that goes on; its rates fall along those that it was begun with.
    """
    if folder.config.exists():
        config = DetailConfig.model_validate_json(folder.config.read_text())
        if steps not in (None, config.steps):
            raise ValueError(f"{folder.path} was begun with {config.steps} steps: use another folder for {steps}")
        return config
    return DetailConfig() if steps is None else DetailConfig(steps=steps)


def _look(trainer: DetailTrainer, held_out: Material, folder: RunFolder) -> None:
    small = np.array(held_out.drawings[:SHOWN, 1])
    write_sheet(folder.sheet(trainer.steps), small, enlarger(trainer.averaged)(small))


def enlarger(stage: DetailStage, *, drawn: bool = True) -> Enlarge:
    """The stage as a function of bytes: of drawings, or of pictures without the decoder's weave."""
    device, draw = next(stage.parameters()).device, stage if drawn else stage.enlarge

    @torch.inference_mode()
    def enlarge(small: Bytes) -> Bytes:
        return np.concatenate([to_bytes(draw(to_tensor(part, device))).cpu().numpy() for part in batches(small)])

    return enlarge
