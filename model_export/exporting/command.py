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
import datetime
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from app.core.faces import FRAME_SIZE
from model_export.exporting.quantize import closeness, quantize
from model_export.exporting.reach import Gain, Reach, fit, free, held_back, learn, observe
from model_export.exporting.whitening import latents, whiten
from model_export.networks.generator import CONTROL_SIZE, IDENTITY_SIZE, Decoder, Encoder
from model_export.networks.pretrained import FrozenRecognizer
from model_export.preparing.dataset import FaceSet
from model_export.training.config import TrainConfig

OPSET = 18
MAX_BYTES = 16 * 2**20
BATCHES = (1, 2, 5, 16)
IDENTITY_TOLERANCE = 1e-3
"""Largest difference of a latent entry between PyTorch and ONNX Runtime, both in float32."""
IMAGE_TOLERANCE = 1
"""Largest difference of a pixel, in levels of 255: a value on the edge may round either way."""

WHITENING_FACES = 4000
OBSERVED_FACES = 14_000
"""To learn what variants look like to the recogniser: the more, the better it is foreseen."""
CALIBRATION_FACES = 64
LEAST_FIDELITY = 38.0
"""Of the decoder in int8 to the one in float32, peak signal-to-noise ratio in dB: there a difference is hard to see."""

THIRD_PARTY = {
    "detector_near": "face_detector_back.onnx",
    "detector_far": "face_detector_full_range.onnx",
    "recognizer": "face_recognizer.onnx",
}


class ServedEncoder(nn.Module):
    """The encoder as it is served: bytes in, the mean of the identity out, and the recogniser's embedding."""

    def __init__(self, encoder: Encoder, recognizer: FrozenRecognizer, reach: Reach | None = None) -> None:
        super().__init__()
        self.encoder, self.recognizer, self.reach = encoder, recognizer, reach

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Faces uint8 [n, 128, 128, 3] -> identities float32 [n, 70], embeddings float32 [n, 192] of unit length."""
        pixels = image.permute(0, 3, 1, 2).float() / 127.5 - 1
        embedding = self.recognizer(pixels)
        identity, _ = self.encoder(pixels, embedding)
        if self.reach is not None:
            identity = self.reach(identity, embedding)
        return identity, embedding


class ServedDecoder(nn.Module):
    """The decoder as it is served: bytes out, and controls that reach as far as the identity says."""

    def __init__(self, decoder: Decoder, gain: Gain | None = None) -> None:
        super().__init__()
        self.decoder, self.gain = decoder, gain

    def forward(self, identity: Tensor, control: Tensor) -> tuple[Tensor]:
        """Identities [n, 70], controls [n, 10] -> faces uint8 [n, 128, 128, 3]."""
        if self.gain is not None:
            control = self.gain(identity, control)
        pixels = (self.decoder(identity, control) + 1) * 127.5
        return (pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1),)


def load_networks(checkpoint: Path, config: TrainConfig) -> tuple[Encoder, Decoder, int]:
    """The averaged encoder and decoder of a checkpoint, weights rounded to float16, and the number of faces seen."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    encoder, decoder = Encoder(config.networks).eval(), Decoder(config.networks).eval()
    encoder.load_state_dict(state["networks"]["averaged_encoder"])
    decoder.load_state_dict(state["networks"]["averaged_decoder"])
    return encoder, decoder, state["images"]


def to_onnx(
    module: nn.Module,
    examples: dict[str, Tensor],
    outputs: list[str],
    path: Path,
    trained: str | tuple[str, ...] = "",
) -> None:
    """Export with a free batch dimension; `trained` begins the names of the weights that are stored as float16.

    Raises:
        ValueError: the file is over 16 MiB.
    """
    batch = torch.export.Dim("n", min=1, max=4096)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            tuple(examples.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(examples),
            output_names=outputs,
            dynamic_shapes=[{0: batch} for _ in examples],
            verbose=False,
        )
    assert program is not None
    save(program.model_proto, path, trained)


def save(model: onnx.ModelProto, path: Path, trained: str | tuple[str, ...] = "") -> None:
    """Write a graph with a free batch dimension; `trained` begins the names of the weights that are stored as float16.

    Raises:
        ValueError: the file is over 16 MiB.
    """
    store_as_half(model, trained)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    # Source locations of the exporting machine have no place in a file that is shipped.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    if model.ByteSize() > MAX_BYTES:
        raise ValueError(
            f"{path.name} would take {model.ByteSize() / 2**20:.1f} MiB, more than {MAX_BYTES / 2**20:.0f}"
        )
    path.write_bytes(model.SerializeToString())


