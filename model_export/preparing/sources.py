"""Where photographs come from: a folder, a tar (plain or compressed) or a zip, read by name and never unpacked."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import TracebackType


class SourceError(ValueError):
    """The source is neither a folder nor an archive that can be read."""


class Source:
    """A named collection of files.

    Args:
        path: a folder (searched recursively), a tar (also gz, bz2, xz) or a zip.

    Attributes:
        names: names of the files inside, sorted; hidden files and folders are left out.

    Raises:
        SourceError: `path` does not exist, is of another kind, or is an archive that was cut short.
    """

    def __init__(self, path: Path) -> None:
        self._close: Callable[[], None] = lambda: None
        self._read: Callable[[str], bytes]
        if path.is_dir():
            names = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
            self._read = lambda name: (path / name).read_bytes()
        elif path.is_file() and zipfile.is_zipfile(path):
            archive = zipfile.ZipFile(path)
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
            self._read, self._close = archive.read, archive.close
        elif path.is_file() and tarfile.is_tarfile(path):
            tar = tarfile.open(path)  # noqa: SIM115 - closed by close()
            try:
                members = {member.name: member for member in tar if member.isfile()}
            except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
                raise SourceError(f"{path}: the archive is damaged or cut short ({error})") from error
            names = list(members)

            def read(name: str) -> bytes:
                file = tar.extractfile(members[name])
                if file is None:
                    raise OSError(f"{name} is not a regular file")
                return file.read()

            self._read, self._close = read, tar.close
        else:
            raise SourceError(f"{path}: not a folder, a tar or a zip")
        self.names = sorted(name for name in names if not any(part.startswith(".") for part in _parts(name)))

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            OSError, EOFError, zipfile.BadZipFile, zlib.error, tarfile.TarError: the archive is damaged there.
        """
        return self._read(name)

    def close(self) -> None:
        """Close the archive."""
        self._close()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(name).parts if part not in (".", "..", "/"))
