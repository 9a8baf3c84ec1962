"""The evaluation from end to end, on networks of which one knows what they do."""

import json

import numpy as np
import pytest
from PIL import Image

from app.runtime.manifest import Control
from model_export.__main__ import main
from model_export.evaluation import command, likeness, report, studio
from model_export.evaluation.sample import Sample
from model_export.evaluation.settings import Settings
from model_export.networks.pretrained import PerceptualFeatures
from tests.model_export.evaluation.conftest import BRIGHTNESS

SMALL_SETTINGS = Settings(
    faces=18,
    controls=6,
    wide=20,
    baseline_faces=2,
    reference=30,
    sweep_faces=2,
    random=5,
    resamples=10,
    steps=5,
)
SMALL = [
    word
    for name in (
        "faces",
        "controls",
        "wide",
        "baseline_faces",
        "reference",
        "sweep_faces",
        "random",
        "resamples",
        "steps",
    )
    for word in (f"--{name.replace('_', '-')}", str(getattr(SMALL_SETTINGS, name)))
] + ["--threads", "1"]


class HalfSize(PerceptualFeatures):
    """At half of the size: a quarter of the work, which was two fifths of an evaluation."""

    def __init__(self, size):
        super().__init__(size // 2)


@pytest.fixture(scope="module", autouse=True)
def _looks_are_small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studio, "PerceptualFeatures", HalfSize)
        yield


