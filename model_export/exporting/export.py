"""From a checkpoint to the two graphs and their manifest."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from app.core.faces import EMBEDDING_SIZE, FRAME_SIZE, RECOGNIZER_SIZE, recognizer_maps
from app.runtime.graphs import recognizer_of_frames
from app.runtime.manifest import NETWORKS
from model_export.exporting.graphs import behind, check_parity, describe, digest, round_to_half, save, to_onnx
from model_export.exporting.quantize import write_int8
from model_export.exporting.reach import Gain, Reach, fit, free, held_back, learn, observe
from model_export.exporting.served import ServedDecoder, ServedEncoder
from model_export.exporting.whitening import latents, whiten
from model_export.networks.generator import CONTROL_SIZE, IDENTITY_SIZE, Decoder, Encoder
from model_export.networks.pretrained import FrozenRecognizer
from model_export.preparing.dataset import FaceSet
from model_export.preparing.files import replacing
from model_export.training.config import TrainConfig

IDENTITY_TOLERANCE = 1e-3
"""Largest difference of a latent entry between PyTorch and ONNX Runtime, both in float32."""
IMAGE_TOLERANCE = 1
"""Largest difference of a pixel, in levels of 255: a value on the edge may round either way."""

WHITENING_FACES = 4000
OBSERVED_FACES = 14_000
"""To learn what variants look like to the recogniser: the more, the better it is foreseen."""
CALIBRATION_FACES = 64

THIRD_PARTY = {role: NETWORKS[role] for role in ("detector_near", "detector_far", "recognizer")}
"""Networks that are served beside our own."""


class Inputs:
    """Random inputs of the graphs, each a batch of n."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self.by_name: dict[str, Callable[[int], NDArray[Any]]] = {
            "image": lambda n: self._random.integers(0, 256, (n, FRAME_SIZE, FRAME_SIZE, 3), np.uint8),
            "embedding": lambda n: self._random.standard_normal((n, EMBEDDING_SIZE), np.float32),
            "identity": lambda n: self._random.standard_normal((n, IDENTITY_SIZE), np.float32),
            "control": lambda n: self._random.uniform(-1, 1, (n, CONTROL_SIZE)).astype(np.float32),
        }

    def examples(self, *names: str) -> dict[str, torch.Tensor]:
        """Some of them, to trace a module with."""
        return {name: torch.from_numpy(self.by_name[name](3)) for name in names}


@dataclass(frozen=True)
class Networks:
    """What is exported of a checkpoint.

    Attributes:
        encoder, decoder: the averaged ones, changed in place by what is fitted on faces.
        recognizer: the service's.
        reach, gain: how far controls move each face; None where nothing was fitted.
        foreseen: share of the variance of similarity that is foreseen on held-back faces.
    """

    encoder: Encoder
    decoder: Decoder
    recognizer: FrozenRecognizer
    reach: Reach | None = None
    gain: Gain | None = None
    foreseen: float | None = None

    def rounded(self) -> Networks:
        """With weights as they are stored; similarities are to be the recogniser's own, so its weights stay."""
        for network in (self.encoder, self.decoder, self.reach, self.gain):
            if network is not None:
                round_to_half(network)
        return self


def load_networks(checkpoint: Path, config: TrainConfig) -> tuple[Encoder, Decoder, int]:
    """The averaged encoder and decoder of a checkpoint, and the number of faces seen."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    encoder, decoder = Encoder(config.networks).eval(), Decoder(config.networks).eval()
    encoder.load_state_dict(state["networks"]["averaged_encoder"])
    decoder.load_state_dict(state["networks"]["averaged_decoder"])
    return encoder, decoder, state["images"]


def fitted(networks: Networks, faces: FaceSet, band: tuple[float, float]) -> Networks:
    """Fit the latent's distribution and the reach of the controls on training faces."""
    encoder, decoder, recognizer = networks.encoder, networks.decoder, networks.recognizer
    whiten(encoder, decoder, latents(encoder, faces, WHITENING_FACES))
    free(decoder, encoder, torch.randn(16, IDENTITY_SIZE, generator=torch.Generator().manual_seed(0)))
    observed = observe(encoder, decoder, recognizer, faces, OBSERVED_FACES)
    return Networks(encoder, decoder, recognizer, *fit(observed, band, learn(held_back(observed)[1])))


