"""Forms whose files go to the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.http.spool import read_form


def names(*dispositions: bytes, folder: Path) -> list[str]:
    """Of files that are sent in a form."""
    head = b'--b\r\nContent-Disposition: form-data; name="image"; '
    parts = [head + disposition + b"\r\n\r\n1\r\n" for disposition in dispositions]

    async def body() -> AsyncIterator[bytes]:
        yield b"".join(parts) + b"--b--\r\n"

    form = asyncio.run(read_form("multipart/form-data; boundary=b", body(), {"image"}, folder, len(parts)))
    return [file.name for file in form.files]


def test_names_that_are_no_utf8_stay_two_names(tmp_path: Path) -> None:
    """A client that writes Latin-1: as one name, two people would become one."""
    sent = [b'filename="ren' + letter + b'/1.jpg"' for letter in (b"\xe9", b"\xe8", "\u00e9".encode())]
    assert names(*sent, folder=tmp_path) == ["ren\udce9/1.jpg", "ren\udce8/1.jpg", "ren\u00e9/1.jpg"]


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (b"filename*=utf-8''ren%C3%A9%2F1.jpg", "ren\u00e9/1.jpg"),
        (b"filename*=UTF-8'fr'ren%C3%A9/1.jpg", "ren\u00e9/1.jpg"),
        (b"filename*=iso-8859-1''ren%E9/1.jpg; size=1", "ren\u00e9/1.jpg"),
        (b"filename*=\"utf-8''ren%C3%A9/1.jpg\"", "ren\u00e9/1.jpg"),
        (b"filename*=utf-8''ren%E9/1.jpg", "ren\udce9/1.jpg"),
        (b"filename=\"a/1.jpg\"; filename*=utf-8''b/1.jpg", "a/1.jpg"),
        (b"filename*=utf-7''b/1.jpg", ""),
    ],
    ids=["as requests did", "language", "latin-1", "quoted", "no utf-8", "both", "another charset"],
)
def test_a_name_in_the_extended_form_is_a_name_too(disposition: bytes, name: str, tmp_path: Path) -> None:
    assert names(disposition, folder=tmp_path) == [name]
