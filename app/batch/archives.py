"""Where photographs come from on the command line: a folder, a tar or a zip.

Names are checked before they are used for anything, sizes are bounded before anything is read, and an entry that cannot
be had is told as such and never ends the run.
"""

from __future__ import annotations

import io
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from app.batch.layout import MANIFEST, RUN
from app.batch.tars import HeaderReader, Tar
from app.core.formats import HEAD_BYTES, SUFFIXES, is_picture
from app.errors import Refused, SourceTooLarge, SourceUnreadable

PART_BYTES = 240
"""Longest part of a name; file systems take 255, and something is appended."""
NAME_BYTES = 4096
"""Longest name; no file system takes more at once."""
DIRECTORY_BYTES = 200
"""What an entry takes up in the directory of a zip, as a rule with much to spare."""

# zipfile raises RuntimeError for an encrypted entry, and a subclass of it for a compression that it does not know;
# ValueError and OverflowError come of numbers in headers that are none, or that no file has.
_DAMAGE = (
    OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, RuntimeError, ValueError,
    OverflowError,
)  # fmt: skip


@dataclass
class Bounds:
    """What may be looked at, of all archives that are opened with it; it becomes less as they are.

    Attributes:
        entries: photographs, and what else there is.
        unpacked: bytes of tar files, unpacked: what lies between two photographs has to be unpacked to get past it.
    """

    entries: int = 2**21
    unpacked: int = 2**60

    def take(self, entries: int = 0, unpacked: int = 0) -> None:
        """Look at so many more.

        Raises:
            SourceTooLarge: they are too many.
        """
        self.entries -= entries
        self.unpacked -= unpacked
        if self.entries < 0:
            raise SourceTooLarge("it has more entries than are looked at")
        if self.unpacked < 0:
            raise SourceTooLarge("unpacked it is larger than is looked at")


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
def open_source(path: Path, without: Path | None = None, bounds: Bounds | None = None) -> Iterator[list[Photograph]]:
    """The photographs of a source, readable until the block is left.

    A file is a photograph by its suffix, or by its first bytes; all others, and hidden ones, are passed over. Links to
    folders are followed on this machine, never within an archive.

    Args:
        path: a folder, a tar (packed or not) or a zip.
        without: a folder that is passed over, the run's own output for one.
        bounds: of an archive; a few million entries where it is left out.

    Raises:
        SourceUnreadable: it is none of these.
        SourceTooLarge: it is an archive beyond the bounds.
    """
    bounds = bounds or Bounds()
    with ExitStack() as stack:
        try:
            if path.is_dir():
                entries = _folder(path, without)
            elif zipfile.is_zipfile(path) and not _begins_as_tar(path):
                entries = _zip(_opened_zip(stack, path, bounds))
            else:
                entries = _tar(stack.enter_context(Tar.open(path)), bounds)
        except SourceTooLarge as error:
            raise SourceTooLarge(f"{path}: {error}; divide it") from error
        except tarfile.ReadError as error:
            raise SourceUnreadable(f"{path}: neither a folder nor a tar or zip") from error
        except _DAMAGE as error:
            raise SourceUnreadable(f"{path}: cannot be read ({_reason(error)})") from error
        yield checked(entries)


def _folder(root: Path, without: Path | None) -> list[Photograph]:
    left_out = without.resolve() if without else None
    found: list[Photograph] = []
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        try:
            status = folder.stat()
            here = (status.st_dev, status.st_ino)
            inside = [(path, path.is_dir()) for path in sorted(folder.iterdir())]
        except OSError as error:
            if folder == root:
                raise
            found.append(_refused(root, folder, f"The folder cannot be read ({_reason(error)})."))
            continue
        if here in above:
            found.append(_refused(root, folder, "It is a link to a folder that it lies in."))
            continue
        if folder != root and {RUN, MANIFEST} <= {path.name for path, _ in inside}:
            found.append(_refused(root, folder, "It holds look-alikes that an earlier run made."))
            continue
        for path, is_folder in inside:
            if is_folder:
                if not path.name.startswith(".") and path.resolve() != left_out:
                    waiting.append((path, above | {here}))
            else:
                found += _file(root, path)
    return sorted(found, key=lambda entry: entry.name)


def _file(root: Path, path: Path) -> list[Photograph]:
    """What lies in a folder, where it is a photograph, or may be one."""
    opened = partial(io.FileIO, path)
    if not path.is_file():
        named = _named_picture(path.name)
        return [_refused(root, path, "It is not a file, or a link to none.")] if named else []
    try:
        if _named_picture(path.name) or _begins_as_picture(opened):
            return [Photograph(path.relative_to(root).as_posix(), path.stat().st_size, opened)]
    except OSError as error:
        return [_refused(root, path, f"It cannot be read ({_reason(error)}).")]
    return []


