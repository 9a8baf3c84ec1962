"""What was computed already, in the user's own folder: so that a run that was stopped goes on where it was.

It holds embeddings, which are biometric templates, and no picture.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from app.core.faces import Floats
from app.errors import CannotRun

FILE = "embeddings.sqlite"


class Cache:
    """Vectors by what they were made of; a context, which closes it.

    Args:
        folder: where its file is.

    Raises:
        CannotRun: the file is there and cannot be read as one.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
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
        """The vector [d] of a key; empty where it is known that there is none, None where nothing is known."""
        with closing(self._file.execute("SELECT vector FROM vectors WHERE key = ?", (key,))) as rows:
            row = rows.fetchone()
        return np.frombuffer(row[0], "<f4") if row else None

    def put(self, keys: Sequence[str], vectors: Sequence[Floats | None]) -> None:
        """Keep vectors; None is kept as an empty one."""
        rows = [
            (key, b"" if vector is None else np.asarray(vector, "<f4").tobytes())
            for key, vector in zip(keys, vectors, strict=True)
        ]
        with self._file:
            self._file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
