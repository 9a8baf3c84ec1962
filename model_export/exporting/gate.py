"""May a model take another one's place? It has to reach every aim that the other reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def lost(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The aims that one evaluation reaches and another does not, a sentence each.

    Args:
        before: `metrics` of the model in service.
        after: those of the one that is to come, of the same faces or others: aims are the same for all.
    """
    new = dict(_figures(after))
    sentences = []
    for path, figure in _figures(before):
        if not figure["met"]:
            continue
        now = new.get(path)
        if now is None or now["value"] is None:  # a question that was not asked, or one without an answer
            sentences.append(f"{path} was not measured")
        elif not now["met"]:
            sentences.append(f"{path} is {now['value']:.4g}, wanted {now['aim']}")
    return sentences


def _figures(metrics: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every figure that has an aim, by its dotted path."""
    for name, entry in metrics.items():
        if isinstance(entry, Mapping):
            if "met" in entry:
                yield f"{above}{name}", entry
            else:
                yield from _figures(entry, f"{above}{name}.")
