"""Export: the graphs compute what PyTorch computes, take any batch, and the manifest tells the truth."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

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
from tests.model_export.conftest import MODELS
from tests.model_export.tiny import TINY, trainer

# What they share takes long to make: once is enough.
pytestmark = pytest.mark.xdist_group("export")


@pytest.fixture(scope="module")
def exported(face_set: FaceSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    learner = trainer(face_set)
    learner.step()
    learner.save(folder / "checkpoint.pt")
    (folder / "config.json").write_text(TINY.model_dump_json())
    facts = {"controls": [{"name": f"control {index}"} for index in range(10)], "thresholds": {"fmr_1e-3": 0.5}}
    exporting.export(folder / "checkpoint.pt", TINY, MODELS, folder / "out", "1.2.3", facts)
    return folder / "out"


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
    manifest = json.loads((exported / "manifest.json").read_text())
    assert (manifest["version"], manifest["frame_size"], manifest["identity_size"]) == ("1.2.3", 128, 70)
    assert (manifest["image_size"], manifest["crop_size"]) == (128, 112)
    assert set(manifest["files"]) == {"encoder", "decoder", "detector_near", "detector_far", "recognizer"}
    for entry in manifest["files"].values():
        assert hashlib.sha256((exported / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert manifest["files"]["decoder"]["inputs"] == {"identity": ["n", 70], "control": ["n", 10]}
    assert manifest["parity"]["encoder"] <= exporting.IDENTITY_TOLERANCE
    assert len(manifest["controls"]) == 10


def test_what_was_fitted_on_faces_is_served(face_set: FaceSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = trainer(face_set)
    learner.save(tmp_path / "checkpoint.pt")
    many = replace(
        face_set,
        **{
            name: np.concatenate([getattr(face_set, name)] * 5)
            for name in ("faces", "embeddings", "embeddings_mirrored", "clusters", "ages", "genders", "groups", "grey")
        },
        names=face_set.names * 5,
    )
    torch.manual_seed(0)
    gain = Gain(Surrogate().eval(), 0.6)
    gain.slope = -0.1
    # An untrained decoder does not heed its controls, so there would be nothing to fit.
    monkeypatch.setattr(exporting, "learn", lambda _: None)
    monkeypatch.setattr(exporting, "fit", lambda *_: (Reach(), gain, 0.5))
    monkeypatch.setattr(exporting, "OBSERVED_FACES", 8)
    monkeypatch.setattr(quantize, "LEAST_FIDELITY", 0)
    facts = {"thresholds": {"fmr_1e-3": 0.5, "genuine_median": 0.74}}
    out = tmp_path / "out"
    manifest = exporting.export(tmp_path / "checkpoint.pt", TINY, MODELS, out, "1", facts, many)
    assert manifest["training"]["similarity_foreseen"] == 0.5
    assert manifest["training"]["fitted_on_faces"] == 320
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(manifest["training"]["settings"]))
    assert TrainConfig.load(settings) == TINY, "the next run can be trained as this one was"
    assert set(manifest["files"]) >= {"encoder", "decoder", "decoder_int8"}
    encoder, decoder = (ort.InferenceSession(out / f"{name}.onnx") for name in ("encoder", "decoder"))
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


def test_facts_are_added_without_another_export_while_everything_is_the_same(
    exported: Path, tmp_path: Path, face_set: FaceSet
) -> None:
    checkpoint = exported.parent / "checkpoint.pt"
    out = shutil.copytree(exported, tmp_path / "out")
    before = json.loads((out / "manifest.json").read_text())
    facts = {"thresholds": {"fmr_1e-3": 0.6}}
    after = exporting.add_facts(checkpoint, out, "1.2.4", facts, None)
    assert after == before | {"version": "1.2.4"} | facts
    assert json.loads((out / "manifest.json").read_text()) == after
    assert exporting.add_facts(checkpoint, tmp_path, "1", facts, None) is None, "nothing was exported there"
    assert exporting.add_facts(checkpoint, out, "1", facts, face_set) is None, "it was not fitted on faces"
    assert exporting.add_facts(exported.parent / "config.json", out, "1", facts, None) is None, "another checkpoint"
    with (out / "decoder.onnx").open("ab") as file:
        file.write(b"0")
    assert exporting.add_facts(checkpoint, out, "1", facts, None) is None, "the graphs were changed"


def test_a_graph_that_differs_from_pytorch_is_refused(exported: Path) -> None:
    class Wrong(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(len(image), 70), torch.zeros(len(image), 192)

    make = {"image": lambda count: np.random.default_rng(0).integers(0, 256, (count, 128, 128, 3), np.uint8)}
    with pytest.raises(ValueError, match="differs from PyTorch"):
        graphs.check_parity(Wrong(), exported / "encoder.onnx", make, 1e-6)


def test_a_graph_over_the_limit_is_refused(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="MiB"):
        graphs.save(onnx.load(exported / "decoder.onnx"), tmp_path / "decoder.onnx")
    assert not (tmp_path / "decoder.onnx").exists()
