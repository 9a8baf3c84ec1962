"""The file of a cohort, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.core.cohort import Cohort, read_cohort
from app.errors import CohortInvalid

VECTORS = np.eye(3, 192, dtype=np.float32)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    Cohort(VECTORS, "digest").write(tmp_path / "cohort.npz")
    found = read_cohort(tmp_path / "cohort.npz")
    assert np.array_equal(found.embeddings, VECTORS)
    assert (found.embeddings.dtype, found.network) == (np.float32, "digest")
    assert [path.name for path in tmp_path.iterdir()] == ["cohort.npz"]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("text", "is no cohort"),
        ("empty", "is no cohort"),
        ("one array", "is no cohort"),
        ("words", "is no cohort"),
        ("objects", "is no cohort"),
        ("no network", "is no cohort"),
        ("damaged", "is no cohort"),
        ("narrow", r"holds \[3, 5\] numbers"),
        ("one", r"holds \[1, 192\] numbers"),
        ("long", "no unit vectors"),
        ("not a number", "no unit vectors"),
    ],
)
def test_what_is_none_is_told(tmp_path: Path, kind: str, says: str) -> None:
    path = tmp_path / "cohort.npz"
    with path.open("wb") as file:
        if kind == "text":
            file.write(b"vectors")
        elif kind == "one array":
            np.save(file, VECTORS)
        elif kind == "no network":
            np.savez(file, embeddings=VECTORS)
        elif kind != "empty":
            vectors = {
                "words": np.full((3, 192), "x"), "objects": VECTORS.astype(object), "narrow": VECTORS[:, :5],
                "one": VECTORS[:1], "long": 2 * VECTORS, "not a number": VECTORS * np.nan, "damaged": VECTORS,
            }[kind]  # fmt: skip
            save = np.savez_compressed if kind == "damaged" else np.savez
            save(file, embeddings=vectors, network="digest")
    if kind == "damaged":
        data = bytearray(path.read_bytes())
        data[120] ^= 0xFF
        path.write_bytes(data)
    with pytest.raises(CohortInvalid, match=says):
        read_cohort(path)
