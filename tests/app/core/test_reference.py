"""What a client keeps of a photograph: read back to the bit, or refused with a sentence."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from app.core.reference import MAX_LENGTH, Reference, read_reference
from app.errors import ReferenceInvalid
from app.runtime.manifest import parse_manifest

MANIFEST = parse_manifest(Path(__file__).parents[3] / "app" / "models")
UNIT = np.random.default_rng(0).normal(size=192)
EMBEDDING = (UNIT / np.linalg.norm(UNIT)).astype(np.float32)


@pytest.mark.parametrize("grey", [False, True])
def test_it_comes_back_to_the_bit(grey: bool) -> None:
    text = Reference(EMBEDDING, grey).write(MANIFEST)
    assert len(text) <= MAX_LENGTH
    assert text.isascii()
    found = read_reference(text, MANIFEST)
    assert np.array_equal(found.embedding, EMBEDDING)
    assert found.grey is grey


def test_nonsense_is_refused() -> None:
    good = Reference(EMBEDDING, grey=False).write(MANIFEST)
    middle = len(good) // 2
    other = "A" if good[middle] != "A" else "B"
    bad = ["", "x", "\0", "ä", good[:-1], good + "A", good[:middle] + other + good[middle + 1 :], good[4:], good * 2]
    bad += [base64.urlsafe_b64encode(bytes(784)).decode(), "=" * 100, good.replace(good[0], "*")]
    for text in bad:
        with pytest.raises(ReferenceInvalid):
            read_reference(text, MANIFEST)


@pytest.mark.parametrize("embedding", [EMBEDDING * 2, EMBEDDING * 0, EMBEDDING * np.float32(np.nan)])
def test_what_is_no_unit_vector_is_refused(embedding: np.ndarray) -> None:
    with pytest.raises(ReferenceInvalid, match="no embedding"):
        read_reference(Reference(embedding, grey=False).write(MANIFEST), MANIFEST)


def test_another_recogniser_is_told_apart() -> None:
    other = MANIFEST.files["recognizer"].model_copy(update={"sha256": "0" * 64})
    changed = MANIFEST.model_copy(update={"files": {**MANIFEST.files, "recognizer": other}})
    with pytest.raises(ReferenceInvalid, match="another recogniser"):
        read_reference(Reference(EMBEDDING, grey=False).write(MANIFEST), changed)
