"""The table of the benchmark, from results that are known."""

from __future__ import annotations

from benchmarks import origin
from benchmarks.details import Results, table

RESULTS: Results = {
    "raw rewritten batch 1|images/s": [90.0, 110.0, 100.0],
    "raw rewritten batch 8|images/s": [190.0, 210.0, 200.0],
    "raw shipped batch 8|images/s": [400.0],
    "service 8x8|images/s": [150.0, 170.0, 145.0],
    "service 8x8|p50 ms": [40.0, 60.0, 50.0],
    "service 8x8|p95 ms": [70.0, 70.0, 70.0],
    "service 8x8|p99 ms": [90.0, 90.0, 90.0],
    "service 8x8|CPU s per 1000": [12.0, 14.0, 13.0],
    "service|ready s": [2.0, 3.0, 2.5],
    "service|MiB": [400.0, 500.0, 450.0],
    "mark in the pixels, a picture|CPU ms": [0.0471, 0.0459, 0.05],
}


def rows() -> dict[str, list[str]]:
    lines = table(RESULTS, "a machine, 2 cores", 3).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in cells}


def test_says_the_machine_and_how_often_it_was_measured() -> None:
    first = table(RESULTS, "a machine, 2 cores", 3).splitlines()[0]
    assert "a machine, 2 cores" in first
    assert "3 interleaved rounds" in first


def test_a_row_has_median_spread_share_percentiles_and_cost() -> None:
    assert rows()["service 8x8"] == ["150.0 (145.0 to 170.0)", "0.75", "50", "70", "90", "13"]


def test_the_limit_is_the_best_batch_size_of_the_networks_that_the_service_runs() -> None:
    """Not a faster loop of other graphs: the share says what serving costs."""
    shares = {name: cells[1] for name, cells in rows().items() if name.startswith("raw")}
    assert shares == {"raw rewritten batch 1": "0.50", "raw rewritten batch 8": "1.00", "raw shipped batch 8": "2.00"}


def test_what_was_not_measured_is_a_dash() -> None:
    assert rows()["raw rewritten batch 8"][2:] == ["-"] * 4


def test_start_and_memory_have_their_own_table() -> None:
    assert rows()["service, ready s"] == ["2.5"]
    assert rows()["service, MiB"] == ["450.0"]
    assert rows()["mark in the pixels, a picture, CPU ms"] == ["0.047"]


def test_every_layer_of_origin_has_its_cost() -> None:
    found = origin.costs(tries=2)
    assert list(found) == [
        "mark in the pixels",
        "metadata",
        "the picture's file itself, a JPEG",
        "content credentials (C2PA)",
    ]
    assert found["mark in the pixels"] > 0
    assert found["content credentials (C2PA)"] > 0, "it comes on top of the file"