def write_graphs(networks: Networks, out: Path, inputs: Inputs) -> dict[str, float]:
    """Write encoder and decoder; returns how far each is from PyTorch.

    The recogniser's part of the encoder comes from its own file: to trace it anew cost as much as all the rest.
    """
    encoder = ServedEncoder(networks.encoder, networks.recognizer, networks.reach).eval()
    decoder = ServedDecoder(networks.decoder, networks.gain).eval()
    own = to_onnx(encoder.own, inputs.examples("image", "embedding"), ["identity"])
    recognizer = recognizer_of_frames(networks.recognizer.path, *recognizer_maps())
    drawing = to_onnx(decoder, inputs.examples("identity", "control"), ["image"])
    parity = {}
    for name, module, graph, takes, trained, tolerance in (
        ("encoder", encoder, behind(recognizer, own), ["image"], ("encoder.", "reach."), IDENTITY_TOLERANCE),
        ("decoder", decoder, drawing, ["identity", "control"], "", IMAGE_TOLERANCE),
    ):
        path = out / f"{name}.onnx"
        save(graph, path, trained)
        parity[name] = check_parity(module, path, {key: inputs.by_name[key] for key in takes}, tolerance)
    return parity


def write_narrow(out: Path, faces: FaceSet, inputs: Inputs) -> float:
    """Write the decoder in int8, calibrated on faces and on random identities; returns how close it is in dB."""
    rows = np.sort(np.random.default_rng(1).permutation(len(faces))[:CALIBRATION_FACES])
    found = ort.InferenceSession(out / NETWORKS["encoder"]).run(["identity"], {"image": faces.faces[rows]})[0]
    drawn = inputs.by_name["identity"](CALIBRATION_FACES)
    return write_int8(out, np.concatenate([found, drawn]), inputs.by_name["control"])


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
        out: folder to write to; third-party networks are copied there if it has not the same.
        version: version of the model, as clients see it.
        facts: `controls`, `thresholds`, `redrawing` and `metrics`, as `evaluate` measured them.
        faces: the training faces, to fit the latent's distribution and the reach of the controls on (see `whitening`
            and `reach`); without them neither is fitted, and there is no decoder in int8.
    """
    out.mkdir(parents=True, exist_ok=True)
    encoder, decoder, images = load_networks(checkpoint, config)
    networks = Networks(encoder, decoder, FrozenRecognizer(models / THIRD_PARTY["recognizer"]))
    if faces is not None:
        thresholds = facts.get("thresholds") or json.loads((models / "manifest.json").read_text())["thresholds"]
        networks = fitted(networks, faces, (thresholds["fmr_1e-3"], thresholds["genuine_median"]))
    inputs = Inputs()
    parity = write_graphs(networks.rounded(), out, inputs)
    files = {"encoder": NETWORKS["encoder"], "decoder": NETWORKS["decoder"], **THIRD_PARTY}
    if faces is not None:
        parity["decoder_int8"] = write_narrow(out, faces, inputs)
        files["decoder_int8"] = NETWORKS["decoder_int8"]
    for name in THIRD_PARTY.values():
        _bring(models / name, out / name)
    training = {
        "checkpoint": digest(checkpoint),
        "fitted_on_faces": 0 if faces is None else len(faces),
        "faces_seen": images,
        "settings": config.model_dump(mode="json"),
        "similarity_foreseen": networks.foreseen,
    }
    return write_manifest(out, version, files, facts, training, parity)


def _bring(network: Path, place: Path) -> None:
    """Copy a network, unless it is there. Another one, or a copy that was cut short, would be served with the rest."""
    data = network.read_bytes()
    if not place.exists() or place.read_bytes() != data:
        with replacing(place) as unfinished:
            unfinished.write_bytes(data)


def write_manifest(
    out: Path,
    version: str,
    files: dict[str, str],
    facts: dict[str, Any],
    training: dict[str, Any],
    parity: dict[str, Any],
) -> dict[str, Any]:
    """Write `manifest.json` beside the graphs that it describes; returns it."""
    manifest = {
        "name": "lookalike",
        "version": version,
        "created": datetime.date.today().isoformat(),
        "frame_size": FRAME_SIZE,
        "image_size": FRAME_SIZE,
        "crop_size": RECOGNIZER_SIZE,
        "identity_size": IDENTITY_SIZE,
        "control_size": CONTROL_SIZE,
        "files": {key: describe(out / name) for key, name in files.items()},
        **facts,
        "training": training,
        "parity": parity,
    }
    _write(out / "manifest.json", manifest)
    return manifest


def _write(path: Path, manifest: dict[str, Any]) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(manifest, indent=2) + "\n")


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
    # The detail stage is measured by itself.
    if (detail := manifest.get("metrics", {}).get("detail")) and "metrics" in facts:
        facts = facts | {"metrics": facts["metrics"] | {"detail": detail}}
    manifest |= {"version": version} | facts | last
    _write(path, manifest)
    return manifest
