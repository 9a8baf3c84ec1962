"""Networks of which one knows what they do, to evaluate."""

from __future__ import annotations

import csv

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageEnhance
from skimage import data

from tests.model_export.conftest import MODELS

BRIGHTNESS = 5
"""The control of the toy decoder that lights the whole picture; the last one does nothing."""


def save(path, nodes, inputs, outputs, constants):
    values = [
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in part] for part in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "toy", *values, tensors), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    onnx.save(model, path)


def smooth_patterns():
    """What each control of the toy decoder adds to a picture, [10, 64, 64, 3]."""
    chance = np.random.default_rng(1)
    patterns = np.stack(
        [
            np.asarray(
                Image.fromarray(chance.normal(0, 60, (6, 6)).astype(np.float32)).resize((64, 64), Image.BICUBIC)
            )[..., None].repeat(3, -1)
            for _ in range(10)
        ]
    )
    patterns[BRIGHTNESS] = 30
    patterns[9] = 0
    return patterns


@pytest.fixture(scope="session")
def models(face_set, tmp_path_factory):
    """A linear encoder and decoder: principal components of the faces, plus one smooth pattern a control."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("face_detector_back", "face_detector_full_range", "face_recognizer"):
        (folder / f"{name}.onnx").write_bytes((MODELS / f"{name}.onnx").read_bytes())
    small = np.stack([np.asarray(Image.fromarray(face).reduce(2), np.float32) for face in face_set.faces])
    flat = small.reshape(len(small), -1)
    mean = flat.mean(0)
    components = np.linalg.svd(flat - mean, full_matrices=False)[2][:20].astype(np.float32)
    basis = np.concatenate([components, np.zeros((50, flat.shape[1]), np.float32)]) * 300
    patterns = smooth_patterns()
    save(
        folder / "encoder.onnx",
        [
            helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("AveragePool", ["floats"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Transpose", ["small"], ["back"], perm=[0, 2, 3, 1]),
            helper.make_node("Flatten", ["back"], ["flat"]),
            helper.make_node("Sub", ["flat", "mean"], ["centred"]),
            helper.make_node("MatMul", ["centred", "project"], ["identity"]),
        ],
        [("image", TensorProto.UINT8, ["n", 128, 128, 3])],
        [("identity", TensorProto.FLOAT, ["n", 70])],
        {"mean": mean, "project": basis.T / 300**2},
    )
    save(
        folder / "decoder.onnx",
        [
            helper.make_node("MatMul", ["identity", "basis"], ["face"]),
            helper.make_node("MatMul", ["control", "patterns"], ["change"]),
            helper.make_node("Sum", ["face", "change", "mean"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["small"]),
            helper.make_node("Transpose", ["small"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Resize", ["planes", "", "scale"], ["large"], mode="linear"),
            helper.make_node("Transpose", ["large"], ["back"], perm=[0, 2, 3, 1]),
            helper.make_node("Clip", ["back", "low", "high"], ["clipped"]),
            helper.make_node("Cast", ["clipped"], ["image"], to=TensorProto.UINT8),
        ],
        [("identity", TensorProto.FLOAT, ["n", 70]), ("control", TensorProto.FLOAT, ["n", 10])],
        [("image", TensorProto.UINT8, ["n", 128, 128, 3])],
        {
            "basis": basis,
            "patterns": patterns.reshape(10, -1).astype(np.float32),
            "mean": mean,
            "shape": np.array([-1, 64, 64, 3]),
            "scale": np.array([1, 1, 2, 2], np.float32),
            "low": np.float32(0),
            "high": np.float32(255),
        },
    )
    return folder


@pytest.fixture(scope="session")
def prepared(face_set, tmp_path_factory):
    """The face set as `prepare` would leave it: 40 faces to train on, 24 to test."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in ("faces", "embeddings", "embeddings_mirrored"):
        np.save(folder / f"{name}.npy", getattr(face_set, name))
    with (folder / "faces.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "split", "age", "gender", "group", "grey", "cluster"])
        for row, name in enumerate(face_set.names):
            gender, group = face_set.gender_names[face_set.genders[row]], face_set.group_names[face_set.groups[row]]
            split = "train" if row < 40 else "test"
            writer.writerow([name, split, face_set.ages[row], gender, group, 0, row])
    (folder / "report.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def judged_by(tmp_path_factory):
    """A second recogniser of another kind: the picture itself, much reduced."""
    path = tmp_path_factory.mktemp("judge") / "judge.onnx"
    save(
        path,
        [helper.make_node("AveragePool", ["image"], ["embedding"], kernel_shape=[16, 16], strides=[16, 16])],
        [("image", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [("embedding", TensorProto.FLOAT, ["n", 3, 4, 4])],
        {},
    )
    return path


@pytest.fixture(scope="session")
def profiles(tmp_path_factory):
    """Twelve people as they turn to the side, and one of whom there is only a wall; and frontal photographs of each."""
    folder, chance = tmp_path_factory.mktemp("profiles"), np.random.default_rng(4)
    portrait = Image.fromarray(data.astronaut())
    wall = Image.fromarray(chance.integers(90, 110, (256, 256, 3), np.uint8))
    for person in range(13):
        for kind in ("profile", "frontal"):
            (folder / f"{person:03}" / kind).mkdir(parents=True)
        lit = ImageEnhance.Brightness(portrait).enhance(0.8 + 0.03 * person)
        (lit if person < 12 else wall).save(folder / f"{person:03}" / "profile" / "01.jpg")
        wall.save(folder / f"{person:03}" / "frontal" / "01.jpg")
    return folder