@pytest.fixture(scope="module")
def people(face_set, tmp_path_factory):
    """Cuts of twelve people with four pictures each: one face, in four lights."""
    folder = tmp_path_factory.mktemp("people")
    chance, faces, entries = np.random.default_rng(3), [], []
    for person, face in enumerate(face_set.faces[:12]):
        for take in range(4):
            lit = face.astype(float) * (0.85 + 0.1 * take) + chance.normal(0, 6, face.shape)
            entries.append({"file": f"{person}/{take}.jpg", "row": len(faces)})
            faces.append(np.clip(lit, 0, 255).astype(np.uint8))
    np.save(folder / "000000.faces.npy", np.stack(faces))
    np.save(folder / "000000.embeddings.npy", np.zeros((len(faces), 192), np.float32))
    (folder / "000000.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="module")
def evaluated(prepared, models, judged_by, people, profiles, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    document = out / "CARD.md"
    document.write_text(f"# Card\nabove\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    words = ["evaluate", str(prepared), str(models), str(out), "--judge", str(judged_by), "--card", str(document)]
    words += ["--people", str(people), "--profiles", str(profiles)]
    assert main([*words, *SMALL]) == 0
    return out


@pytest.fixture(scope="module")
def result(evaluated):
    return json.loads((evaluated / "evaluation.json").read_text())


def test_every_row_is_there_with_an_interval_around_its_value(result):
    metrics = result["metrics"]
    for path, _, _ in report.HEADLINES:
        entry = report.find(metrics, path)
        # A face mesh measures features, and none is named here; no photograph of the set is grey, or has a label.
        if path.startswith(("features", "texture.grey", "glasses")):
            assert entry is None, path
            continue
        assert entry is not None, path
        if path.startswith("fairness"):  # every group is too small to count here
            assert entry["value"] is None, path
            continue
        low, high = entry["interval"]
        assert low <= high, path
    assert set(metrics["baselines"]) == {"latent_jitter", "pixel_morph"}


def test_thresholds_are_what_the_manifest_wants(result):
    thresholds = result["thresholds"]
    assert set(thresholds) == {"fmr_1e-2", "fmr_1e-3", "fmr_1e-4", "genuine_median"}
    assert thresholds["fmr_1e-2"] <= thresholds["fmr_1e-3"] <= thresholds["fmr_1e-4"]
    assert thresholds["genuine_median"] == likeness.QUOTED_GENUINE_MEDIAN
    assert "quoted" in result["metrics"]["calibration"]["genuine_median"]["quoted_from"]


def test_doubts_of_a_redrawing_are_those_that_one_photograph_in_a_hundred_has(result):
    assert set(result["redrawing"]) == {"eyes", "mouth"}
    assert all(-1 <= value <= 1 for value in result["redrawing"].values())


def test_ten_distinct_controls_and_the_dead_one_is_called_dead(result):
    controls = [Control.model_validate(entry) for entry in result["controls"]]
    assert len({control.name for control in controls}) == 10
    assert controls[9].name == "no effect 10"
    assert controls[BRIGHTNESS].name == "brightness"
    assert "brighter picture" in controls[BRIGHTNESS].effect


def test_linear_patterns_are_recovered_and_the_dead_control_is_not(result):
    scores = [entry["value"] for entry in result["metrics"]["control_recoverability"]["r2"]]
    assert min(scores[:9]) > 0.7
    assert scores[9] < 0.3
    assert result["metrics"]["control_recoverability"]["r2_worst"]["value"] == pytest.approx(scores[9])
    assert result["metrics"]["control_recoverability"]["r2_worst"]["met"] is False


def test_neither_the_order_nor_leaving_a_question_out_changes_a_figure(
    prepared, models, judged_by, people, profiles, result
):
    sample = Sample(prepared, models, judged_by, SMALL_SETTINGS, threads=1, people=people, profiles=profiles)
    asked = [name for name in reversed(command.QUESTIONS) if name != "identities"]
    again = json.loads(json.dumps(command.evaluate(sample, {name: command.QUESTIONS[name] for name in asked})))
    assert again["metrics"].keys() == result["metrics"].keys() - {"random_identities", "memorisation"}
    for name in again["metrics"].keys() - {"seconds"}:
        assert again["metrics"][name] == result["metrics"][name], name
    assert (again["controls"], again["thresholds"]) == (result["controls"], result["thresholds"])


def test_people_are_told_apart_better_than_by_chance(result):
    metrics = result["metrics"]
    assert 0.5 < metrics["drawn_training"]["accuracy"]["value"] <= 1
    assert metrics["cohort_gain"]["let_in_without"]["value"] > 0


def test_questions_about_people_are_left_out_without_any(prepared, models, judged_by):
    sample = Sample(prepared, models, judged_by, SMALL_SETTINGS, threads=1)
    assert command.QUESTIONS["cohort_gain"](sample) == {} == command.QUESTIONS["drawn_training"](sample)
    assert command.QUESTIONS["profiles"](sample) == {}


def test_profiles_are_a_kind_of_their_own(evaluated, result):
    found, tables = result["metrics"]["profiles"], (evaluated / "tables.md").read_text()
    (row,) = [line for line in tables.splitlines() if line.startswith("| profile |")]
    assert row.startswith(f"| profile | 12 | {report.written(found['above_threshold'], 'percent')} | ")
    assert "13 photographs, one a person, as they would be sent: 92.3 % [" in tables
    assert (
        "Refused were no face 1. Of the photographs, blurred and JPEG'd, the independent recogniser takes 100.0 %"
        in tables
    )


def test_a_question_is_asked_anew_and_the_others_keep_their_answers(
    evaluated, prepared, models, judged_by, profiles, result, tmp_path, capsys
):
    before = json.loads(json.dumps(result))
    before["metrics"]["profiles"] = {}
    (tmp_path / "evaluation.json").write_text(json.dumps(before))
    words = ["evaluate", str(prepared), str(models), str(tmp_path), "--judge", str(judged_by), *SMALL]
    words += ["--profiles", str(profiles), "--only", "profiles"]
    assert main(words) == 0
    again = json.loads((tmp_path / "evaluation.json").read_text())
    again["metrics"]["seconds"] = result["metrics"]["seconds"]
    assert again == result
    assert (tmp_path / "tables.md").read_text() == (evaluated / "tables.md").read_text()
    assert main([*words, "--resamples", "61"]) == 2
    assert "other settings" in capsys.readouterr().err
    again["networks"]["decoder"] = "0" * 64
    (tmp_path / "evaluation.json").write_text(json.dumps(again))
    assert main(words) == 2
    assert "other networks" in capsys.readouterr().err


def test_pictures_and_tables_are_written(evaluated, result):
    for name in ("similarities.png", "responses.png", "fairness.png"):
        assert Image.open(evaluated / name).width > 100
    for name in (
        "reconstructions",
        "variants",
        "best",
        "worst",
        "sweeps_1",
        "random_identities",
        "nearest_training_faces",
    ):
        assert Image.open(evaluated / f"{name}.webp").width >= 128
    text = (evaluated / "CARD.md").read_text()
    assert text.startswith("# Card\nabove\n")
    assert text.endswith("below\n")
    assert "old" not in text.split()
    assert (evaluated / "tables.md").read_text() in text
    for control in result["controls"]:
        assert control["effect"] in text


def test_embeddings_of_another_recogniser_are_refused(prepared, models, tmp_path):
    for path in prepared.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    np.save(tmp_path / "embeddings.npy", -np.load(prepared / "embeddings.npy"))
    with pytest.raises(ValueError, match="not of this recogniser"):
        Sample(tmp_path, models, None, Settings(), threads=1)


def test_a_card_without_a_place_for_the_tables_is_told_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "Sample", lambda *_: pytest.fail("it was begun"))
    (tmp_path / "CARD.md").write_text("no table")
    assert main(["evaluate", "prepared", "models", str(tmp_path), "--card", str(tmp_path / "CARD.md")]) == 2
    assert "CARD.md: lacks the lines" in capsys.readouterr().err
