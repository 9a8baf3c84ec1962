"""Exported weights come back: a run can start from a model that is served."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch

from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from model_export.exporting.exported import START_DEVIATION, restore
from model_export.exporting.reach import PORTRAIT_SIZE
from model_export.networks.generator import Decoder
from model_export.preparing.dataset import FaceSet
from model_export.training.networks import Networks
from tests.model_export.conftest import MODELS
from tests.model_export.tiny import SIZES, TINY


def test_the_shipped_decoder_draws_what_it_is_served_to_draw() -> None:
    decoder = Decoder(SIZES).eval()
    restore(decoder, MODELS / "decoder.onnx", "decoder.")
    random = np.random.default_rng(0)
    identity = random.standard_normal((2, IDENTITY_SIZE), np.float32)
    still = np.zeros((2, CONTROL_SIZE), np.float32)
    with torch.no_grad():
        own = (decoder(torch.from_numpy(identity), torch.from_numpy(still)) + 1) * 127.5
    served = ort.InferenceSession(MODELS / "decoder.onnx").run(["image"], {"identity": identity, "control": still})[0]
    assert np.abs(own.permute(0, 2, 3, 1).round().numpy() - served).max() <= 1


def test_a_run_starts_where_the_shipped_model_is_with_a_little_noise(face_set: FaceSet) -> None:
    networks = Networks(TINY.model_copy(update={"networks": SIZES}), [8], [8], torch.device("cpu"))
    networks.start_from(MODELS)
    rows = [0, 9]
    image = (torch.from_numpy(face_set.faces[rows]).permute(0, 3, 1, 2).float()) / 127.5 - 1
    with torch.no_grad():
        mean, log_variance = networks.encoder(image, torch.from_numpy(face_set.embeddings[rows]))
    session = ort.InferenceSession(MODELS / "encoder.onnx")
    served = session.run(["identity"], {"image": face_set.faces[rows]})[0]
    # The other entries say how far controls reach, not what is drawn.
    np.testing.assert_allclose(mean[:, :PORTRAIT_SIZE].numpy(), served[:, :PORTRAIT_SIZE], atol=5e-3)
    torch.testing.assert_close(log_variance.exp().sqrt(), torch.full_like(log_variance, START_DEVIATION))
    for mine, averaged in zip(networks.decoder.parameters(), networks.averaged_decoder.parameters(), strict=True):
        assert torch.equal(mine, averaged)


def test_networks_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"start\.weight is of shape \[6144, 70\]"):
        restore(
            Decoder(SIZES.model_copy(update={"decoder": (128, 320, 256, 128, 64)})), MODELS / "decoder.onnx", "decoder."
        )
    with pytest.raises(ValueError, match="is missing"):
        restore(Decoder(SIZES), MODELS / "encoder.onnx", "decoder.")