def store_as_half(model: onnx.ModelProto, trained: str | tuple[str, ...] = "", minimum: int = 64) -> None:
    """Store large float32 constants as float16, with a cast behind each that is folded away at load.

    Only those whose names begin with `trained`.
    """
    casts = []
    for item in model.graph.initializer:
        name, large = item.name, int(np.prod(item.dims)) >= minimum
        if large and item.data_type == TensorProto.FLOAT and name.startswith(trained):
            half = numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float16), name + "_half")
            item.CopyFrom(half)
            casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT, name=name + "_widen"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def round_to_half(module: nn.Module, minimum: int = 64) -> None:
    """Round weights as `store_as_half` does, so that PyTorch and ONNX compute with the same numbers."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point() and tensor.numel() >= minimum:
                tensor.copy_(tensor.half().float())


def check_parity(module: nn.Module, path: Path, make: dict[str, Any], tolerance: float) -> float:
    """Compare PyTorch with ONNX Runtime at several batch sizes; returns the largest difference.

    Raises:
        ValueError: they differ by more than the tolerance.
    """
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in BATCHES:
        inputs = {name: build(count) for name, build in make.items()}
        with torch.no_grad():
            given = [tensor.numpy() for tensor in module(*map(torch.from_numpy, inputs.values()))]
        for served, own in zip(session.run(None, inputs), given, strict=True):
            if served.shape != own.shape or served.dtype != own.dtype:
                raise ValueError(f"{path.name}: {served.dtype}{served.shape} served, {own.dtype}{own.shape} in PyTorch")
            worst = max(worst, float(np.abs(served.astype(np.float64) - own.astype(np.float64)).max()))
    if worst > tolerance:
        raise ValueError(f"{path.name} differs from PyTorch by {worst:.3g}, more than {tolerance:.3g}")
    return worst


def write_int8(out: Path, identities: Any, controls: Any) -> float:
    """Write the decoder in int8 beside the decoder; returns its peak signal-to-noise ratio to it in dB.

    Args:
        out: where `decoder.onnx` is.
        identities: float32 [n, 70], half to calibrate on, half to measure on.
        controls: gives that many controls.

    Raises:
        ValueError: it draws something else.
    """
    path = out / "decoder_int8.onnx"
    model = quantize(out / "decoder.onnx", identities[::2], controls(len(identities[::2])))
    save(model, path)
    fidelity = closeness(out / "decoder.onnx", path, identities[1::2], controls(len(identities[1::2])))
    if fidelity < LEAST_FIDELITY:
        raise ValueError(f"{path.name} is within {fidelity:.1f} dB of the decoder, less than {LEAST_FIDELITY:.0f}")
    return fidelity


def describe(path: Path) -> dict[str, Any]:
    """An entry of the manifest's `files`: name, checksum, inputs and outputs."""
    graph = onnx.load(path).graph

    def shapes(values: Any) -> dict[str, list[int | str]]:
        return {value.name: [dim.dim_value or "n" for dim in value.type.tensor_type.shape.dim] for value in values}

    return {
        "file": path.name,
        "sha256": digest(path),
        "inputs": shapes(graph.input),
        "outputs": shapes(graph.output),
    }


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def add_facts(
    checkpoint: Path, out: Path, version: str, facts: dict[str, Any], faces: FaceSet | None
) -> dict[str, Any] | None:
    """Put `facts` into the manifest of graphs that were exported of the same already; see `export`.

    Returns:
        The manifest, or None if the graphs in `out` are of another checkpoint or other faces, or were changed.
    """
    path = out / "manifest.json"
    if not path.exists():
        return None
    manifest: dict[str, Any] = json.loads(path.read_text())
    made_of = [manifest.get("training", {}).get(key) for key in ("checkpoint", "fitted_on_faces")]
    if made_of != [digest(checkpoint), 0 if faces is None else len(faces)]:
        return None
    entries = manifest["files"].values()
    if not all((out / entry["file"]).exists() and digest(out / entry["file"]) == entry["sha256"] for entry in entries):
        return None
    last = {key: manifest.pop(key) for key in ("training", "parity")}
    manifest |= {"version": version} | facts | last
    path.write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def export(
    checkpoint: Path,
    config: TrainConfig,
    models: Path,
    out: Path,
    version: str,
    facts: dict[str, Any],
    faces: FaceSet | None = None,
) -> dict[str, Any]:
    """Write the two graphs and the manifest into `out`; returns the manifest.

    Args:
        checkpoint: what `train` wrote.
        config: its configuration.
        models: folder with the third-party networks.
        out: folder to write to; third-party networks are copied there if it is another one.
        version: version of the model, as clients see it.
        facts: `controls`, `thresholds` and `metrics`, as `evaluate` measured them.
        faces: the training faces, to fit the latent's distribution and the reach of the controls on (see `whitening`
            and `reach`); without them neither is fitted, and there is no decoder in int8.
    """
    out.mkdir(parents=True, exist_ok=True)
    encoder, decoder, images = load_networks(checkpoint, config)
    recognizer = FrozenRecognizer(models / THIRD_PARTY["recognizer"])
    reach, gain, foreseen = None, None, None
    if faces is not None:
        whiten(encoder, decoder, latents(encoder, faces, WHITENING_FACES))
        free(decoder, encoder, torch.randn(16, IDENTITY_SIZE, generator=torch.Generator().manual_seed(0)))
        thresholds = facts.get("thresholds") or json.loads((models / "manifest.json").read_text())["thresholds"]
        band = thresholds["fmr_1e-3"], thresholds["genuine_median"]
        observed = observe(encoder, decoder, recognizer, faces, OBSERVED_FACES)
        reach, gain, foreseen = fit(observed, band, learn(held_back(observed)[1]))
    served_encoder = ServedEncoder(encoder, recognizer, reach).eval()
    served_decoder = ServedDecoder(decoder, gain).eval()
    # Similarities are to be the recogniser's own to the last digits, so its weights stay as they are.
    for network in (encoder, decoder, reach, gain):
        if network is not None:
            round_to_half(network)
    random = np.random.default_rng(0)
    inputs: dict[str, Any] = {
        "image": lambda n: random.integers(0, 256, (n, FRAME_SIZE, FRAME_SIZE, 3), np.uint8),
        "identity": lambda n: random.standard_normal((n, IDENTITY_SIZE), np.float32),
        "control": lambda n: random.uniform(-1, 1, (n, CONTROL_SIZE)).astype(np.float32),
    }
    parity = {}
    for name, module, trained, takes, gives, tolerance in (
        ("encoder", served_encoder, ("encoder.", "reach."), ["image"], ["identity", "embedding"], IDENTITY_TOLERANCE),
        ("decoder", served_decoder, "", ["identity", "control"], ["image"], IMAGE_TOLERANCE),
    ):
        path = out / f"{name}.onnx"
        make = {key: inputs[key] for key in takes}
        to_onnx(module, {key: torch.from_numpy(build(3)) for key, build in make.items()}, gives, path, trained)
        parity[name] = check_parity(module, path, make, tolerance)
    files = {"encoder": "encoder.onnx", "decoder": "decoder.onnx", **THIRD_PARTY}
    if faces is not None:
        rows = np.sort(np.random.default_rng(1).permutation(len(faces))[:CALIBRATION_FACES])
        found = ort.InferenceSession(out / "encoder.onnx").run(["identity"], {"image": faces.faces[rows]})[0]
        drawn = inputs["identity"](CALIBRATION_FACES)
        parity["decoder_int8"] = write_int8(out, np.concatenate([found, drawn]), inputs["control"])
        files["decoder_int8"] = "decoder_int8.onnx"
    for name in THIRD_PARTY.values():
        if not (out / name).exists():
            (out / name).write_bytes((models / name).read_bytes())
    manifest = {
        "name": "lookalike",
        "version": version,
        "created": datetime.date.today().isoformat(),
        "frame_size": FRAME_SIZE,
        "identity_size": IDENTITY_SIZE,
        "control_size": CONTROL_SIZE,
        "files": {key: describe(out / name) for key, name in files.items()},
        **facts,
        "training": {
            "checkpoint": digest(checkpoint),
            "fitted_on_faces": 0 if faces is None else len(faces),
            "faces_seen": images,
            "settings": config.model_dump(mode="json"),
            "similarity_foreseen": foreseen,
        },
        "parity": parity,
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `export`."""
    parser.add_argument("folder", type=Path, help="folder of a training run")
    parser.add_argument("out", type=Path, help="folder to write the graphs and the manifest to")
    parser.add_argument("--models", type=Path, default=Path("app/models"), help="where the third-party networks lie")
    parser.add_argument(
        "--data", type=Path, help="prepared faces, to fit the latent's distribution and the controls' reach"
    )
    parser.add_argument("--facts", type=Path, help="evaluation.json with controls, thresholds and metrics")
    parser.add_argument("--version", default="0.1.0", help="version of the model, as clients see it")


def run(arguments: argparse.Namespace) -> int:
    """Export and say what was written; returns the exit status."""
    facts = json.loads(arguments.facts.read_text()) if arguments.facts else {}
    facts = {key: facts[key] for key in ("controls", "thresholds", "metrics") if key in facts}
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
