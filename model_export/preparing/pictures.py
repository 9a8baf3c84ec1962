"""The pictures of a folder or an archive, read by name and never unpacked, and the table that may lie beside them."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from types import TracebackType

from app.batch.archives import open_source
from app.errors import Refused, SourceUnreadable
from model_export.preparing.cutting import UnusablePicture

MAX_BYTES = 100_000_000
TABLE = "labels.csv"

# zipfile raises RuntimeError for an encrypted entry; KeyError comes of a link within a tar that leads nowhere.
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, RuntimeError, KeyError)


class SourceError(ValueError):
    """A source, or the list of them, cannot be used."""


class Pictures:
    """A named collection of pictures.

    Args:
        path: a folder (searched through), a tar (packed or not) or a zip.
        without: a folder that is passed over: sheets of faces that an earlier run left there are no photographs.

    Attributes:
        names: of the pictures, in an order that does not change; hidden files and what is no picture are left out.

    Raises:
        SourceError: `path` does not exist, is of another kind, or is an archive that was cut short.
    """

    def __init__(self, path: Path, without: Path | None = None) -> None:
        self.path = path
        self._open = ExitStack()
        try:
            entries = self._open.enter_context(open_source(path, without))
        except (SourceUnreadable, OSError) as error:
            raise SourceError(str(error)) from error
        self._entries = {entry.name: entry for entry in reversed(entries) if not entry.refusal or entry.name}
        self.names = list(reversed(self._entries))
        if damage := next((entry.refusal for entry in entries if not entry.name), ""):
            self._open.close()
            raise SourceError(f"{path}: {damage}")

    def read(self, name: str) -> bytes:
        """The bytes of one picture.

        Raises:
            UnusablePicture: it cannot be had, is not there any more, or is far too large.
        """
        if name not in self._entries:
            raise UnusablePicture("unreadable")
        try:
            return self._entries[name].read(MAX_BYTES)
        except Refused as error:
            raise UnusablePicture("unreadable") from error

    def table(self) -> tuple[str, bytes] | None:
        """Name and bytes of the outermost labels.csv in it, if there is one.

        Raises:
            SourceError: it cannot be read.
        """
        try:
            return self._table()
        except _DAMAGE as error:
            raise SourceError(f"{self.path}: the {TABLE} in it cannot be read ({error})") from error

    def _table(self) -> tuple[str, bytes] | None:
        if self.path.is_dir():
            files = {file.relative_to(self.path).as_posix(): file for file in self.path.rglob(TABLE)}
            name = _outermost(list(files))
            return (name, files[name].read_bytes()) if name else None
        if zipfile.is_zipfile(self.path):
            with zipfile.ZipFile(self.path) as archive:
                name = _outermost(archive.namelist())
                return (name, archive.read(name)) if name else None
        with tarfile.open(self.path) as tar:
            name = _outermost(tar.getnames())
            file = tar.extractfile(name) if name else None
            return (name, file.read()) if file else None

    def close(self) -> None:
        """Close the archive."""
        self._open.close()

    def __enter__(self) -> Pictures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _outermost(names: list[str]) -> str:
    tables = (name for name in names if PurePosixPath(name).name == TABLE)
    return min(tables, key=lambda name: (len(PurePosixPath(name).parts), name), default="")
