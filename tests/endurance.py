"""The tests again and again, beside a process that never rests: what depends on a moment fails sooner or later.

python -m tests.endurance [TIMES] [PYTEST ARGUMENTS]
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

HOG = "while True: pass"


@contextmanager
def beside_a_hog() -> Iterator[None]:
    """Have a process take all the time it is given, until the block is left."""
    hog = subprocess.Popen([sys.executable, "-c", HOG])
    try:
        yield
    finally:
        hog.kill()
        hog.wait()


def run(arguments: Sequence[str]) -> tuple[int, str]:
    """Run the tests once, shown as they go; returns the status, and the line with the counts."""
    counts = ""
    command = [sys.executable, "-m", "pytest", "-n", "3", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            if re.match(r"=+ \d+ (passed|failed|skipped|error)", line):
                counts = line.strip("= \n")
    return process.returncode, counts


def main(times: int, arguments: Sequence[str]) -> int:
    """Run the tests so many times, whatever comes of them; returns how many runs failed."""
    ends: list[tuple[int, str]] = []
    with beside_a_hog():
        for number in range(1, times + 1):
            begun = time.monotonic()
            status, counts = run(arguments)
            ends.append((status, f"run {number}: status {status}, {counts}, {time.monotonic() - begun:.0f} s"))
    print(*(line for _, line in ends), sep="\n")
    failed = sum(status != 0 for status, _ in ends)
    print(f"{times - failed} of {times} runs passed, beside a process that takes a core")
    return failed


if __name__ == "__main__":
    count, *rest = sys.argv[1:] or ["10"]
    sys.exit(min(main(int(count), rest), 1))
