"""What is kept from the collector of garbage, and for how long."""

from __future__ import annotations

import subprocess
import sys

KEPT = """
import gc
from app.ops.garbage import start_up_kept

{before}
with start_up_kept():
    print(gc.get_freeze_count() > 0)
print(gc.get_freeze_count() > 0)
"""


def kept(before: str) -> list[str]:
    """Whether anything is kept amid and after it, in a process that ran some code before."""
    code = KEPT.format(before=before)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_start_up_is_kept_until_the_end():
    assert kept("") == ["True", "False"]


def test_what_somebody_else_keeps_stays_kept():
    assert kept("gc.freeze()") == ["True", "True"]