def _refused(root: Path, path: Path, why: str) -> Photograph:
    return Photograph(path.relative_to(root).as_posix(), 0, lambda: None, why)


def _begins_as_tar(path: Path) -> bool:
    """Whether a file begins with the header of an entry of a tar; one whose last entry is a zip ends as a zip does."""
    with path.open("rb") as file, suppress(tarfile.TarError):
        tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
        return True
    return False


def _opened_zip(stack: ExitStack, path: Path, bounds: Bounds) -> zipfile.ZipFile:
    file = stack.enter_context(path.open("rb"))
    # Else the whole directory would be in memory, each of its entries an object, before there is anything to count.
    headers = HeaderReader(file, 2**18 + bounds.entries * DIRECTORY_BYTES)
    try:
        archive = stack.enter_context(zipfile.ZipFile(headers))
    except tarfile.ReadError:
        raise SourceTooLarge("its directory is longer than is looked at") from None
    bounds.take(entries=len(archive.infolist()))
    archive.fp = file
    return archive


def _zip(archive: zipfile.ZipFile) -> list[Photograph]:
    entries = []
    for info in archive.infolist():
        if info.filename.endswith("/"):  # a name may be empty, which `is_dir` stumbles over
            continue
        opened = partial(archive.open, info)
        try:
            picture = _named_picture(info.orig_filename) or _begins_as_picture(opened)
        except _DAMAGE:
            picture = True  # for all that is known; reading it will tell
        if picture:
            entries.append(Photograph(info.orig_filename, info.file_size, opened))
    return entries


def _tar(archive: Tar, bounds: Bounds) -> list[Photograph]:
    # In the order of the archive: to go back in a packed one would mean to unpack it from its beginning.
    entries: list[Photograph] = []
    last = ""
    try:
        for member in iter(archive.next, None):
            bounds.take(entries=1, unpacked=archive.offset - member.offset)
            # Too long a name is refused for what is left of it.
            last = name = member.name[: NAME_BYTES + 1]
            picture = _named_picture(name) or len(name) > NAME_BYTES
            if member.isfile() and (picture or _begins_as_picture(partial(archive.extractfile, member))):
                # By its place: what tarfile knows of it may take up far more.
                entries.append(Photograph(name, member.size, partial(archive.opened, member.offset)))
            elif not member.isfile() and not member.isdir() and picture:
                refusal = "It is a link or a device, not a file."
                entries.append(Photograph(name, 0, lambda: None, refusal))
    except _DAMAGE as error:
        if not last:
            raise
        entries.append(Photograph("", 0, lambda: None, f"The archive is damaged after {last}: {error}."))
    return entries


def _named_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES or not name


def _begins_as_picture(opened: Callable[[], IO[bytes] | None]) -> bool:
    file = opened()
    if file is None:
        return False
    with file:
        return is_picture(file.read(HEAD_BYTES))


def checked(entries: list[Photograph]) -> list[Photograph]:
    """What is not hidden, under clean names, each of which can be a folder of its own; what cannot is refused."""
    pictures = []
    for entry in entries:
        path = PurePosixPath(entry.name)
        hidden = any(part.startswith(".") and part != ".." for part in path.parts) or "__MACOSX" in path.parts
        if entry.name and hidden:
            continue
        if not path.parts and not entry.refusal:
            pictures.append(replace(entry, name="", refusal="It has no name."))
        elif entry.name and _unsafe(entry.name):
            pictures.append(replace(entry, refusal="Its name leads out of the archive, or cannot be a file's."))
        else:
            pictures.append(replace(entry, name=path.as_posix() if entry.name else ""))
    below = _below_others(entry.name for entry in pictures if not entry.refusal)
    checked, seen = [], set()
    for entry in pictures:
        if not entry.refusal and entry.name in seen:
            checked.append(replace(entry, refusal="Its name is there twice; the first counts."))
        elif not entry.refusal and entry.name in below:
            checked.append(replace(entry, refusal="A folder of its name is itself a picture."))
        else:
            checked.append(entry)
        if not entry.refusal:  # what is refused takes no name away
            seen.add(entry.name)
    return checked


def _below_others(names: Iterable[str]) -> set[str]:
    """Those of which a folder is itself one of the names."""
    found: set[str] = set()
    above = ""
    # By their parts, what lies below a name comes right after it.
    for name in sorted(names, key=lambda name: name.split("/")):
        if above and name.startswith(f"{above}/"):
            found.add(name)
        else:
            above = name
    return found


def _unsafe(name: str) -> bool:
    parts = name.split("/")
    return (
        len(os.fsencode(name)) > NAME_BYTES
        or name.startswith("/")
        or re.match(r"[A-Za-z]:", name) is not None
        or ".." in parts
        or any(character in name for character in "\\\0")
        or any(len(os.fsencode(part)) > PART_BYTES for part in parts)
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "encrypted" if "encrypted" in str(error) else str(error) or "damaged"
