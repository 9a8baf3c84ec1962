"""The benchmark of a GPU, as far as it goes without one: its dry run on the CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpu") / "results.json"
    assert gpu.main(["--device", "cpu", "--minutes", "60", "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def steps(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())["steps"]
    assert list(found) == list(gpu.steps("cpu"))
    return found


def test_nothing_fails_and_what_needs_a_gpu_says_so(steps: dict[str, Any]) -> None:
    assert {name: step for name, step in steps.items() if "failed" in step} == {}
    left = {name for name, step in steps.items() if "not_run" in step}
    assert left >= {name for name in steps if "CUDA graph" in name or "TensorRT" in name}
    assert {name for name in steps if "float32" in name} - left == {
        "decoder, float32, as the service does, batch 2",
        "decoder, float32, outputs bound, copied to the host, batch 2",
        "decoder, float32, inputs and outputs bound, batch 2",
        "over HTTP, float32",
    }


def test_every_way_draws_the_same_pictures(steps: dict[str, Any]) -> None:
    rows = [row for name, step in steps.items() if name.startswith("decoder") for row in step.values()]
    measured = [row for row in rows if isinstance(row, dict)]
    assert len(measured) == 8
    for row in measured:
        assert row["pictures_per_second"][0] > 0
        assert row["provider"] == "CPUExecutionProvider"
        assert row["levels"] < 0.1
    assert [row["levels"] for row in measured[:6]] == [0] * 6


def test_every_form_of_answer_was_asked_for_by_several_clients(steps: dict[str, Any]) -> None:
    cells = steps["over HTTP, float32"]
    assert set(gpu.FORMS) < set(cells)
    for form in gpu.FORMS:
        assert {count: cell["answers"] for count, cell in cells[form].items()} == {"1": 1, "2": 2}


def test_the_service_says_what_it_runs_on(steps: dict[str, Any]) -> None:
    seen = steps["doctor and readiness"]
    assert seen["doctor"]["provider"]["taken"] == seen["device"] == "cpu"
    assert seen["doctor_status"] == 0
    assert (seen["ready"]["status"], seen["ready"]["answer"]) == (200, {"status": "ready"})
    installed = steps["what the image installs"]["requirements"]
    assert any(line.startswith("fastapi") for line in installed)
    assert not any("will not do" in here for here in installed.values())


def test_what_is_done_is_not_done_again(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = path.read_bytes()
    assert gpu.main(["--device", "cpu", "--minutes", "60", "--out", str(path)]) == 0
    assert path.read_bytes() == before
    said = capsys.readouterr().out
    assert "A DRY RUN ON THE CPU" in said
    assert "nothing is left" in said


def test_a_step_is_not_begun_that_may_end_too_late(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.json"
    assert gpu.main(["--device", "cpu", "--minutes", "1", "--out", str(path)]) == gpu.MORE
    assert all("not_run" in step for step in json.loads(path.read_text())["steps"].values())
    assert "left for the next call: 7 steps" in capsys.readouterr().out


def test_results_are_kept_in_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "of" / "this" / "machine.json"
    words = ["--device", "cpu", "--only", "float32, TensorRT", "--out", str(path)]
    assert gpu.main(words) == 0
    assert list(json.loads(path.read_text())["steps"]) == ["decoder, float32, TensorRT, batch 2"]


def test_a_step_that_crashes_costs_itself_alone() -> None:
    assert gpu.done("no such step", 60, "cpu") == {"failed": "KeyError: 'no such step'"}
    assert gpu.done("doctor and readiness", 0.01, "cpu") == {"failed": "it was not done after 0.01 s"}
