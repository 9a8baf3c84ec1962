"""What a person should look at before training: sheets of what was kept and dropped, and counts."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_export.contact_sheet import save_contact_sheet
from model_export.preparing.candidates import Candidate
from model_export.preparing.choosing import Chosen

SHEET_FACES = 96
CAPTIONS = {
    "profile": "turn {q.turn:.2f}",
    "points do not fit": "misfit {q.misfit:.2f}",
    "eyes too close": "eyes {q.eye_distance:.0f} px",
    "beyond the picture": "outside {q.outside:.2f}",
    "black padding": "black {q.padding:.2f}",
    "blurred": "sharp {q.sharpness:.3f}",
    "too dark": "light {q.brightness:.0f}",
    "too bright": "light {q.brightness:.0f}",
    "too flat": "contrast {q.contrast:.0f}",
    "minor": "{c.labels.age:.0f}",
    "may be a minor": "{c.source} {c.labels.age:.0f}",
    "labelled older than it looks": "{c.source} {c.labels.age:.0f}",
}
"""What is written below a face that was dropped, by its reason."""


class _Sheets:
    """Writes sheets of faces into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chance = np.random.default_rng(0)

    def save(self, name: str, items: Sequence[Candidate], caption: str) -> None:
        """All of these faces."""
        captions = [caption.format(c=item, q=item.quality) for item in items]
        save_contact_sheet(self.folder / f"{name}.png", [item.face() for item in items], captions)

    def sample(self, name: str, items: Sequence[Candidate], caption: str) -> None:
        """Some of them, by chance."""
        rows = np.sort(self.chance.permutation(len(items))[:SHEET_FACES])
        self.save(name, [items[row] for row in rows], caption)

    def least(self, name: str, items: Sequence[Candidate], key: Callable[[Candidate], float], caption: str) -> None:
        """Those that come nearest to a limit."""
        self.save(name, sorted(items, key=key)[:SHEET_FACES], caption)


def write_sheets(folder: Path, chosen: Chosen) -> None:
    """Samples of each reason and of what was kept: at random, and what came nearest to a limit; clusters; copies."""
    if folder.exists():
        shutil.rmtree(folder)
    sheets, kept = _Sheets(folder), chosen.kept
    sheets.sample("kept", kept, "{c.labels.age:.0f} {c.labels.gender:.1} {c.labels.group}")
    for source in sorted({item.source for item in kept} - {""}):
        of_source = [item for item in kept if item.source == source]
        sheets.sample(f"kept-{source}", of_source, "{c.labels.age:.0f} {c.labels.gender:.1} {c.labels.group}")
    sheets.sample("kept-grey", [item for item in kept if item.quality.grey], "{q.contrast:.0f}")
    sheets.least("kept-least-sharp", kept, lambda item: item.quality.sharpness, "{q.sharpness:.3f}")
    sheets.least("kept-lowest-score", kept, lambda item: item.quality.score, "{q.score:.3f}")
    sheets.least("kept-most-misfit", kept, lambda item: -item.quality.misfit, "{q.misfit:.3f}")
    sheets.least("kept-most-turned", kept, lambda item: -item.quality.turn, "turn {q.turn:.2f}")
    guessed = [item for item in kept if "age" in item.estimated]
    sheets.least("kept-youngest", guessed, lambda item: item.labels.age, "{c.labels.age:.0f}")
    for reason in sorted({item.reason for item in chosen.candidates} - {"", "copy of another"}):
        items = [item for item in chosen.candidates if item.reason == reason]
        sheets.sample(f"dropped-{reason.replace(' ', '-')}", items, CAPTIONS.get(reason, "score {q.score:.2f}"))
    sheets.save("dropped-copies", [item for pair in chosen.copies[: SHEET_FACES // 2] for item in pair], "{c.reason}")
    sizes = Counter(item.cluster for item in kept)
    together = sorted((item for item in kept if sizes[item.cluster] > 1), key=lambda item: item.cluster)
    sheets.save("clusters", together[: 2 * SHEET_FACES], "cluster {c.cluster}")


def counts(chosen: Chosen, dropped: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """What report.json says of the faces."""
    kept = chosen.kept
    test = [candidate for candidate in kept if candidate.test]
    train = [candidate for candidate in kept if not candidate.test]
    sizes = Counter(candidate.cluster for candidate in kept)
    return {
        "files": len(dropped) + len(kept),
        "kept": len(kept),
        "train": len(train),
        "test": len(test),
        "grey": sum(candidate.quality.grey for candidate in kept),
        "dropped": dict(Counter(reason for _, _, reason in dropped).most_common()),
        "dropped_by_source": _by_source(dropped),
        "kept_share_of_found_faces": {
            label: _shares(label, chosen.candidates, kept) for label in ("group", "gender", "source")
        },
        "kept_by_label": _by_label(kept),
        "test_by_label": _by_label(test),
        "kept_by_source": dict(sorted(Counter(candidate.source for candidate in kept).items())),
        "drawn_share_by_label": _drawn(train, [_label(candidate) for candidate in train]),
        "drawn_share_by_source": _drawn(train, [candidate.source for candidate in train]),
        "estimates": chosen.estimates,
        "clusters": {
            "of_several": sum(size > 1 for size in sizes.values()),
            "faces_in_them": sum(size for size in sizes.values() if size > 1),
            "largest": max(sizes.values()),
        },
    }


def _label(candidate: Candidate) -> str:
    return " ".join(filter(None, candidate.cell)) or "unlabelled"


def _by_label(items: Iterable[Candidate]) -> dict[str, int]:
    return dict(sorted(Counter(_label(item) for item in items).items()))


def _by_source(dropped: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, int]]:
    by_source: dict[str, Counter[str]] = {}
    for source, _, reason in dropped:
        by_source.setdefault(source, Counter())[reason] += 1
    return {source: dict(found.most_common()) for source, found in sorted(by_source.items())}


def _shares(label: str, candidates: Iterable[Candidate], kept: Iterable[Candidate]) -> dict[str, float]:
    def value(candidate: Candidate) -> str:
        known = candidate.source if label == "source" else getattr(candidate.labels, label)
        return known or "unlabelled"

    before, after = Counter(value(item) for item in candidates), Counter(value(item) for item in kept)
    return {name: round(after[name] / before[name], 4) for name in sorted(before)}


def _drawn(train: Sequence[Candidate], names: Sequence[str]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for candidate, name in zip(train, names, strict=True):
        shares[name] = shares.get(name, 0.0) + candidate.weight / len(train)
    return {name: round(share, 4) for name, share in sorted(shares.items())}
