"""The hook of .pre-commit-config.yaml that reads what a commit says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CONFIG = Path(__file__).parents[1] / ".pre-commit-config.yaml"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with nothing but the hooks."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copy(CONFIG, folder)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize(
    ("message", "good"),
    [
        ("x" * 72, True),
        ("x" * 73, False),
        pytest.param("\u00fc" * 72, True, id="72 of two bytes"),
        pytest.param("\u00fc" * 73, False, id="73 of two bytes"),
        ("What\n\nWhy, in a line of a body " + "that may be longer " * 5, True),
        ("What\nwhy, without a blank line", False),
        ("What\n# Please enter the commit message for your changes.", True),
    ],
)
def test_a_subject_says_what_in_72_characters(repository: Path, message: str, good: bool) -> None:
    file = repository / "message"
    file.write_text(message + "\n", encoding="utf-8")
    hook = [sys.executable, "-m", "pre_commit", "run", "--hook-stage=commit-msg", "--commit-msg-filename=message"]
    done = subprocess.run([*hook, "commit-subject"], cwd=repository, capture_output=True, text=True, check=False)
    assert ("Passed" if good else "Failed") in done.stdout, done.stdout + done.stderr
    assert done.returncode == (0 if good else 1)


def test_installing_the_hooks_installs_it() -> None:
    assert "commit-msg" in yaml.safe_load(CONFIG.read_text())["default_install_hook_types"]
