"""What is computed already: kept for the owner of the folder alone, and told where it cannot be."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from app.audit.cache import FILE, Cache
from app.errors import CannotRun


def test_templates_are_for_their_owner_alone(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache.put(["ada"], [np.ones(4, np.float32)])
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_a_file_that_breaks_meanwhile_is_named(tmp_path: Path) -> None:
    with Cache(tmp_path) as cache:
        cache.put(["ada"], [np.ones(4, np.float32)])
        (tmp_path / FILE).write_bytes(b"no file of this kind" * 1000)
        with pytest.raises(CannotRun, match=f"{FILE}: cannot be used any more"):
            cache.get("bob")
        with pytest.raises(CannotRun, match="make room on the disk, or remove it"):
            cache.put(["bob"], [None])
