"""A small face set of real aligned faces, made from scikit-image's photograph; the training faces are not shipped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from skimage import data

from app.core.faces import Detector, Recognizer, align
from model_export.preparing.dataset import FaceSet

MODELS = Path(__file__).parents[2] / "app" / "models"


DLIB_SHAPES = {
    "conv32_down": (7, 3, 4),
    "conv32_1/conv1": (3, 4, 4),
    "conv32_1/conv2": (3, 4, 4),
    "conv64_down/conv1": (3, 4, 6),
    "conv64_down/conv2": (3, 6, 6),
}
"""Kernel side, inputs and outputs of the convolutions of a recogniser as dlib's, of two blocks."""


@pytest.fixture(scope="session")
def face_set() -> FaceSet:
    """64 pictures of the astronaut in different light, size and place, with made-up labels."""
    photograph = Image.fromarray(data.astronaut())
    (face, *_) = Detector(MODELS, "cpu", threads=1)(photograph)
    random = np.random.default_rng(0)
    faces = []
    for _ in range(64):
        lit = ImageEnhance.Brightness(photograph).enhance(random.uniform(0.6, 1.4))
        lit = ImageEnhance.Color(lit).enhance(random.uniform(0.3, 1.7))
        faces.append(np.roll(align(lit, face), random.integers(-4, 5, 2), axis=(0, 1)))
    images = np.stack(faces)
    recognize = Recognizer(MODELS, "cpu", threads=1)
    return FaceSet(
        faces=images,
        embeddings=recognize(images),
        embeddings_mirrored=recognize(np.ascontiguousarray(images[:, :, ::-1])),
        names=[f"{index}.jpg" for index in range(len(images))],
        clusters=np.arange(len(images)),
        ages=random.uniform(18, 80, len(images)).astype(np.float32),
        genders=random.integers(0, 2, len(images)),
        groups=random.integers(0, 5, len(images)),
        grey=np.zeros(len(images), np.bool_),
        channel_differences=np.full(len(images), 40, np.float32),
        turns=np.zeros(len(images), np.float32),
        weights=np.ones(len(images), np.float32),
        estimated=np.zeros((len(images), 3), np.bool_),
        sources=np.zeros(len(images), np.int64),
        gender_names=("female", "male"),
        group_names=("asian", "black", "indian", "other", "white"),
        source_names=("astronaut",),
    )


@pytest.fixture
def dlib_weights(tmp_path: Path) -> Path:
    """A recogniser as dlib's, of two blocks, quantised to uint8 as the real one is."""
    random = np.random.default_rng(1)
    entries, data = [], b""
    arrays = {"fc": (6, 8)}
    for name, (side, inputs, outputs) in DLIB_SHAPES.items():
        arrays |= {f"{name}/conv/filters": (side, side, inputs, outputs), f"{name}/conv/bias": (outputs,)}
        arrays |= {f"{name}/scale/weights": (outputs,), f"{name}/scale/biases": (outputs,)}
    for name, shape in arrays.items():
        quantization = {"dtype": "uint8", "scale": 0.004, "min": -0.5}
        entries.append({"name": name, "shape": shape, "dtype": "float32", "quantization": quantization})
        data += random.integers(0, 256, int(np.prod(shape)), np.uint8).tobytes()
    (tmp_path / "weights.bin").write_bytes(data)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps([{"paths": ["weights.bin"], "weights": entries}]))
    return path
