"""What a report says that its figures do not."""

from __future__ import annotations

from app.audit.report import conclusions


def test_look_alikes_are_told_with_their_own_size() -> None:
    report = {
        "photographs": {"people": 2, "used": 2},
        "look_alikes": {"made": 2},
        "operating_points": [],
        "pairs": {"genuine": 0},
        "crop": "frame",
        "recogniser": "own",
    }
    assert any("256 pixels wide" in sentence for sentence in conclusions(report, 256)["cannot"])
