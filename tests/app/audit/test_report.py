"""What a report says that its figures do not."""

from __future__ import annotations

from typing import Any

import pytest

from app.audit.recognisers import own
from app.audit.report import conclusions
from app.settings import Settings

REPORT: dict[str, Any] = {
    "photographs": {"people": 2, "used": 2},
    "look_alikes": {"made": 2},
    "operating_points": [],
    "by_similarity": [],
    "pairs": {"genuine": 0},
    "crop": "frame",
    "recogniser": "mine:embed",
}


def test_look_alikes_are_told_with_their_own_size() -> None:
    assert any("256 pixels wide" in sentence for sentence in conclusions(REPORT, 256)["cannot"])


@pytest.mark.parametrize("name", ["mine:embed", "mine:known_faces", "download:embed", "own.onnx (frame 112x112)"])
def test_whoever_elses_recogniser_was_shown_what_it_would_not_be(name: str) -> None:
    told = conclusions({**REPORT, "recogniser": name}, 128)["cannot"]
    assert any("in its own pipeline" in sentence for sentence in told)


def test_the_services_own_was_shown_what_it_always_is() -> None:
    name = own(Settings(device="cpu", threads=1)).name
    told = conclusions({**REPORT, "recogniser": name}, 128)["cannot"]
    assert not any("in its own pipeline" in sentence for sentence in told)


@pytest.mark.parametrize("bins", [[], [{"from": 0.5}]], ids=["no threshold", "a threshold"])
def test_what_is_let_in_can_be_concluded_where_there_is_a_threshold(bins: list[dict[str, float]]) -> None:
    told = conclusions({**REPORT, "by_similarity": bins}, 128)["can"]
    assert any("are let in" in sentence for sentence in told) is bool(bins)
