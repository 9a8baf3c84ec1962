"""Noise on the latent and pixel morphs."""

import numpy as np
import pytest

from model_export.evaluation.baselines import match_jitter, morph, nearest_others


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
    scale = match_jitter(Turning(), identities, sources, 0.7, np.random.default_rng(4))
    assert np.median(1 - 0.1 * scale * noise) == pytest.approx(0.7, abs=0.01)
