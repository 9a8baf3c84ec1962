"""The evaluation from end to end, on networks of which one knows what they do."""

import csv
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from app.runtime.manifest import Control
from model_export.__main__ import main
from model_export.evaluation import card, command, judge
from model_export.evaluation.samples import Looks, Variants, match_jitter, morph, nearest_others, random_controls
from tests.model_export.conftest import MODELS

# What they share takes long to make: once is enough.
pytestmark = pytest.mark.xdist_group("evaluate")

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


SMALL = ["--faces", "18", "--controls", "6", "--wide", "24", "--baseline-faces", "4", "--reference", "40"]
SMALL += ["--sweep-faces", "2", "--random", "6", "--threads", "1"]
SMALL += ["--resamples", "60", "--steps", "5"]


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
def evaluated(prepared, models, judged_by, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    document = out / "CARD.md"
    document.write_text(f"# Card\nabove\n{card.BEGIN}\nold\n{card.END}\nbelow\n")
    words = ["evaluate", str(prepared), str(models), str(out), "--judge", str(judged_by), "--card", str(document)]
    assert main([*words, *SMALL]) == 0
    return out


@pytest.fixture(scope="session")
def result(evaluated):
    return json.loads((evaluated / "evaluation.json").read_text())


def test_every_row_is_there_with_an_interval_around_its_value(result):
    metrics = result["metrics"]
    for path, _, _ in card.HEADLINES:
        entry = card.find(metrics, path)
        assert entry is not None, path
        if path.startswith("fairness"):  # every group is too small to count here
            assert entry["value"] is None, path
            continue
        low, high = entry["interval"]
        assert low <= high, path
    assert set(metrics["baselines"]) == {"latent_jitter", "pixel_morph"}


def test_thresholds_are_what_the_manifest_wants(result):
    thresholds = result["thresholds"]
    assert set(thresholds) == {"fmr_1e-2", "fmr_1e-3", "fmr_1e-4", "genuine_median"}
    assert thresholds["fmr_1e-2"] <= thresholds["fmr_1e-3"] <= thresholds["fmr_1e-4"]
    assert thresholds["genuine_median"] == command.QUOTED_GENUINE_MEDIAN
    assert "quoted" in result["metrics"]["calibration"]["genuine_median"]["quoted_from"]


def test_ten_distinct_controls_and_the_dead_one_is_called_dead(result):
    controls = [Control.model_validate(entry) for entry in result["controls"]]
    assert len({control.name for control in controls}) == 10
    assert controls[9].name == "no effect 10"
    assert controls[BRIGHTNESS].name == "brightness"
    assert "brighter picture" in controls[BRIGHTNESS].effect


def test_linear_patterns_are_recovered_and_the_dead_control_is_not(result):
    scores = [entry["value"] for entry in result["metrics"]["control_recoverability"]["r2"]]
    assert min(scores[:9]) > 0.7
    assert scores[9] < 0.3
    assert result["metrics"]["control_recoverability"]["r2_worst"]["value"] == pytest.approx(scores[9])
    assert result["metrics"]["control_recoverability"]["r2_worst"]["met"] is False


def test_the_same_seed_gives_the_same_figures(prepared, models, judged_by, result, tmp_path):
    words = ["evaluate", str(prepared), str(models), str(tmp_path), "--judge", str(judged_by)]
    assert main([*words, *SMALL]) == 0
    again = json.loads((tmp_path / "evaluation.json").read_text())
    for each in (again, result):
        each["metrics"].pop("seconds", None)
    assert again == result


def test_pictures_and_tables_are_written(evaluated, result):
    for name in ("similarities.png", "responses.png", "fairness.png"):
        assert Image.open(evaluated / name).width > 100
    for name in (
        "reconstructions",
        "variants",
        "best",
        "worst",
        "sweeps_1",
        "random_identities",
        "nearest_training_faces",
    ):
        assert Image.open(evaluated / f"{name}.webp").width >= 128
    text = (evaluated / "CARD.md").read_text()
    assert text.startswith("# Card\nabove\n")
    assert text.endswith("below\n")
    assert "old" not in text.split()
    assert (evaluated / "tables.md").read_text() in text
    for control in result["controls"]:
        assert control["effect"] in text


def test_a_card_without_markers_is_refused(tmp_path):
    document = tmp_path / "CARD.md"
    document.write_text("prose")
    with pytest.raises(ValueError, match="lacks the lines"):
        card.write(document, "tables")
    assert document.read_text() == "prose"


def test_embeddings_of_another_recogniser_are_refused(prepared, models, tmp_path):
    for path in prepared.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    np.save(tmp_path / "embeddings.npy", -np.load(prepared / "embeddings.npy"))
    with pytest.raises(ValueError, match="not of this recogniser"):
        command.Evaluation(tmp_path, models, None, command.Settings(), threads=1)


def test_a_variant_is_in_band_below_or_above_it_and_the_judge_only_asks_for_enough():
    measured = object.__new__(command.Evaluation)
    measured.settings, measured.band, measured.judge_threshold = command.Settings(resamples=20), (0.5, 0.74), 0.6
    similarity = np.array([[0.4, 0.5, 0.6, 0.74], [0.45, 0.7, 0.8, 0.9]])
    judged = np.array([[0.9, 0.9, 0.1, 0.6], [0.9, 0.99, 0.1, 0.1]])
    rates = measured.in_band(Variants(np.empty((2, 4)), similarity, judged))
    assert [rates[name].value for name in ("rate", "below", "above")] == [0.5, 0.25, 0.25]
    assert rates["judge_taken_for_the_person"].value == 5 / 8
    assert rates["in_band_and_taken_by_the_judge"].value == 3 / 8


# -- parts ----------------------------------------------------------------------------------------------------------


def test_controls_fill_the_cube_and_differ_from_face_to_face():
    controls = random_controls(40, 10, 0)
    assert controls.shape == (40, 10, 10)
    assert np.abs(controls).max() <= 1
    assert np.abs(controls).max() > 0.99
    assert not np.array_equal(controls[0], controls[1])
    assert np.array_equal(controls, random_controls(40, 10, 0))


def test_morphs_go_from_the_face_to_the_other():
    face, other = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 200, np.uint8)
    assert morph(face, other, np.array([0, 0.25, 1]))[0, :, 0, 0, 0].tolist() == [0, 50, 200]


