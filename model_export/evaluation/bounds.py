"""How near could a redrawing come? What as many principal components as the latent has numbers would reach."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.decomposition import PCA  # type: ignore[import-untyped]

from app.core.generate import IDENTITY_SIZE
from model_export.evaluation.metrics import as_json
from model_export.evaluation.sample import Sample
from model_export.pictures import psnr, to_tensor


def measure(sample: Sample) -> dict[str, Any]:
    """PSNR in dB of the sources, put together from the first 70 principal components of training faces.

    The best that is linear (Turk & Pentland 1991), at as many numbers a face as the decoder is given: what a blurred
    picture of the right person scores, so that the redrawing's own PSNR can be read.
    """
    training = np.asarray(sample.train.faces[sample.reference.rows])
    count = min(IDENTITY_SIZE, len(training) - 1)
    components = PCA(count, svd_solver="randomized", random_state=sample.settings.seed)
    components.fit(training.reshape(len(training), -1).astype(np.float32))
    flat = components.transform(sample.sources.reshape(len(sample.sources), -1).astype(np.float32))
    pictures = np.clip(np.rint(components.inverse_transform(flat)), 0, 255).astype(np.uint8)
    signal = psnr(to_tensor(pictures.reshape(sample.sources.shape)), to_tensor(sample.sources)).numpy()
    return {"principal_components": {"components": count, **as_json({"psnr": sample.intervals.mean(signal)})}}
