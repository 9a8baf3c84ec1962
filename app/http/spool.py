"""Uploads that are too large for memory: their files go to the disk as they arrive, each for its owner alone.

Only jobs are sent so; everything else stays in memory (`app.http.bodies`).
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from app.errors import JobTooLarge
from app.http.problems import refuse

MAX_FIELDS = 32
FIELD_BYTES = 2**18
HEADER_BYTES = 2**13

_EXTENDED_NAME = re.compile(rb";\s*filename\*\s*=\s*\"?(utf-8|iso-8859-1)'[^']*'([^;\"]*)", re.IGNORECASE)


@dataclass(frozen=True)
class SentFile:
    """A file of a form: the name of its field, its own name, and where it is."""

    field: str
    name: str
    path: Path


@dataclass
class Spooled:
    """A form of which the files are on the disk: put there by `read_form`."""

    files: list[SentFile] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)


async def read_form(
    content_type: str, body: AsyncIterator[bytes], names: Container[str], folder: Path, most: int
) -> Spooled:
    """Read multipart/form-data.

    Args:
        content_type: the header.
        body: as it arrives.
        names: fields that are files, even where a client does not say so.
        folder: for the files, under numbers.
        most: files that there may be.

    Raises:
        ProblemError: 400, it is no such form.
        JobTooLarge: more files.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise refuse(400, "The form cannot be read: it has no boundary.")
    form = _Form(names, folder, most)
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]  # a dictionary of callbacks
        async for chunk in body:
            # In a thread: a disk may be slow.
            await run_in_threadpool(parser.write, chunk)
        parser.finalize()
    except (FormParserError, UnicodeDecodeError):
        raise refuse(400, "The form cannot be read: it is damaged.") from None
    finally:
        form.close()
    if not form.complete:
        raise refuse(400, "The form is cut off before its end.")
    return form.spooled


async def read_file(body: AsyncIterator[bytes], path: Path) -> None:
    """Put a body that is a file itself on the disk."""
    with _private(path) as file:
        async for chunk in body:
            await run_in_threadpool(file.write, chunk)


class _Form:
    """What the parser calls for each piece of a form."""

    def __init__(self, names: Container[str], folder: Path, most: int) -> None:
        self.spooled, self.complete = Spooled(), False
        self._names, self._folder, self._most = names, folder, most
        self._header = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._name, self._text = "", bytearray()
        self._file: BinaryIO | None = None

    def callbacks(self) -> dict[str, object]:
        names = "part_begin part_data part_end header_field header_value header_end headers_finished end"
        return {f"on_{name}": getattr(self, f"_{name}") for name in names.split()}

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _part_begin(self) -> None:
        self._headers, self._text = {}, bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._bounded(self._header)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bounded(self._value)

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        header = self._headers.get(b"content-disposition", b"")
        disposition, options = parse_options_header(header)
        if disposition != b"form-data" or b"name" not in options:
            raise FormParserError("a part has no name")
        self._name = options[b"name"].decode()
        named = _own_name(header, options)
        if named is None and self._name not in self._names:
            return
        if len(self.spooled.files) == self._most:
            raise JobTooLarge(f"A job has at most {self._most} photographs. Send fewer at a time.")
        path = self._folder / f"{len(self.spooled.files):06d}"
        self.spooled.files.append(SentFile(self._name, named or "", path))
        self._file = _private(path)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file:
            self._file.write(data[start:end])
        else:
            self._text += data[start:end]
            if len(self._text) > FIELD_BYTES:
                raise FormParserError("a field is too long")

    def _part_end(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
            return
        self.spooled.fields.append((self._name, self._text.decode()))
        if len(self.spooled.fields) > MAX_FIELDS:
            raise FormParserError("too many fields")

    def _end(self) -> None:
        self.complete = True

    @staticmethod
    def _bounded(text: bytes) -> None:
        if len(text) > HEADER_BYTES:
            raise FormParserError("a header is too long")


def _own_name(header: bytes, options: dict[bytes, bytes]) -> str | None:
    """The name of a part's file, None where it has none.

    As `filename*` (RFC 5987) it has no place in a form (RFC 7578), and the parser passes that over; yet some clients
    send nothing else where a name is not ASCII, and it says whose the photograph is.
    """
    if (named := options.get(b"filename")) is not None:
        return named.decode("utf-8", "surrogateescape")
    if found := _EXTENDED_NAME.search(header):
        return unquote_to_bytes(found[2].strip()).decode(found[1].decode(), "surrogateescape")
    return None


def _private(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