def test_the_nearest_other_is_of_another_cluster():
    embeddings = np.array([[1, 0], [1, 0], [0.8, 0.6], [0, 1]], np.float32)
    assert nearest_others(embeddings, np.array([0, 0, 1, 2])).tolist() == [2, 2, 0, 2]


def test_jitter_is_scaled_to_the_wanted_similarity():
    class Turning:
        """Similarity to the source falls by a tenth for each unit of noise."""

        def decode(self, identities, controls):
            similarity = 1 - 0.1 * np.abs(identities).max(1)
            return None, np.column_stack([similarity, np.zeros(len(controls))]).astype(np.float32)

    identities = np.zeros((50, 70), np.float32)
    noise = np.abs(np.random.default_rng(4).standard_normal(identities.shape).astype(np.float32)).max(1)
    sources = np.tile(np.array([[1, 0]], np.float32), (50, 1))
    scale = match_jitter(Turning(), identities, sources, 0.7, seed=4)
    assert np.median(1 - 0.1 * scale * noise) == pytest.approx(0.7, abs=0.01)


def test_distance_of_a_face_to_itself_is_none_and_spread_is_the_mean_over_pairs(face_set):
    looks = Looks()
    faces = np.ascontiguousarray(face_set.faces[:3])
    assert looks.distance(faces, faces) == pytest.approx(np.zeros(3), abs=1e-6)
    pairs = [looks.distance(faces[[a]], faces[[b]])[0] for a, b in ((0, 1), (0, 2), (1, 2))]
    assert looks.spread(faces[None]) == pytest.approx([np.mean(pairs)], rel=1e-4)


