"""A small face set of real aligned faces, made from scikit-image's photograph; the training faces are not shipped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
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


@pytest.fixture(scope="session")
def landmark_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up network in the form of faceplugin's: 64 x 64 grey -> 136 numbers around the middle of the frame."""
    random = np.random.default_rng(5)
    shapes = {
        "w0": (4, 1, 3, 3), "b0": (4,), "w1": (4, 1, 3, 3), "b1": (4,), "w2": (136, 4096), "b2": (136,),
        "scale": (136,), "shift": (136,), "mean": (136,), "variance": (136,),
    }  # fmt: skip
    arrays = {name: random.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["scale"] += 0.1
    arrays["shift"] += 0.5
    arrays["variance"] = np.abs(arrays["variance"]) + 1
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["input", "w0", "b0"], ["a"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], group=1),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "w1", "b1"], ["c"], kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1], group=4),
        node("Add", ["b", "c"], ["d"]),
        node("Flatten", ["d"], ["e"], axis=1),
        node("Gemm", ["e", "w2", "b2"], ["f"], transB=1),
        node("BatchNormalization", ["f", "scale", "shift", "mean", "variance"], ["output"], epsilon=1e-5),
    ]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "landmarks",
        [value("input", onnx.TensorProto.FLOAT, ["n", 1, 64, 64])],
        [value("output", onnx.TensorProto.FLOAT, ["n", 136])],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    path = tmp_path_factory.mktemp("landmarks") / "landmarks.onnx"
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path
