"""The pictures that show the model are of the model that is shipped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from app.core.faces import Detector
from app.core.generate import Generator, Sizes
from app.core.origin import Origin
from app.runtime.manifest import parse_manifest
from app.settings import Settings
from model_export.__main__ import main
from model_export.exporting.showcase import (
    EXAMPLES,
    MARGIN,
    both_ends,
    controls_sheet,
    example_faces,
    farthest,
)
from tests.detail import with_detail

MODELS = Settings().models
PAGE = MODELS.parent / "page"
DOCS = MODELS.parents[1] / "docs"


@pytest.fixture(scope="module")
def generator() -> Generator:
    manifest = parse_manifest(MODELS)
    sizes = Sizes(manifest.frame_size, manifest.image_size, manifest.crop_size)
    return Generator(MODELS, "cpu", threads=1, sizes=sizes)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(MODELS, "cpu", threads=1)


def test_the_examples_of_the_page_are_drawn_by_the_shipped_model(generator: Generator, detector: Detector) -> None:
    shipped = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(PAGE.glob("example-*.webp"))]
    drawn, _ = example_faces(generator, detector)
    again = "run `python -m model_export showcase app/models --page app/page`, and look at them"
    assert len(shipped) == len(drawn) == EXAMPLES, again
    assert min(peak_signal_noise_ratio(face, file) for face, file in zip(drawn, shipped, strict=True)) > 25, again


def test_the_sheet_of_controls_is_of_the_shipped_model(generator: Generator, detector: Detector) -> None:
    _, identities = example_faces(generator, detector)
    manifest = parse_manifest(MODELS)
    drawn = controls_sheet(both_ends(generator, identities), manifest.controls)
    shipped = np.asarray(Image.open(DOCS / "controls.webp").convert("RGB"))
    again = "run `python -m model_export showcase app/models --controls docs/controls.webp`, and look at it"
    assert shipped.shape == drawn.shape == (10 * manifest.image_size, MARGIN + 12 * manifest.image_size, 3), again
    assert peak_signal_noise_ratio(drawn, shipped) > 25, again
    assert shipped[:, :MARGIN].min() < 64, "there are words at the left"


def test_an_example_is_small_says_that_it_is_synthetic_and_has_a_face(detector: Detector) -> None:
    for path in PAGE.glob("example-*.webp"):
        assert path.stat().st_size < 8_000
        assert b"trainedAlgorithmicMedia" in path.read_bytes()
        assert len(detector(Image.open(path).convert("RGB"))) == 1


def test_what_shows_the_model_is_marked_as_what_it_draws(detector: Detector) -> None:
    origin, manifest = Origin(Settings()), parse_manifest(MODELS)
    again = "run `python -m model_export showcase` with --page and with --sheet"
    for path in (*PAGE.glob("example-*.webp"), DOCS / "look-alikes.webp", DOCS / "controls.webp"):
        found = origin.examine(path.read_bytes(), detector, (manifest.name, manifest.version))
        assert found.watermarks, f"{path.name}: {again}"


def test_the_farthest_are_least_alike() -> None:
    angles = np.radians([0, 2, 90, 179, 181])
    directions = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    assert farthest(directions, 3) == [0, 3, 2]


def test_a_sheet_shows_the_photograph_and_twelve_of_its_look_alikes(portrait: Image.Image, tmp_path: Path) -> None:
    portrait.save(tmp_path / "face.png")
    sheet = tmp_path / "sheet.webp"
    assert main(["showcase", str(MODELS), "--photograph", str(tmp_path / "face.png"), "--sheet", str(sheet)]) == 0
    picture = Image.open(sheet)
    side = parse_manifest(MODELS).image_size
    assert picture.size == (7 * side + 16, 3 * side)
    assert b"trainedAlgorithmicMedia" in sheet.read_bytes()


@pytest.mark.parametrize(
    ("words", "why"),
    [([], "say --page"), (["--sheet", "x.webp"], "go together"), (["--photograph", "x.jpg"], "say --page")],
)
def test_a_command_that_asks_for_nothing_is_told_what_to_say(words: list[str], why: str) -> None:
    with pytest.raises(SystemExit, match=why):
        main(["showcase", str(MODELS), *words])


def test_pairs_show_what_the_detail_stage_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_export.exporting.showcase.PAIRS", 4)
    sheet, models = tmp_path / "detail.webp", with_detail(tmp_path / "models")
    assert main(["showcase", str(models), "--detail", str(sheet)]) == 0
    picture = np.asarray(Image.open(sheet).convert("RGB"), float)
    assert picture.shape == (256, 8 * 256, 3)
    plain, detailed = picture[:, :256], picture[:, 256:512]
    assert 2 < (detailed - plain).mean((0, 1))[0] < 8, "the stage adds red"


def test_without_a_detail_stage_there_are_no_pairs(tmp_path: Path) -> None:
    models = with_detail(tmp_path / "models")
    manifest = json.loads((models / "manifest.json").read_text())
    del manifest["files"]["detail"]
    (models / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SystemExit, match="has no detail stage"):
        main(["showcase", str(models), "--detail", str(tmp_path / "x.webp")])


def test_a_photograph_without_a_face_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (300, 300)).save(tmp_path / "nobody.png")
    words = ["--photograph", str(tmp_path / "nobody.png"), "--sheet", str(tmp_path / "x.webp")]
    with pytest.raises(SystemExit, match="no face"):
        main(["showcase", str(MODELS), *words])
