"""What was sent for a job, and the photographs that are taken out of it: within bounds, since anybody may send it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.batch.archives import Bounds, Photograph, checked, open_source
from app.batch.jobs import Folder
from app.batch.output import Output
from app.errors import JobTooLarge, Refused, SourceTooLarge
from app.settings import Settings

ARCHIVES = 64
"""Archives that a job may be sent as; all are open while they are unpacked."""
ENTRIES, OTHERS = 1000, 10
"""Entries that these may have, and how many more for each photograph that a job may have: folders, notes, previews."""


class Names:
    """Names that no two files have in common.

    Args:
        taken: the first of them.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._numbers: dict[str, int] = {}

    def free(self, name: str) -> str:
        """The name, or one like it that is not taken; it is taken from then on."""
        folder, slash, last = name.rpartition("/")  # whose own dots are no suffix: it is the person
        stem, dot, suffix = last.rpartition(".") if "." in last else (last, "", "")
        free = name
        # From the last number on: thousands of files of one name would be thousands of steps for each.
        number = self._numbers.get(name, 1)
        while free in self._taken:
            number += 1
            free = f"{folder}{slash}{stem}-{number}{dot}{suffix}"
        self._numbers[name] = number
        self._taken.add(free)
        return free


@dataclass(frozen=True)
class Sent:
    """What was sent for a job.

    Attributes:
        images: files by the names that they were sent under.
        archives: tar and zip files.
    """

    images: list[tuple[str, Path]]
    archives: list[Path]

    @contextmanager
    def photographs(self, bounds: Bounds) -> Iterator[list[Photograph]]:
        """All of them, under names that no two have in common.

        Args:
            bounds: of all archives together.

        Raises:
            SourceUnreadable: an archive is none.
            JobTooLarge: there is more in them, or they are more.
        """
        if len(self.archives) > ARCHIVES:
            raise JobTooLarge(f"A job has at most {ARCHIVES} archives. Put the photographs into fewer.")
        with ExitStack() as stack:
            found: list[Photograph] = []
            names = Names()
            for sent, path in self.images:
                name = names.free(sent.replace("\\", "/").rpartition("/../")[2].lstrip("./") or "photograph")
                found.append(Photograph(name, path.stat().st_size, partial(io.FileIO, path)))
            try:
                for path in self.archives:
                    found += stack.enter_context(open_source(path, bounds=bounds))
            except SourceTooLarge:
                told = "The archive has more entries, or is larger unpacked, than is taken. Send fewer at a time."
                raise JobTooLarge(told) from None
            yield checked(found)


def unpack(folder: Folder, sent: Sent, output: Output, room: int, settings: Settings) -> tuple[int, int]:
    """Take the photographs out of what was sent; returns how many there are, and how many cannot be used.

    Args:
        folder: of the job.
        sent: the files; the caller removes them.
        output: where those are told of that cannot be used.
        room: most bytes that they may take up together.
        settings: most bytes of one, and most photographs.

    Raises:
        SourceUnreadable: an archive is none.
        JobTooLarge: they are too many, or too large together.
    """
    usable = refused = 0
    bounds = Bounds(ENTRIES + OTHERS * settings.jobs_photographs, room)
    with sent.photographs(bounds) as photographs, output.skipping() as skip:
        if len(photographs) > settings.jobs_photographs:
            raise JobTooLarge(f"A job has at most {settings.jobs_photographs} photographs. Send fewer at a time.")
        names = Names(photograph.name for photograph in photographs if not photograph.refusal)
        for photograph in photographs:
            try:
                data = photograph.read(settings.max_bytes)
            except Refused as error:
                # Under a name of its own: who has the name of one that is refused would be passed over with it.
                skip(names.free(photograph.name) if photograph.refusal else photograph.name, "refused", str(error))
                refused += 1
                continue
            room -= len(data)
            if room < 0:
                raise JobTooLarge("The photographs take up more than is left for jobs. Send fewer at a time.")
            folder.put(usable, photograph.name, data)
            usable += 1
    return usable, refused
