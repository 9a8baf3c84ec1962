"""Named controls are judged by landmarks; here by a stand-in of which one knows what it measures."""

import base64
import json

import numpy as np
import onnxruntime as ort
import pytest

from app.runtime.manifest import Control
from model_export.evaluation import features, mesh
from model_export.evaluation.metrics import Intervals
from model_export.networks.landmarks import FEATURES
from model_export.training.config import RECIPES, TrainConfig

STEERED = ("chin", "nose_width")


class Standing:
    """A sample whose pictures are their own measurements: the mean of row i is feature i."""

    mesh = object()
    steered = STEERED
    intervals = Intervals(50, 0)


def test_every_feature_that_can_be_steered_has_two_ends_and_a_unit():
    assert features.ENDS.keys() == {"age", *FEATURES}
    for name, (low, high, unit) in features.ENDS.items():
        Control(name=name, low=low, high=high, unit=unit)


def test_the_shipped_recipes_name_features_that_have_ends():
    for path in RECIPES.glob("*.json"):
        steering = TrainConfig.load(path).steering
        assert steering is None or set(steering.controls) <= features.ENDS.keys()


def test_a_control_that_moves_its_own_feature_alone_passes(monkeypatch):
    walked = np.zeros((5, 10, 9, len(FEATURES)))
    walked[:, 1, :, FEATURES.index("chin")] = np.linspace(-0.8, 0.8, 9)
    walked[:, 2, :, FEATURES.index("nose_width")] = np.linspace(-0.4, 0.4, 9)
    walked[:, 2, :, FEATURES.index("mouth_width")] = np.linspace(0.3, -0.3, 9)
    monkeypatch.setattr(features, "changes", lambda _: walked)
    found = features.named_controls(Standing())
    chin, nose = found["controls"]["chin"], found["controls"]["nose_width"]
    assert chin["change"]["value"] == pytest.approx(1.6)
    assert chin["change"]["met"]
    assert chin["elsewhere"]["value"] == 0
    assert chin["rank_correlation"] == pytest.approx(1)
    assert nose["change"]["value"] == pytest.approx(0.8)
    assert not nose["change"]["met"]
    assert (nose["elsewhere"]["feature"], nose["elsewhere"]["met"]) == ("mouth_width", False)
    assert nose["elsewhere"]["value"] == pytest.approx(0.6)
    assert found["moved_enough"]["value"] == 1


def test_names_come_from_what_is_steered(monkeypatch):
    by_effect = [{"name": f"light {index}", "effect": "measured"} for index in range(10)]
    monkeypatch.setattr(features, "named_by_effect", lambda _: [dict(entry) for entry in by_effect])
    monkeypatch.setattr(features, "changes", lambda _: np.zeros((2, 10, 9, len(FEATURES))))
    entries = features.named(Standing())
    assert [entry["name"] for entry in entries[:4]] == ["age", "chin", "nose_width", "light 3"]
    assert (entries[1]["low"], entries[1]["high"]) == ("short", "long")
    assert "+0.00 standard deviations" in entries[1]["effect"]
    unsteered = Standing()
    unsteered.steered = ()
    assert features.named(unsteered) == by_effect


def test_mesh_features_grow_the_way_their_names_say():
    points = np.random.default_rng(0).random((1, mesh.POINTS, 2)).astype(np.float32)

    def change(name, index, x, y):
        moved = points.copy()
        moved[0, index] += (x, y)
        return float((mesh.features(moved)[name] - mesh.features(points)[name])[0])

    assert mesh.features(points).keys() == set(FEATURES)
    assert change("chin", [152, 148, 377], 0, 0.1) == pytest.approx(0.1, abs=1e-5)
    assert change("brows", [63, 105, 66, 296, 334, 293], 0, -0.1) == pytest.approx(0.1, abs=1e-5)
    assert change("smile", [61, 291], 0, -0.1) == pytest.approx(0.1, abs=1e-5)
    assert change("nose_length", [2, 97, 326, 98, 327], 0, 0.1) == pytest.approx(0.1, abs=1e-5)
    assert change("turn", [4], 0.1, 0) == pytest.approx(0.1, abs=1e-5)


def test_a_mesh_of_tensorflow_js_is_converted(tmp_path):
    """Three layers as the mesh has them: a strided convolution with PReLU, a pool with a padded skip, the points."""
    chance = np.random.default_rng(0)
    arrays = {
        "kernel": chance.normal(0, 0.1, (3, 3, 3, 4)),
        "bias": chance.normal(0, 0.1, 4),
        "slope": np.full((1, 1, 4), 0.2),
        "deep": chance.normal(0, 0.1, (3, 3, 4, 1)),
        "last": chance.normal(0, 0.01, (48, 48, 6, 3 * mesh.POINTS)),
        "zero": np.zeros(3 * mesh.POINTS),
        "pads": np.array([[0, 0], [0, 0], [0, 0], [0, 2]]),
    }
    data, entries = b"", []
    for name, value in arrays.items():
        kind = "int32" if name == "pads" else "float32"
        data += value.astype(kind).tobytes()
        entries.append({"name": name, "shape": list(value.shape), "dtype": kind})
    (tmp_path / "weights.bin").write_bytes(data)

    def attributes(step, padding="SAME", **more):
        values = {
            "strides": {"list": {"i": ["1", step, step, "1"]}},
            "padding": {"s": base64.b64encode(padding.encode()).decode()},
        }
        return values | more

    pool = {"ksize": {"list": {"i": ["1", "2", "2", "1"]}}}
    nodes = [
        *({"name": name, "op": "Const"} for name in arrays),
        {"name": "input", "op": "Placeholder"},
        {"name": "a", "op": "_FusedConv2D", "input": ["input", "kernel", "bias", "slope"], "attr": attributes("2")},
        {"name": "b", "op": "DepthwiseConv2dNative", "input": ["a", "deep"], "attr": attributes("1")},
        {"name": "c", "op": "AddV2", "input": ["a", "b"]},
        {"name": "d", "op": "MaxPool", "input": ["c"], "attr": attributes("2", "VALID", **pool)},
        {"name": "e", "op": "Pad", "input": ["d", "pads"]},
        {"name": "f", "op": "_FusedConv2D", "input": ["e", "last", "zero"], "attr": attributes("1", "VALID")},
        {"name": "output_mesh/Reshape", "op": "Reshape", "input": ["f", "pads"]},
    ]
    model = {"modelTopology": {"node": nodes}, "weightsManifest": [{"paths": ["weights.bin"], "weights": entries}]}
    (tmp_path / "mesh.json").write_text(json.dumps(model))
    assert mesh.main([str(tmp_path / "mesh.json"), str(tmp_path / "mesh.onnx")]) == 0
    image = chance.random((2, mesh.SIDE, mesh.SIDE, 3)).astype(np.float32)
    (found,) = ort.InferenceSession(tmp_path / "mesh.onnx").run(None, {"image": image})
    assert found.shape == (2, 3 * mesh.POINTS)
    assert np.isfinite(found).all()
    points = mesh.FaceMesh(tmp_path / "mesh.onnx", 1)(np.zeros((1, 128, 128, 3), np.uint8))
    assert points.shape == (1, mesh.POINTS, 2)

    nodes[-1]["op"] = "Softmax"
    (tmp_path / "mesh.json").write_text(json.dumps(model))
    with pytest.raises(ValueError, match="cannot convert the operator Softmax"):
        mesh.convert(tmp_path / "mesh.json")
