"""What an ImageNet network sees of each face, kept beside the cuts: the one part of preparing that needs PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

from app.core.faces import Bytes, Floats
from model_export.preparing.candidates import Candidate, embeddings, parts
from model_export.preparing.files import replacing

KIND = "features"
STAGES = (4, 10, 15)
"""Blocks of EfficientNet-Lite0 whose outputs are pooled: strides 8, 16 and 32."""
SIZE = 112
BATCH = 64


def features(candidates: Sequence[Candidate]) -> Floats:
    """What is seen of each face [n, d]: the recogniser's embedding and pooled maps of EfficientNet-Lite0.

    Computed once, chunk by chunk, and kept; a run that was stopped goes on after its last whole chunk.
    """
    seen = _seen(candidates)
    known = embeddings(candidates) + embeddings(candidates, "embeddings_mirrored")
    known *= known.shape[1] ** 0.5 / np.linalg.norm(known, axis=1, keepdims=True)
    return np.concatenate([known, seen], axis=1)


def _seen(candidates: Sequence[Candidate]) -> Floats:
    describe: Callable[[Bytes], Floats] | None = None
    result: Floats | None = None
    for numbers, cuts, index, rows in tqdm(list(parts(candidates)), unit="chunk", desc="features", mininterval=1.0):
        path = cuts.array_path(KIND, index)
        kept = np.load(path) if path.exists() else None
        if kept is None or np.isnan(kept[rows, 0]).any():
            describe = describe or _describer()
            faces = cuts.rows("faces", index)
            found = describe(np.asarray(faces[rows]))
            if kept is None:
                kept = np.full((len(faces), found.shape[1]), np.nan, np.float16)
            kept[rows] = found
            with replacing(path) as unfinished, unfinished.open("wb") as file:
                np.save(file, kept)
        if result is None:
            result = np.empty((len(candidates), kept.shape[1]), np.float32)
        result[numbers] = kept[rows]
    if result is None:
        raise ValueError("no faces to describe")
    return result


def _describer() -> Callable[[Bytes], Floats]:
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    from model_export.networks.pretrained import PerceptualFeatures
    from model_export.pictures import to_tensor

    network = PerceptualFeatures(size=SIZE, stages=STAGES).eval()

    @torch.no_grad()
    def describe(faces: Bytes) -> Floats:
        found = []
        for start in range(0, len(faces), BATCH):
            fine, middle, deep = network.raw(to_tensor(faces[start : start + BATCH]))
            pooled = [fine.mean((2, 3)), *(adaptive_avg_pool2d(value, 2).flatten(1) for value in (middle, deep))]
            found.append(torch.cat(pooled, 1).numpy())
        return np.concatenate(found)

    return describe
