"""Folders that the settings name, tried before they are needed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from app.errors import CannotRun


def check_jobs(folder: Path) -> None:
    """See that a folder for jobs can be used, or made where there is none; nothing is made here.

    Raises:
        CannotRun: it cannot.
    """
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        how = "let LOOKALIKE_JOBS name a folder that can be written to"
        raise CannotRun(f"{folder}: jobs cannot be kept there ({error.strerror}); {how}") from error
