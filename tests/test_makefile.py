"""The Makefile, where a machine lacks something."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WITHOUT_PIP = f"""#!/bin/sh
if [ "$2" = venv ]; then
    mkdir -p "$3/bin" && ln -s {sys.executable} "$3/bin/python" && exit 1
fi
exec {sys.executable} "$@"
"""
"""A Python as Debian has it without `python3-venv`: it leaves an environment without pip behind, and fails."""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=clone, capture_output=True, text=True, check=False)


def test_an_environment_without_pip_is_made_anew(clone: Path) -> None:
    python = clone / "python"
    python.write_text(WITHOUT_PIP)
    python.chmod(0o755)
    assert make(clone, "install", f"PYTHON={python}").returncode == 2
    would = make(clone, "--dry-run", "install", f"PYTHON={sys.executable}").stdout
    assert f"{sys.executable} -m venv .venv" in would
