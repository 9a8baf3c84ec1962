"""What is said to a terminal: names that others chose must not clear the screen, or write lines of their own."""

from __future__ import annotations

import sys
import unicodedata

UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of what controls a terminal, turns the direction of writing, breaks lines, or is no text."""


def printable(text: str) -> str:
    """A text on one line, with what a terminal would obey as escapes: `\\x1b`, `\\n`, `\\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in UNPRINTABLE else character
        for character in text
    )


def refuse(*sentences: str) -> None:
    """Say on standard error what is wrong, a line a sentence."""
    for sentence in sentences:
        print(f"lookalike: {printable(sentence).rstrip('.')}.", file=sys.stderr)
