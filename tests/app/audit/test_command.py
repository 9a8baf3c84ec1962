from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from playwright.sync_api import Page, sync_playwright

import app.audit
from app.audit import command
from app.batch.output import LOCK
from app.core.faces import Recognizer
from tests.patience import PATIENCE

Report = Callable[..., int]


@pytest.fixture(scope="module")
def browser_page(program: Callable[[str], str]) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program("chromium"), args=["--no-sandbox"], timeout=1000 * PATIENCE
        )
        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        yield page
        browser.close()


def told(folder: Path) -> dict:
    return json.loads((folder / "OUT" / "report.json").read_text())


def test_a_report_of_the_services_own_recogniser(report: Report, people: Path, tmp_path: Path) -> None:
    assert report("--labels", str(people / "labels.csv")) == 0
    found = told(tmp_path)
    assert found["photographs"] == {
        "used": 28,
        "people": 10,
        "people_with_one": 1,
        "skipped": 1,
        "failures_to_extract": 0,
    }
    assert [one["photograph"] for one in found["skipped"]] == ["p01/rocket.jpg"]
    assert found["look_alikes"] == {"made": 30, "each": 3, "failures": 0}
    # 9 people with three photographs, one with one; whoever has one gives no genuine pair, and no other photograph.
    assert found["pairs"] == {"genuine": 27, "impostor": 28 * 27 // 2 - 27, "source": 30, "other": 27}
    first, second, third, fourth = found["operating_points"]
    assert first["can_be_had"]
    assert first["rough"]
    assert first["fmr"]["value"] <= 0.01
    assert [point["can_be_had"] for point in (second, third, fourth)] == [False] * 3
    assert "at least 3000 are needed" in second["why"]
    assert [row["people"] for row in found["groups"]["kind"]["groups"]] == [5, 5]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "OUT" / "look-alikes.csv").read_text())))
    assert len(rows) == 30
    near, far = (
        np.mean([float(row["similarity"]) for row in rows if float(row["reach"]) in reach]) for reach in ({0.6667}, {2})
    )
    assert near > far + 0.05  # spread over the range that can be drawn
    # The service's own recogniser is the generator's, so a score is the similarity.
    assert all(abs(float(row["score"]) - float(row["similarity"])) < 0.02 for row in rows)
    rates = list(csv.DictReader(io.StringIO((tmp_path / "OUT" / "rates.csv").read_text())))
    assert float(rates[0]["threshold"]) == first["threshold"]["value"]
    assert float(rates[0]["fmr_high"]) == first["fmr"]["interval"][1]


def test_the_page_says_what_the_json_says(report: Report, tmp_path: Path, browser_page: Page) -> None:
    assert report() == 0
    found = told(tmp_path)
    asked: list[str] = []
    browser_page.on("request", lambda request: asked.append(request.url))
    browser_page.goto((tmp_path / "OUT" / "report.html").as_uri())
    assert [url.partition(":")[0] for url in asked] == ["file"] + ["data"] * (len(asked) - 1)
    cells = browser_page.locator("#points tbody tr").first.locator("td").all_inner_texts()
    point = found["operating_points"][0]
    assert float(cells[1].split()[0]) == pytest.approx(point["threshold"]["value"], abs=1e-4)
    for cell, figure in zip(cells[2:4], (point["fmr"], point["fnmr"]), strict=True):
        shown = [float(number) / 100 for number in re.findall(r"([\d.]+) %", cell)]
        assert shown == pytest.approx([figure["value"], *figure["interval"]], abs=5e-4, rel=5e-3)
    let_in = point["look_alikes_let_in"]["against_another"]
    assert cells[5].endswith(f"of {let_in['of']}")
    assert browser_page.locator("#bins tbody tr").count() == len(found["by_similarity"])
    assert browser_page.locator("svg").count() == 3
    assert "DET curve" in browser_page.locator("h2").all_inner_texts()[1]
    pictures = browser_page.locator(".pairs img")
    assert pictures.count() == 40
    assert all(pictures.nth(n).evaluate("image => image.complete && image.naturalWidth == 128") for n in (0, 39))
    assert "your own photographs" in browser_page.inner_text(".note")
    assert len(browser_page.pdf()) > 10_000


def test_a_run_that_was_stopped_goes_on(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    before = Recognizer.__call__

    def stopped(self: Recognizer, faces: np.ndarray) -> np.ndarray:
        shown.append(len(faces))
        if sum(shown) > 25:
            raise KeyboardInterrupt
        return before(self, faces)

    monkeypatch.setattr(Recognizer, "__call__", stopped)
    assert report() == 130
    assert not (tmp_path / "OUT" / "report.json").exists()
    monkeypatch.setattr(Recognizer, "__call__", before)
    assert report() == 0
    whole = told(tmp_path)
    monkeypatch.setattr(Recognizer, "__call__", lambda *_: pytest.fail("asked for what was known"))
    assert report() == 0
    assert told(tmp_path) == whole


def test_no_pictures_where_none_are_wanted(report: Report, tmp_path: Path) -> None:
    assert report("--pictures", "0") == 0
    assert "<img" not in (tmp_path / "OUT" / "report.html").read_text()


def test_a_file_name_is_text_wherever_it_stands(report: Report, people: Path, tmp_path: Path) -> None:
    for name in ("<b>ada", "=bob()", os.fsdecode(b"J\xf6rg")):
        shutil.copytree(people / "p02", tmp_path / "in" / name)
    assert report(source=tmp_path / "in") == 0
    page = (tmp_path / "OUT" / "report.html").read_text()
    assert "&lt;b&gt;ada" in page
    assert "<b>ada" not in page
    assert "J%F6rg" in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / "OUT" / "look-alikes.csv").read_text())))
    named = {(row["person"], row["photograph"]) for row in rows}
    assert named == {("<b>ada", "<b>ada/0.png"), ("'=bob()", "'=bob()/0.png"), ("J%F6rg", "J%F6rg/0.png")}


