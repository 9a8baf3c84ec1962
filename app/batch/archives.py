"""Where photographs come from on the command line: a folder, a tar or a zip.

Names are checked before they are used for anything, sizes are bounded before anything is read, and an entry that cannot
be had is told as such and never ends the run.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from app.errors import Refused, SourceUnreadable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
PART_BYTES = 240
"""Longest part of a name; file systems take 255, and something is appended."""

# zipfile raises RuntimeError for an encrypted entry, and a subclass of it for a compression that it does not know.
_DAMAGE = (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, RuntimeError, UnicodeDecodeError)


@dataclass(frozen=True)
class Photograph:
    """An entry of a source that has the name of a picture.

    Attributes:
        name: its path within the source, with forward slashes.
        size: in bytes, as the source says.
        opened: opens it.
        refusal: why it is not read, where that is known beforehand.
    """

    name: str
    size: int
    opened: Callable[[], IO[bytes] | None]
    refusal: str = ""

    def read(self, max_bytes: int) -> bytes:
        """Its bytes; entries of one source are to be read one at a time, in their order.

        Raises:
            Refused: see there.
        """
        if self.refusal:
            raise Refused(self.refusal)
        if self.size > max_bytes:
            raise Refused(f"It has {self.size} bytes; at most {max_bytes} are read.")
        try:
            file = self.opened()
            if file is None:
                raise Refused("It is not a file.")
            with file:
                data = file.read(max_bytes + 1)
        except _DAMAGE as error:
            raise Refused(f"It cannot be read ({_reason(error)}).") from error
        if len(data) > max_bytes:
            raise Refused(f"It has more than {max_bytes} bytes.")
        if len(data) < self.size:
            raise Refused("It is incomplete.")
        return data


@contextmanager
def open_source(path: Path, without: Path | None = None) -> Iterator[list[Photograph]]:
    """The photographs of a source, readable until the block is left; hidden files are passed over.

    Args:
        path: a folder, a tar (packed or not) or a zip.
        without: a folder that is passed over, the run's own output for one.

    Raises:
        SourceUnreadable: it is none of these.
    """
    with ExitStack() as stack:
        try:
            if path.is_dir():
                entries = _folder(path, without)
            elif zipfile.is_zipfile(path):
                entries = _zip(stack.enter_context(zipfile.ZipFile(path)))
            else:
                entries = _tar(stack.enter_context(tarfile.open(path)))
        except tarfile.ReadError as error:
            raise SourceUnreadable(f"{path}: neither a folder nor a tar or zip") from error
        except _DAMAGE as error:
            raise SourceUnreadable(f"{path}: cannot be read ({_reason(error)})") from error
        yield _checked(entries)


def _folder(root: Path, without: Path | None) -> list[Photograph]:
    found: list[Path] = []
    left_out = without.resolve() if without else None
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if Path(folder, name).resolve() != left_out]
        found += [Path(folder, name) for name in files]
    entries = []
    for path in found:
        name = path.relative_to(root).as_posix()
        if path.is_file():
            entries.append(Photograph(name, path.stat().st_size, partial(io.FileIO, path)))
        else:
            entries.append(Photograph(name, 0, lambda: None, "It is not a file, or a link to none."))
    return sorted(entries, key=lambda entry: entry.name)


def _zip(archive: zipfile.ZipFile) -> list[Photograph]:
    return [
        Photograph(info.orig_filename, info.file_size, partial(archive.open, info))
        for info in archive.infolist()
        if not info.filename.endswith("/")  # a name may be empty, which `is_dir` stumbles over
    ]


def _tar(archive: tarfile.TarFile) -> list[Photograph]:
    # In the order of the archive: to go back in a packed one would mean to unpack it from its beginning.
    entries: list[Photograph] = []
    try:
        for member in archive:
            if member.isdir():
                continue
            refusal = "" if member.isfile() else "It is a link or a device, not a file."
            entries.append(Photograph(member.name, member.size, partial(archive.extractfile, member), refusal))
    except _DAMAGE as error:
        if not entries:
            raise
        entries.append(Photograph("", 0, lambda: None, f"The archive is damaged after {entries[-1].name}: {error}."))
    return entries


def _checked(entries: list[Photograph]) -> list[Photograph]:
    """Pictures only, under clean names, each of which can be a folder of its own."""
    pictures = []
    for entry in entries:
        path = PurePosixPath(entry.name)
        hidden = any(part.startswith(".") and part != ".." for part in path.parts) or "__MACOSX" in path.parts
        if entry.name and (hidden or path.suffix.lower() not in SUFFIXES):
            continue
        if not entry.name and not entry.refusal:
            pictures.append(replace(entry, refusal="It has no name."))
        elif entry.name and _unsafe(entry.name):
            pictures.append(replace(entry, refusal="Its name leads out of the archive, or cannot be a file's."))
        else:
            pictures.append(replace(entry, name=path.as_posix() if entry.name else ""))
    names = {entry.name for entry in pictures if not entry.refusal}
    checked, seen = [], set()
    for entry in pictures:
        if not entry.refusal and entry.name in seen:
            checked.append(replace(entry, refusal="Its name is there twice; the first counts."))
        elif not entry.refusal and any(str(parent) in names for parent in PurePosixPath(entry.name).parents):
            checked.append(replace(entry, refusal="A folder of its name is itself a picture."))
        else:
            checked.append(entry)
        seen.add(entry.name)
    return checked


def _unsafe(name: str) -> bool:
    parts = name.split("/")
    return (
        name.startswith("/")
        or re.match(r"[A-Za-z]:", name) is not None
        or ".." in parts
        or any(character in name for character in "\\\0")
        or any(len(os.fsencode(part)) > PART_BYTES for part in parts)
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "encrypted" if "encrypted" in str(error) else str(error) or "damaged"
