"""From a photograph to look-alikes in one call, as somebody would write it who puts the ONNX files behind a server.

It uses the product's own detection, alignment and image files, and computes what an answer of the product has: the face
redrawn as well, by which its fidelity is told, and the mark in each picture. So what is compared is the serving.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from app.core.faces import Detector, align, recognizer_maps, similarity
from app.core.generate import Generator, sample_controls
from app.core.images import normalised, read_photo, write_image
from app.core.provenance import Provenance
from app.core.watermark import Message, Watermark

MODELS = Path("app/models")
THREADS = 1
"""One process a core, each with one thread: on a CPU that gives a request-at-a-time server the most images a second."""


class ShippedFiles:
    """The ONNX files as they lie on the disk, the crop between them in NumPy."""

    def __init__(self, models: Path, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._encoder, self._decoder, self._recognizer = (
            ort.InferenceSession(models / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
            for name in ("encoder", "decoder", "face_recognizer")
        )

    def _recognise(self, faces: Any) -> Any:
        rows, columns = recognizer_maps()
        crop = np.einsum("ih,nhwc,jw->nijc", rows, normalised(faces), columns, optimize=True)
        (vectors,) = self._recognizer.run(None, {self._recognizer.get_inputs()[0].name: crop.astype(np.float32)})
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode(self, faces: Any) -> tuple[Any, Any]:
        """As `Generator.encode`."""
        identities, embeddings = self._encoder.run(None, {"image": faces})
        return identities, embeddings

    def decode(self, identities: Any, controls: Any) -> tuple[Any, Any]:
        """As `Generator.decode`."""
        (images,) = self._decoder.run(None, {"identity": identities, "control": controls})
        return images, self._recognise(images)


class Pipeline:
    """One photograph in, `count` look-alikes out, as JSON."""

    def __init__(self) -> None:
        self._detector = Detector(MODELS, "cpu", 1)
        rewritten = os.environ.get("PEER_GRAPHS") == "rewritten"
        decoder = os.environ.get("PEER_DECODER", "decoder.onnx")
        self._networks = Generator(MODELS, "cpu", THREADS, decoder) if rewritten else ShippedFiles(MODELS, THREADS)
        self._watermark, self._message = Watermark(), Message(0, 0)

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        """`image` in base64, `count`, `seed` -> `variants`."""
        photo = read_photo(base64.b64decode(body["image"]), 64_000_000)
        face = self._detector(photo.image)[0]
        identities, embeddings = self._networks.encode(align(photo.image, face)[None])
        controls = sample_controls(body["seed"], body["count"], 1.0)
        drawn = np.concatenate([np.zeros_like(controls[:1]), controls])
        images, scores = self._networks.decode(np.repeat(identities, len(drawn), 0), drawn)
        fidelity, *similarities = similarity(scores, embeddings[0])
        said = Provenance("lookalike", "0.0.0", "0" * 32)
        files = [write_image(image, "jpeg", 95, said) for image in self._watermark.lay(images[1:], self._message)]
        return {
            "fidelity": fidelity,
            "variants": [
                {"control": control.tolist(), "similarity": score, "image": base64.b64encode(file).decode()}
                for control, score, file in zip(controls, similarities, files, strict=True)
            ],
        }
