"""Forms whose files go to the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from app.http.spool import read_form


def test_names_that_are_no_utf8_stay_two_names(tmp_path: Path) -> None:
    """A client that writes Latin-1: as one name, two people would become one."""
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="ren' + letter + b'/1.jpg"\r\n\r\n1\r\n'
        for letter in (b"\xe9", b"\xe8", "é".encode())
    ]

    async def body() -> AsyncIterator[bytes]:
        yield b"".join(parts) + b"--b--\r\n"

    form = asyncio.run(read_form("multipart/form-data; boundary=b", body(), {"image"}, tmp_path, 3))
    assert [file.name for file in form.files] == ["ren\udce9/1.jpg", "ren\udce8/1.jpg", "ren\u00e9/1.jpg"]
