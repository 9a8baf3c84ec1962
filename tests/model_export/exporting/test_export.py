"""Export: the graphs compute what PyTorch computes, take any batch, and the manifest tells the truth."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from model_export.exporting import export as exporting
from model_export.exporting import graphs, quantize
from model_export.exporting.reach import PORTRAIT_SIZE, Gain, Reach, Surrogate
from model_export.preparing.dataset import FaceSet
from model_export.training.config import TrainConfig
from model_export.training.networks import Networks
from tests.model_export.conftest import MODELS
from tests.model_export.tiny import TINY

VERSION = "1.2.3"
FILES = {"encoder", "decoder", "decoder_int8", "detector_near", "detector_far", "recognizer"}
FACTS = {
    "controls": [{"name": f"control {index}"} for index in range(10)],
    "thresholds": {"fmr_1e-3": 0.5, "genuine_median": 0.74},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks that were not trained, as a run would leave them, beside its settings."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    Networks(TINY, [8], [8], torch.device("cpu")).save(folder / "checkpoint.pt", images=0)
    (folder / "config.json").write_text(TINY.model_dump_json())
    return folder / "checkpoint.pt"


@pytest.fixture(scope="module")
def many(face_set: FaceSet) -> FaceSet:
    """As many faces as the latent is fitted on at least."""
    repeated = ("faces", "embeddings", "embeddings_mirrored", "clusters", "ages", "genders", "groups", "grey")
    arrays = {name: np.concatenate([getattr(face_set, name)] * 5) for name in repeated}
    return replace(face_set, **arrays, names=face_set.names * 5)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, many: FaceSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that is exported, fitted on faces: graphs take long to write, and one of each kind is enough."""
    out = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    gain = Gain(Surrogate().eval(), 0.6)
    gain.slope = -0.1
    with pytest.MonkeyPatch.context() as patch:
        # An untrained decoder does not heed its controls, so there would be nothing to fit.
        patch.setattr(exporting, "learn", lambda _: None)
        patch.setattr(exporting, "fit", lambda *_: (Reach(), gain, 0.5))
        patch.setattr(exporting, "OBSERVED_FACES", 8)
        patch.setattr(exporting, "CALIBRATION_FACES", 8)
        patch.setattr(quantize, "LEAST_FIDELITY", 0)
        manifest = exporting.export(checkpoint, TINY, MODELS, out, VERSION, FACTS, many)
    assert json.loads((out / "manifest.json").read_text()) == manifest
    return out


