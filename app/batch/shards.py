"""Tar files that webdataset reads: an image, its line of the manifest, and its class, under one name each.

A shard is only ever added to, so a run that was killed leaves at worst a torn end, which is cut off when it goes on.
The bytes follow from the content alone: no time, no owner.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from app.errors import CannotRun

SHARD_IMAGES = 10_000
"""Images in a shard; one photograph's are never divided."""

END = bytes(1024)
"""What a tar ends with."""


class Shards:
    """The shards of a data set, of which the last one grows.

    Args:
        folder: where they lie.
        done: members of each shard that the manifest names, by the name of the shard; all else is cut off.
        classes: labels by number, in the order in which they first occurred; None where no two are equal.
        images: how many images the manifest names.
        mode: of new files.

    Raises:
        CannotRun: the manifest names what is not there.
    """

    def __init__(
        self, folder: Path, done: dict[str, list[str]], classes: dict[str, int] | None, images: int, mode: int
    ) -> None:
        self._folder, self._classes, self._images, self._mode = folder, classes, images, mode
        self._number, self._filled = 0, 0
        folder.mkdir(exist_ok=True)
        for name in sorted(done):
            self._number, self._filled = int(Path(name).stem), len(done[name])
            _cut(folder / name, set(done[name]))
        for path in folder.glob("*.tar"):
            if path.name not in done:
                path.unlink()

    def add(self, lines: Sequence[dict[str, Any]], images: Sequence[bytes]) -> str:
        """Add the images of a photograph; returns the shard's name.

        Args:
            lines: of the manifest, each with its `member`.
            images: the files.
        """
        if self._filled and self._filled + len(images) > SHARD_IMAGES:
            self._number, self._filled = self._number + 1, 0
        self._filled += len(images)
        path = self._folder / f"{self._number:06d}.tar"
        with open(path, "ab", opener=partial(os.open, mode=self._mode)) as shard:
            # Over the end that was written last, so that the file is whole at any time.
            shard.truncate(max(0, shard.tell() - len(END)))
        with path.open("ab") as shard:
            shard.write(b"".join(self._members(lines, images)) + END)
        return path.name

    def _members(self, lines: Sequence[dict[str, Any]], images: Sequence[bytes]) -> Iterator[bytes]:
        for line, image in zip(lines, images, strict=True):
            stem = Path(line["member"]).stem
            yield from _member(line["member"], image)
            yield from _member(f"{stem}.json", json.dumps(line).encode())
            yield from _member(f"{stem}.cls", str(self._class(line["label"])).encode())

    def _class(self, label: str) -> int:
        number = self._images
        if self._classes is not None:
            number = self._classes.setdefault(label, len(self._classes))
        self._images += 1
        return number


def _member(name: str, data: bytes) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    yield info.tobuf(tarfile.PAX_FORMAT)
    yield data
    yield bytes(-len(data) % tarfile.BLOCKSIZE)


def _cut(path: Path, members: set[str]) -> None:
    """Cut a shard off behind the members that the manifest names, and what belongs to them."""
    missing, end = set(members), 0
    try:
        with tarfile.open(path, "r:") as shard:
            stem = ""
            for member in shard:
                if member.name in members:
                    stem = Path(member.name).stem
                    missing.discard(member.name)
                elif Path(member.name).stem != stem:
                    break
                end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    except (OSError, tarfile.TarError):
        pass  # torn: what can be read of it counts
    if missing or not path.exists() or path.stat().st_size < end:
        raise CannotRun(
            f"{path}: {len(missing) or 'some'} images that the manifest names are not there, and a shard cannot be "
            "amended; name a new folder"
        )
    with path.open("ab") as shard_file:
        shard_file.truncate(end)
        shard_file.seek(0, os.SEEK_END)
        shard_file.write(END)