def test_numbers_are_no_formulas() -> None:
    row = {"person": "-ada", "photograph": "\t@", "score": -0.5}
    assert command.as_csv([row]) == "person,photograph,score\n'-ada,'\t@,-0.5\n"


def test_faces_and_templates_are_for_their_owner_alone(report: Report, people: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for person in ("p02", "p03"):
        shutil.copy(people / person / "0.png", tmp_path / "in" / f"{person}.png")
    assert report("--look-alikes", "0", source=tmp_path / "in") == 0
    for name in ("report.html", "embeddings.sqlite"):
        assert stat.S_IMODE((tmp_path / "OUT" / name).stat().st_mode) == 0o600


def test_of_two_runs_in_one_folder_the_second_refuses(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "OUT").mkdir()
    with FileLock(tmp_path / "OUT" / LOCK):
        assert report() == 2
    assert f"{tmp_path / 'OUT'}: another report is at work in it" in capsys.readouterr().err


def test_a_photograph_each_gives_no_fnmr(report: Report, people: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for person in range(3):
        shutil.copy(people / f"p0{person}" / "0.png", tmp_path / "in" / f"{person}.png")
    assert report(source=tmp_path / "in") == 0
    found = told(tmp_path)
    assert found["photographs"]["people_with_one"] == 3
    assert found["pairs"] == {"genuine": 0, "impostor": 3, "source": 9, "other": 0}
    assert any("FNMR" in sentence for sentence in found["conclusions"]["cannot"])


def test_a_cohort_that_fits_and_one_that_does_not(report: Report, people: Path, tmp_path: Path) -> None:
    shutil.copytree(people, tmp_path / "cohort")
    assert report("--normalise", str(tmp_path / "cohort"), "--top", "10") == 0
    cohort = told(tmp_path)["cohort"]
    assert (cohort["members"], cohort["top"], cohort["skipped"]) == (28, 10, 1)
    assert cohort["verdict"] in ("fits", "does harm", "does not fit: no gain could be shown")
    difference = cohort["fnmr_after"]["value"] - cohort["fnmr_before"]["value"]
    assert cohort["difference"]["value"] == pytest.approx(difference, abs=1e-5)
    assert cohort["verdict"] in (tmp_path / "OUT" / "report.html").read_text()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda _: None, "cannot be read"),
        (lambda folder: folder.mkdir(), "holds no photograph"),
        (lambda folder: folder.write_text("x"), "neither a folder nor a tar or zip"),
    ],
    ids=["missing", "empty", "a file"],
)
def test_a_wrong_source_is_told(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture, make: Callable[[Path], None], says: str
) -> None:
    make(tmp_path / "in")
    assert report(source=tmp_path / "in") == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "OUT").exists()


def test_one_person_is_not_enough(report: Report, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree(people / "p02", tmp_path / "in" / "ada")
    assert report(source=tmp_path / "in") == 2
    assert "at least two people are needed" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "OUT").mkdir()
    (tmp_path / "OUT" / "thesis.txt").write_text("mine")
    assert report() == 2
    assert "name a new folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "OUT").iterdir()] == ["thesis.txt"]


def test_without_matplotlib_the_command_to_install_it_is_named(
    report: Report, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "app.audit.plots", raising=False)
    monkeypatch.delattr(app.audit, "plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert report() == 2
    assert "pip install 'lookalike[report]'" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "name,sex\na,b\n", "person\na\n"])
def test_labels_without_their_columns_are_told(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture, text: str
) -> None:
    (tmp_path / "labels.csv").write_text(text)
    assert report("--labels", str(tmp_path / "labels.csv")) == 2
    assert "first line like person,sex" in capsys.readouterr().err


def test_a_report_whose_embeddings_were_removed_is_made_anew(report: Report, people: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for person in ("p02", "p03"):
        shutil.copy(people / person / "0.png", tmp_path / "in" / f"{person}.png")
    assert report("--look-alikes", "0", source=tmp_path / "in") == 0
    before = told(tmp_path)
    (tmp_path / "OUT" / "embeddings.sqlite").unlink()
    (tmp_path / "OUT" / "report.json").write_text("{}")
    assert report("--look-alikes", "0", source=tmp_path / "in") == 0
    assert told(tmp_path) == before
