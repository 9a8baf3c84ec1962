"""What was computed already, in the user's own folder: so that a run that was stopped goes on where it was.

It holds embeddings, which are biometric templates, and no picture.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from app.core.faces import Floats
from app.errors import CannotRun

FILE = "embeddings.sqlite"


def mark(*parts: object) -> str:
    """What vectors depend on besides what they were made of, in short: the beginning of their keys."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


class Cache:
    """Vectors by what they were made of; a context, which closes it. The file is for its owner alone.

    Args:
        folder: where its file is.

    Raises:
        CannotRun: the file is there and cannot be read as one.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._path.touch(0o600)  # SQLite would let everybody read it
        try:
            self._file = sqlite3.connect(self._path)
            with self._file:
                self._file.execute(
                    "CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID"
                )
        except sqlite3.Error as error:
            raise CannotRun(f"{self._path}: cannot be read ({error}); remove it, or name a new folder") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def get(self, key: str) -> Floats | None:
        """The vector [d] of a key; empty where it is known that there is none, None where nothing is known.

        Raises:
            CannotRun: the file cannot be read any more.
        """
        with self._told(), closing(self._file.execute("SELECT vector FROM vectors WHERE key = ?", (key,))) as rows:
            row = rows.fetchone()
        return np.frombuffer(row[0], "<f4") if row else None

    def put(self, keys: Sequence[str], vectors: Sequence[Floats | None]) -> None:
        """Keep vectors; None is kept as an empty one.

        Raises:
            CannotRun: the file cannot be written any more, as on a disk that is full.
        """
        rows = [
            (key, b"" if vector is None else np.asarray(vector, "<f4").tobytes())
            for key, vector in zip(keys, vectors, strict=True)
        ]
        with self._told(), self._file:
            self._file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            told = f"{self._path}: cannot be used any more ({error}); make room on the disk, or remove it"
            raise CannotRun(told) from error
