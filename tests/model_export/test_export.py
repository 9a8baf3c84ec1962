"""Export: the graphs compute what PyTorch computes, take any batch, and the manifest tells the truth."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from model_export import export as exporting
from model_export.dataset import FaceSet
from tests.model_export.conftest import MODELS
from tests.model_export.test_train import TINY, trainer


@pytest.fixture(scope="module")
def exported(face_set: FaceSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    learner = trainer(face_set)
    learner.step()
    learner.save(folder / "checkpoint.pt")
    (folder / "config.json").write_text(json.dumps(asdict(TINY)))
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
    assert set(manifest["files"]) == {"encoder", "decoder", "detector_near", "detector_far", "recognizer"}
    for entry in manifest["files"].values():
        assert hashlib.sha256((exported / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert manifest["files"]["decoder"]["inputs"] == {"identity": ["n", 70], "control": ["n", 10]}
    assert manifest["parity"]["encoder"] <= exporting.IDENTITY_TOLERANCE
    assert len(manifest["controls"]) == 10


def test_a_graph_that_differs_from_pytorch_is_refused(exported: Path) -> None:
    class Wrong(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.zeros(len(image), 70), torch.zeros(len(image), 192)

    make = {"image": lambda count: np.random.default_rng(0).integers(0, 256, (count, 128, 128, 3), np.uint8)}
    with pytest.raises(ValueError, match="differs from PyTorch"):
        exporting.check_parity(Wrong(), exported / "encoder.onnx", make, 1e-6)


def test_a_graph_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "MAX_BYTES", 1000)
    decoder = exporting.Decoder(replace(TINY.networks))
    examples = {"identity": torch.zeros(3, 70), "control": torch.zeros(3, 10)}
    with pytest.raises(ValueError, match="MiB"):
        exporting.to_onnx(exporting.ServedDecoder(decoder), examples, ["image"], tmp_path / "decoder.onnx")
    assert not (tmp_path / "decoder.onnx").exists()
