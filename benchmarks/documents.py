"""Documents whose figures are written by what measured them."""

from __future__ import annotations


def filled(text: str, begin: str, end: str, block: str) -> str:
    """A document with a block between two marks instead of what stands there.

    Raises:
        ValueError: it lacks the marks.
    """
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the document has no place for the figures: {begin.strip()} and {end}")
    return before + begin + block + end + after
