import json
from pathlib import Path

import pytest

from app.errors import ModelsInvalid
from app.runtime.manifest import NETWORKS, OPTIONAL, read_manifest
from app.settings import Settings
from tests.detail import with_detail


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A copy of the shipped models with every network that there can be, to be spoilt."""
    return with_detail(tmp_path / "models")


def change(models: Path, **values: object) -> None:
    path = models / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_shipped_models_verify(models: Path) -> None:
    assert {role: file.file for role, file in read_manifest(models).files.items()} == NETWORKS
    manifest = read_manifest(Settings().models)
    assert set(NETWORKS) - set(manifest.files) <= OPTIONAL
    low, high = manifest.thresholds.lookalike_band
    assert -1 < low < high < 1


@pytest.mark.parametrize("file", NETWORKS.values())
def test_a_truncated_network_is_refused_by_name(models: Path, file: str) -> None:
    data = (models / file).read_bytes()
    (models / file).write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelsInvalid, match=f"{file}: sha256"):
        read_manifest(models)


def test_a_missing_network_is_refused_by_name(models: Path) -> None:
    (models / "decoder.onnx").unlink()
    with pytest.raises(ModelsInvalid, match=r"decoder\.onnx: cannot be read"):
        read_manifest(models)


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelsInvalid, match=r"manifest\.json: cannot be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"frame_size": 0}, "frame_size"),
        ({"image_size": "large"}, "image_size"),
        ({"controls": []}, "names 0 controls"),
        ({"files": {}}, "files lacks encoder"),
        ({"version": "2.0-\u03b2"}, "version: .*letters of Latin-1"),
        ({"name": "two\r\nlines"}, "name: .*on one line"),
        (
            {"thresholds": {"fmr_1e-2": 0.4, "fmr_1e-3": 0.8, "fmr_1e-4": 0.9, "genuine_median": 0.7}},
            "no look-alike band",
        ),
    ],
)
def test_an_inconsistent_manifest_is_refused(models: Path, values: dict[str, object], words: str) -> None:
    change(models, **values)
    with pytest.raises(ModelsInvalid, match=words):
        read_manifest(models)


def test_a_control_may_name_its_two_ends(models: Path) -> None:
    controls = json.loads((models / "manifest.json").read_text())["controls"]
    controls[0] = {"name": "nose width", "low": "narrow", "high": "wide", "unit": "% of the frame"}
    change(models, controls=controls)
    nose = read_manifest(models).controls[0]
    assert (nose.low, nose.high, nose.unit, nose.effect) == ("narrow", "wide", "% of the frame", "")


@pytest.mark.parametrize("ends", [{"low": "narrow"}, {"high": "wide"}, {"low": "", "high": "wide"}])
def test_a_control_with_one_end_is_refused(models: Path, ends: dict[str, str]) -> None:
    controls = json.loads((models / "manifest.json").read_text())["controls"]
    controls[3] = {"name": "nose width"} | ends
    change(models, controls=controls)
    with pytest.raises(ModelsInvalid, match=r"manifest\.json: controls\.3"):
        read_manifest(models)


def test_a_manifest_cannot_point_outside_its_directory(models: Path) -> None:
    files = json.loads((models / "manifest.json").read_text())["files"]
    files["encoder"]["file"] = "../encoder.onnx"
    change(models, files=files)
    with pytest.raises(ModelsInvalid, match=r"files\.encoder\.file must be encoder\.onnx"):
        read_manifest(models)
