"""Folders as one archive, packed while it is sent: the same bytes each time, and never on the disk."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from app.http.negotiation import ZIP

TAR = "application/x-tar"
CHUNK = 2**18
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class _Sink:
    """What an archive is written to, and taken from piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def packed(folder: Path, form: str) -> Iterator[bytes]:
    """The files of a folder, hidden ones left out, as a zip or a tar."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )
    archived: Callable[[Path, list[str]], Iterator[bytes]] = _zip if form == ZIP else _tar
    yield from archived(folder, names)


def _zip(folder: Path, names: list[str]) -> Iterator[bytes]:
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:  # type: ignore[call-overload]  # a sink that cannot seek will do
        for name in names:
            info = zipfile.ZipInfo(name, ZIP_EPOCH)
            info.external_attr = 0o644 << 16
            info.file_size = (folder / name).stat().st_size
            with archive.open(info, "w") as entry, (folder / name).open("rb") as file:
                while chunk := file.read(CHUNK):
                    entry.write(chunk)
                    yield sink.taken()
    yield sink.taken()


def _tar(folder: Path, names: list[str]) -> Iterator[bytes]:
    sink = _Sink()
    for name in names:
        info = tarfile.TarInfo(name)
        info.size = (folder / name).stat().st_size
        sink.write(info.tobuf(tarfile.PAX_FORMAT))
        with (folder / name).open("rb") as file:
            while chunk := file.read(CHUNK):
                sink.write(chunk)
                yield sink.taken()
        sink.write(bytes(-info.size % tarfile.BLOCKSIZE))
    yield sink.taken() + bytes(2 * tarfile.BLOCKSIZE)
