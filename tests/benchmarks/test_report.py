"""The documents tell what was measured, and no other figures."""

from __future__ import annotations

import copy
import re

import pytest

from benchmarks import report
from benchmarks.compare import Cell, told

MARKS = {"README.md": {"speed"}, "speed.md": {"speed", "speed-spread", "speed-growth"}}


@pytest.mark.parametrize("path", [report.README, report.SPEED], ids=lambda path: path.name)
def test_the_document_has_the_figures_of_the_results(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"<!-- benchmark: ([\w-]+) -->", text)) == MARKS[path.name]
    assert report.fill(text, report.blocks(report.read())) == text, "python -m benchmarks.report writes it anew"


def test_another_result_is_another_document() -> None:
    """Or the test above would pass whatever was measured."""
    changed = copy.deepcopy(report.read())
    cell = changed["systems"][0]["cells"]["8"]
    cell["pictures_per_second"] = [2 * rate for rate in cell["pictures_per_second"]]
    text = report.README.read_text(encoding="utf-8")
    assert report.fill(text, report.blocks(changed)) != text


def test_a_row_tells_medians_of_the_rounds() -> None:
    service = {8: Cell([10.0, 30.0, 20.0], [50.0, 70.0, 60.0], [100.0, 200.0, 300.0])}
    raw = {8: Cell([40.0, 50.0, 30.0])}
    systems = {
        ("lookalike", "same"): {"ready_s": 1.25, "mib": 400, "cells": service},
        ("raw", "same"): {"cells": raw},
        ("litserve", "same"): {"ready_s": 4.0, "mib": 700, "cells": service},
        ("litserve", "exported"): {"ready_s": 4.0, "mib": 700, "cells": {8: Cell([5.0, 6.0, 7.0], [1.0], [1.0])}},
    }
    there = {"weights": "0", "cores": 2, "cpu": "C", "onnxruntime": "1", "python": "3", "versions": {"litserve": "0.2"}}
    made = report.blocks(
        {
            "when": "2026-01-02T00:00:00",
            "repeats": 3,
            "machine": there,
            "systems": told(systems),
            "not_had": {"Triton": "no"},
        }
    )["speed"]
    rows = [line.strip("| ").split(" | ") for line in made.splitlines() if line.startswith("| ")]
    cells = {row[0]: row[1:] for row in rows}
    assert cells["**this service**"] == ["20", "0.50", "200, 298 ms", "60.0", "400", "1.2 s", "-"]
    assert cells["LitServe 0.2"] == ["20", "0.50", "200, 298 ms", "60.0", "700", "4.0 s", "6"]
    assert "Triton: no" in cells
    assert "3 rounds" in made
    assert "2026-01-02" in made
