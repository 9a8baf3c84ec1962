"""Tar files of strangers, read with bounds that `tarfile` does not have.

A few bytes of a packed tar may unpack to headers without end, to one of gigabytes, or to a size below 0, by which
`tarfile` would go round in a circle.
"""

from __future__ import annotations

import tarfile
from typing import IO, Any

HEADER_BYTES = 2**20
"""Most that the headers of one entry may take up: name, attributes, map of holes."""


class HeaderReader:
    """A file of which only so much is read.

    Args:
        file: the file.
        left: bytes that may be read of it.

    Attributes:
        left: bytes that may still be read; less than 0 as soon as more were asked for.
        last: what was read last.
    """

    def __init__(self, file: IO[bytes], left: int) -> None:
        self._file, self.left, self.last = file, left, b""
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """See any file.

        Raises:
            ReadError: there is more than may be read.
        """
        data = self._file.read(self.left + 1 if size < 0 else min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise tarfile.ReadError("a header is too long")
        self.last = data
        return data


class Header(tarfile.TarInfo):
    """A header. Those that hold for all entries say nothing that is needed, and would be copied for each."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type == tarfile.XGLTYPE:
            return self._proc_builtin(archive)  # type: ignore[attr-defined]  # not in the stubs, as the next
        return super()._proc_member(archive)  # type: ignore[misc]


class Tar(tarfile.TarFile):
    """A tar to read, packed or not, that remembers nothing of the entries it has passed."""

    tarinfo = Header

    def next(self) -> tarfile.TarInfo | None:
        """The next entry; None at the end.

        Raises:
            TarError: it is damaged, or its header is too long.
        """
        file = self.fileobj
        reader = HeaderReader(file, HEADER_BYTES)  # type: ignore[arg-type]  # not in the stubs
        self.fileobj = reader  # type: ignore[assignment]  # it has all that is called
        try:
            member = super().next()
        finally:
            self.fileobj = file
            self.members.clear()  # type: ignore[attr-defined]  # not in the stubs
        if member is not None and self.offset <= member.offset:
            raise tarfile.ReadError("a size is below 0")
        if member is None and reader.last.strip(b"\0"):  # which `tarfile` takes for the end
            raise tarfile.ReadError("a header is damaged")
        return member

    def opened(self, offset: int) -> IO[bytes] | None:
        """What an entry holds; None where it is no file.

        Args:
            offset: of its header.

        Raises:
            TarError: see `next`.
        """
        self.offset = offset
        self.fileobj.seek(offset)
        member = self.next()
        return None if member is None else self.extractfile(member)
