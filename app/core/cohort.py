"""A cohort of the service's own: embeddings of people whom nobody asks about, to normalise scores by."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.core.faces import EMBEDDING_SIZE, Floats
from app.core.normalisation import LEAST, TOP, adaptive_s_norm
from app.errors import CohortInvalid
from app.runtime.manifest import Manifest, read_manifest

FILE = "cohort.npz"


@dataclass(frozen=True)
class Cohort:
    """People to hold a pair against.

    Attributes:
        embeddings: [c, 192], of unit length.
        network: digest of the recogniser that made them: scores of another mean something else.
    """

    embeddings: Floats
    network: str

    def fits(self, manifest: Manifest) -> bool:
        """Whether it was made with the recogniser of a model."""
        return self.network == manifest.files["recognizer"].sha256

    def score(self, first: Floats, second: Floats, similarity: float) -> float:
        """A pair's similarity in deviations of both sides' cohorts; see `adaptive_s_norm`.

        Args:
            first, second: embeddings [192] of the two.
            similarity: of the two.
        """
        one, other = (self.embeddings @ embedding for embedding in (first, second))
        (score,) = adaptive_s_norm(np.array([similarity]), one[None], other[None], TOP)
        return round(float(score), 6)

    @property
    def top(self) -> int:
        """Members that each side is held against."""
        return min(TOP, len(self.embeddings))

    def write(self, path: Path) -> None:
        """Keep it in a file, which is whole or not there."""
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            np.savez(file, embeddings=np.asarray(self.embeddings, np.float32), network=np.array(self.network))
        part.replace(path)


def read_cohort(path: Path) -> Cohort:
    """Read what `Cohort.write` wrote.

    Raises:
        CohortInvalid: it is none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:  # an .npy gives an array, which is no context
            embeddings, network = np.asarray(file["embeddings"], np.float64), str(file["network"])
    except (OSError, ValueError, TypeError, KeyError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise CohortInvalid(f"{path}: is no cohort; python -m app cohort OUT makes one ({error})") from error
    if embeddings.ndim != 2 or embeddings.shape[1] != EMBEDDING_SIZE or len(embeddings) < LEAST:
        raise CohortInvalid(f"{path}: holds {list(embeddings.shape)} numbers; [n, {EMBEDDING_SIZE}] are needed")
    if not np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-3):
        raise CohortInvalid(f"{path}: holds no unit vectors")
    return Cohort(embeddings.astype(np.float32), network)


def check_cohort(path: Path, models: Path) -> None:
    """See that a cohort can be used with the models of a directory.

    Raises:
        CohortInvalid: it cannot.
        ModelsInvalid: nor can the models.
    """
    if not read_cohort(path).fits(read_manifest(models)):
        raise CohortInvalid(f"{path}: was made with another recogniser; python -m app cohort OUT makes it anew")
