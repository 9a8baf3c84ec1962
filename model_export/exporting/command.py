"""`export`: a checkpoint becomes `encoder.onnx`, `decoder.onnx` and `manifest.json`, checked against PyTorch.

The graphs take and give bytes, so that a client needs neither PyTorch nor the face frame's arithmetic:
`encoder.onnx`  image uint8 [n, 128, 128, 3] -> identity float32 [n, 70], embedding float32 [n, 192] of the recogniser
                it stands on;
`decoder.onnx`  identity float32 [n, 70], control float32 [n, 10] -> image uint8 [n, 128, 128, 3].
Trained weights are stored as float16 and widened when the graph is loaded. `decoder_int8.onnx` is the decoder once
more, for CPUs that are fast at int8 (see `quantize`).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from app.runtime.manifest import FILE, fitting_a_header
from model_export.exporting.export import add_facts, export
from model_export.exporting.gate import lost
from model_export.preparing.dataset import FaceSet
from model_export.training.config import TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `export`."""
    parser.add_argument("folder", type=Path, help="folder of a training run")
    parser.add_argument("out", type=Path, help="folder to write the graphs and the manifest to")
    parser.add_argument("--models", type=Path, default=Path("app/models"), help="where the third-party networks lie")
    parser.add_argument(
        "--data", type=Path, help="prepared faces, to fit the latent's distribution and the controls' reach"
    )
    parser.add_argument("--facts", type=Path, help="evaluation.json with controls, thresholds and metrics")
    parser.add_argument(
        "--no-worse-than",
        type=Path,
        metavar="MODELS",
        help="write nothing if an aim is missed that the evaluation of this model reaches",
    )
    parser.add_argument("--version", default="0.1.0", help="version of the model, as clients see it")


def run(arguments: argparse.Namespace) -> int:
    """Export and say what was written; returns the exit status, 2 where the model is not let through.

    Raises:
        ValueError: the version cannot be served, or the model that it is to be no worse than has no evaluation.
    """
    fitting_a_header(arguments.version)
    facts = json.loads(arguments.facts.read_text()) if arguments.facts else {}
    if arguments.no_worse_than:
        before = json.loads((arguments.no_worse_than / FILE).read_text())
        if "metrics" not in before:
            raise ValueError(f"{arguments.no_worse_than}: was never evaluated, so nothing can be held against it")
        if aims := lost(before["metrics"], facts.get("metrics", {})):
            print(f"export: not as good as {arguments.no_worse_than}:", *aims, sep="\n  ", file=sys.stderr)
            return 2
    facts = {key: facts[key] for key in ("controls", "thresholds", "redrawing", "metrics") if key in facts}
    config = TrainConfig.load(arguments.folder / "config.json")
    checkpoint = arguments.folder / "checkpoint.pt"
    faces = FaceSet.open(arguments.data, "train") if arguments.data else None
    manifest = add_facts(checkpoint, arguments.out, arguments.version, facts, faces) if facts else None
    if manifest is None:
        manifest = export(checkpoint, config, arguments.models, arguments.out, arguments.version, facts, faces)
    for name, difference in manifest["parity"].items():
        size = (arguments.out / f"{name}.onnx").stat().st_size / 2**20
        like = (
            f"{difference:.1f} dB to float32" if "int8" in name else f"largest difference to PyTorch {difference:.2g}"
        )
        print(f"{name}.onnx: {size:.1f} MiB, {like}")
    return 0