def test_degrading_blurs_but_keeps_the_face(face_set):
    faces = np.ascontiguousarray(face_set.faces[:2])
    degraded = command.degrade(faces)
    assert degraded.shape == faces.shape
    change = np.abs(degraded.astype(float) - faces).mean()
    assert 0.5 < change < 15


def tfjs_model(folder):
    """A graph model of two layers as TensorFlow.js stores it, its weights as float16."""
    chance = np.random.default_rng(0)
    weights = {
        "kernel": chance.normal(size=(3, 3, 3, 4)),
        "offset": chance.normal(size=4),
        "depth": chance.normal(size=(3, 3, 4, 1)),
        "axes": None,
    }
    stored, entries = b"", []
    for name, value in weights.items():
        if value is None:
            stored += np.array([1, 2], np.int32).tobytes()
            entries.append({"name": name, "shape": [2], "dtype": "int32"})
        else:
            stored += value.astype(np.float16).tobytes()
            quantization = {"dtype": "float16", "original_dtype": "float32"}
            entries.append({"name": name, "shape": value.shape, "dtype": "float32", "quantization": quantization})

    def strides(step):
        return {"strides": {"list": {"i": ["1", step, step, "1"]}}}

    sizes = {"shape": {"shape": {"dim": [{"size": "-1"}, {"size": "224"}, {"size": "224"}, {"size": "3"}]}}}
    nodes = [
        *({"name": name, "op": "Const"} for name in weights),
        {"name": "input", "op": "Placeholder", "attr": sizes},
        {"name": "conv", "op": "Conv2D", "input": ["input", "kernel"], "attr": strides("2")},
        {"name": "added", "op": "Add", "input": ["conv", "offset"]},
        {"name": "relu", "op": "Relu", "input": ["added"]},
        {"name": "deep", "op": "DepthwiseConv2dNative", "input": ["relu", "depth"], "attr": strides("1")},
        {"name": judge.FEATURES, "op": "Mean", "input": ["deep", "axes"]},
        {"name": "age", "op": "Softmax", "input": [judge.FEATURES]},
    ]
    (folder / "toy.bin").write_bytes(stored)
    manifest = [{"paths": ["toy.bin"], "weights": entries}]
    (folder / "toy.json").write_text(json.dumps({"modelTopology": {"node": nodes}, "weightsManifest": manifest}))
    return folder / "toy.json", {name: value for name, value in weights.items() if value is not None}


def test_a_tfjs_graph_computes_in_onnx_what_its_layers_say(tmp_path):
    source, weights = tfjs_model(tmp_path)
    (tmp_path / "judge.onnx").write_bytes(judge.convert(source).SerializeToString())
    grey = np.full((1, 128, 128, 3), 100, np.uint8)
    vector = judge.Judge(tmp_path / "judge.onnx", 1)(grey)[0]
    # Far from the border an even picture stays even: each convolution is the sum of its kernel.
    kernel, offset, depth = (weights[name].astype(np.float16).astype(float) for name in ("kernel", "offset", "depth"))
    inner = np.maximum(100 * kernel.sum((0, 1, 2)) + offset, 0) * depth.sum((0, 1, 3))
    expected = inner / np.linalg.norm(inner)
    assert vector == pytest.approx(expected, abs=0.05)


def test_a_network_that_takes_no_pictures_is_no_judge(tmp_path):
    save(
        tmp_path / "no.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, ["n", 5])],
        [("y", TensorProto.FLOAT, ["n", 5])],
        {},
    )
    with pytest.raises(ValueError, match="a judge takes one input"):
        judge.Judge(tmp_path / "no.onnx")
