"""The last lines of a run: which tests were skipped, why, and what would have them run."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests import programs


def told(skipped: Sequence[tuple[str, str]], missing: list[str]) -> Iterator[str]:
    """The lines.

    Args:
        skipped: the name of each test, as pytest has it, and the reason.
        missing: Debian's packages that would have had some of them run.
    """
    by_reason: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, reason in skipped:
        file, _, test = name.partition("::")
        by_reason[reason][file].append(test)
    for reason, files in sorted(by_reason.items()):
        yield f"{sum(map(len, files.values()))} skipped: {reason}"
        for file, tests in sorted(files.items()):
            yield from textwrap.wrap(
                f"{file}: {', '.join(sorted(tests))}", 120, initial_indent="  ", subsequent_indent="    "
            )
    if skipped and missing:
        yield "To have those run that lack a program, on Debian or Ubuntu:"
        yield f"  {programs.spelled(missing)} && make test"
