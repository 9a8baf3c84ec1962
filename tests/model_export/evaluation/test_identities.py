"""Random identities, and what is remembered of training faces."""

from types import SimpleNamespace

import numpy as np
import pytest

from model_export.evaluation import identities
from model_export.evaluation.metrics import Intervals
from model_export.evaluation.settings import Settings


def test_redrawn_training_faces_are_from_all_over_the_set(monkeypatch):
    """It lies in order of its sources, and the first of them alone would say little of the others."""
    chance = np.random.default_rng(0)
    vectors = chance.normal(size=(1100, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places = np.arange(1000, dtype=np.float32)
    seen = []

    def encode(faces):
        seen.extend(faces.tolist())
        return faces

    class Train(SimpleNamespace):
        def __len__(self):
            return len(self.embeddings)

    sample = SimpleNamespace(
        settings=Settings(),
        intervals=Intervals(resamples=10, seed=0),
        deep=40,
        train=Train(embeddings=vectors[:1000], faces=places),
        test=Train(embeddings=vectors[1000:]),
        studio=SimpleNamespace(encode=encode, decode=lambda faces, _: (None, vectors[: len(faces)])),
        redrawn=SimpleNamespace(similarity=chance.uniform(size=40)),
    )
    monkeypatch.setattr(identities, "random_people", lambda _: SimpleNamespace(embeddings=vectors[:5]))
    found = identities.memorisation(sample)
    assert 0 <= found["auc_of_reconstruction"]["value"] <= 1
    assert len(seen) == len(set(seen)) == 40
    assert np.mean(seen) == pytest.approx(500, abs=150)
    assert seen == sorted(seen)