def test_networks_of_others_are_those_that_it_was_exported_with(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what a copy that was cut short, or an export with other ones, left in the folder."""

    def write_graphs(_: object, out: Path, __: object) -> dict[str, float]:
        for name in ("encoder.onnx", "decoder.onnx"):
            shutil.copy(MODELS / name, out)
        return {}

    monkeypatch.setattr(exporting, "write_graphs", write_graphs)
    whole = (MODELS / "face_recognizer.onnx").read_bytes()
    (tmp_path / "face_recognizer.onnx").write_bytes(whole[:1000])
    other = onnx.load(MODELS / "face_detector_back.onnx")
    other.doc_string = "another one"
    onnx.save(other, tmp_path / "face_detector_back.onnx")
    manifest = exporting.export(checkpoint, TINY, MODELS, tmp_path, VERSION, {})
    for role in ("recognizer", "detector_near", "detector_far"):
        name = manifest["files"][role]["file"]
        assert (tmp_path / name).read_bytes() == (MODELS / name).read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))


def told(folder: Path) -> dict[str, Any]:
    """What the manifest says."""
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


@pytest.mark.parametrize("count", [1, 3, 8])
def test_graphs_take_any_batch_and_give_bytes(exported: Path, face_set: FaceSet, count: int) -> None:
    encoder, decoder = (ort.InferenceSession(exported / f"{name}.onnx") for name in ("encoder", "decoder"))
    (identity,) = encoder.run(["identity"], {"image": face_set.faces[:count]})
    assert (identity.shape, identity.dtype) == ((count, 70), np.float32)
    (embedding,) = encoder.run(["embedding"], {"image": face_set.faces[:count]})
    np.testing.assert_allclose(embedding, face_set.embeddings[:count], atol=1e-5)
    (image,) = decoder.run(["image"], {"identity": identity, "control": np.zeros((count, 10), np.float32)})
    assert (image.shape, image.dtype) == ((count, 128, 128, 3), np.uint8)


def test_opset_size_and_storage(exported: Path) -> None:
    for name in ("encoder", "decoder"):
        model = onnx.load(exported / f"{name}.onnx")
        assert {item.domain: item.version for item in model.opset_import}[""] >= 17
        assert (exported / f"{name}.onnx").stat().st_size < 16 * 2**20
        large = [item for item in model.graph.initializer if np.prod(item.dims) >= 64 and item.data_type != 7]
        assert large
        # The recogniser's weights in the encoder stay as they are, for similarities to be its own.
        trained = [item for item in large if name == "decoder" or item.name.startswith("encoder.")]
        assert trained
        assert {item.data_type for item in trained} == {onnx.TensorProto.FLOAT16}
        assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def test_manifest_names_every_file_with_its_checksum(exported: Path) -> None:
    manifest = told(exported)
    assert (manifest["version"], manifest["frame_size"], manifest["identity_size"]) == (VERSION, 128, 70)
    assert (manifest["image_size"], manifest["crop_size"]) == (128, 112)
    assert set(manifest["files"]) == FILES
    for entry in manifest["files"].values():
        assert hashlib.sha256((exported / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert manifest["files"]["decoder"]["inputs"] == {"identity": ["n", 70], "control": ["n", 10]}
    assert manifest["parity"]["encoder"] <= exporting.IDENTITY_TOLERANCE
    assert len(manifest["controls"]) == 10


def test_what_was_fitted_on_faces_is_served(exported: Path, face_set: FaceSet, tmp_path: Path) -> None:
    manifest = told(exported)
    assert manifest["training"]["similarity_foreseen"] == 0.5
    assert manifest["training"]["fitted_on_faces"] == 320
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(manifest["training"]["settings"]))
    assert TrainConfig.load(settings) == TINY, "the next run can be trained as this one was"
    encoder, decoder = (ort.InferenceSession(exported / f"{name}.onnx") for name in ("encoder", "decoder"))
    (identity,) = encoder.run(["identity"], {"image": face_set.faces[:4]})
    control = np.random.default_rng(0).uniform(-1, 1, (4, 10)).astype(np.float32)
    (drawn,) = decoder.run(["image"], {"identity": identity, "control": control})
    # The free entries reach the gain and nothing else: with control 0 they change nothing.
    other = identity.copy()
    other[:, PORTRAIT_SIZE:] += 1
    still = np.zeros_like(control)
    plain, turned = (decoder.run(["image"], {"identity": given, "control": still})[0] for given in (identity, other))
    assert np.array_equal(plain, turned)
    assert drawn.shape == plain.shape


def test_without_faces_nothing_is_fitted(
    exported: Path, checkpoint: Path, face_set: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[exporting.Networks] = []

    def write(networks: exporting.Networks, out: Path, _: exporting.Inputs) -> dict[str, float]:
        """Only as far as the manifest needs it; tests/docs has graphs of networks that were not fitted."""
        written.append(networks)
        for name in ("encoder.onnx", "decoder.onnx"):
            shutil.copy(exported / name, out)
        return {}

    monkeypatch.setattr(exporting, "write_graphs", write)
    exporting.export(checkpoint, TINY, MODELS, tmp_path, VERSION, FACTS)
    (networks,) = written
    assert networks.reach is networks.gain is None
    manifest = told(tmp_path)
    assert manifest["training"]["fitted_on_faces"] == 0
    assert manifest["training"]["similarity_foreseen"] is None
    assert set(manifest["files"]) == FILES - {"decoder_int8"}
    assert not (tmp_path / "decoder_int8.onnx").exists()
    assert exporting.add_facts(checkpoint, tmp_path, "1", FACTS, face_set) is None, "it was not fitted on faces"
    assert exporting.add_facts(checkpoint, tmp_path, "1", FACTS, None) is not None


def test_facts_are_added_without_another_export_while_everything_is_the_same(
    exported: Path, checkpoint: Path, many: FaceSet, tmp_path: Path
) -> None:
    out = shutil.copytree(exported, tmp_path / "out")
    before = told(out)
    facts = {"thresholds": {"fmr_1e-3": 0.6}}
    after = exporting.add_facts(checkpoint, out, "1.2.4", facts, many)
    assert after == before | {"version": "1.2.4"} | facts
    assert told(out) == after
    assert exporting.add_facts(checkpoint, tmp_path, "1", facts, many) is None, "nothing was exported there"
    assert exporting.add_facts(checkpoint, out, "1", facts, None) is None, "it was fitted on faces"
    assert exporting.add_facts(checkpoint.parent / "config.json", out, "1", facts, many) is None, "another checkpoint"
    with (out / "decoder.onnx").open("ab") as file:
        file.write(b"0")
    assert exporting.add_facts(checkpoint, out, "1", facts, many) is None, "the graphs were changed"


@pytest.mark.parametrize(("value", "complaint"), [(0.0, "differs from PyTorch"), (np.nan, "is no number")])
def test_a_graph_that_differs_from_pytorch_is_refused(exported: Path, value: float, complaint: str) -> None:
    class Wrong(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.full((len(image), 70), value), torch.zeros(len(image), 192)

    make = {"image": lambda count: np.random.default_rng(0).integers(0, 256, (count, 128, 128, 3), np.uint8)}
    with pytest.raises(ValueError, match=complaint):
        graphs.check_parity(Wrong(), exported / "encoder.onnx", make, 1e-6)


def test_a_graph_over_the_limit_is_refused(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="MiB"):
        graphs.save(onnx.load(exported / "decoder.onnx"), tmp_path / "decoder.onnx")
    assert not (tmp_path / "decoder.onnx").exists()
