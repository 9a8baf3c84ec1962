"""The detail stage: what it learns from, a few steps of training, and a model folder that has it afterwards."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from app.runtime.manifest import NETWORKS, read_manifest
from model_export.__main__ import main
from model_export.detail import losses
from model_export.detail.config import DetailConfig
from model_export.detail.export import ServedDetail
from model_export.detail.material import Material, Wanted, gather
from model_export.detail.measure import finest_octave, psnr_of
from model_export.detail.pattern import mean_detail, pattern_left, quiet, weave_of
from model_export.detail.report import BEGIN, END
from model_export.detail.sheet import plainly
from model_export.detail.trainer import DetailTrainer
from model_export.networks.detail import DetailCritic, DetailStage, DetailWidths, enlarged
from model_export.pictures import normalised, to_bytes, to_tensor
from model_export.preparing.sources import read_sources

MODELS = Path(__file__).parents[2] / "app" / "models"
SMALL = DetailWidths(width=4, dilations=(1, 2), critic=2)
TINY = DetailConfig(steps=4, alone=2, batch=2, patch=32, seen=32, networks=SMALL)


@pytest.fixture(scope="module")
def material() -> Material:
    """Parts of a photograph in place of faces."""
    photograph = data.astronaut()
    large = np.stack([photograph[top : top + 256, 128:384] for top in (0, 100, 200)])
    small = np.stack([np.asarray(Image.fromarray(face).reduce(2)) for face in large])
    return Material(large, np.stack([small, small[:, :, ::-1]], axis=1), np.eye(3, 192, dtype=np.float32))


def trained(material: Material, steps: int, trainer: DetailTrainer | None = None) -> DetailTrainer:
    trainer = trainer or DetailTrainer(TINY, material, torch.device("cpu"))
    for _ in range(steps):
        trainer.step()
    return trainer


def test_at_first_it_is_the_bicubic_enlargement() -> None:
    images = torch.rand(2, 3, 128, 128) * 2 - 1
    assert torch.equal(DetailStage(SMALL)(images), enlarged(images))
    assert DetailCritic(SMALL)(enlarged(images))[0].shape == (2, 1)


def test_it_is_served_as_it_is_trained() -> None:
    """Enlargements are written as convolutions: the same but for rounding, at the edges too."""
    stage = DetailStage(SMALL)
    for parameter in stage.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.nn.init.normal_(stage.pattern, std=0.01)
    images = torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8)
    with torch.no_grad():
        trained_with = to_bytes(stage(normalised(images))).int()
        (served,) = ServedDetail(stage)(images)
    assert (served.int() - trained_with).abs().max() <= 1
    assert ((served.int() - trained_with).abs() > 0).float().mean() < 0.01


def test_a_step_reports_its_losses_and_the_critic_joins_later(material: Material) -> None:
    trainer = DetailTrainer(TINY, material, torch.device("cpu"))
    reports = [trainer.step() for _ in range(4)]
    assert set(reports[0]) == {"pixel", "consistency", "grid"}
    assert set(reports[3]) - set(reports[0]) == {"adversarial", "feature_matching", "critic"}, "what counts"
    assert all(np.isfinite(list(report.values())).all() for report in reports)
    assert reports[0]["consistency"] == 0 < reports[3]["consistency"]


def test_a_run_that_was_stopped_is_the_run_that_was_not(material: Material, tmp_path: Path) -> None:
    whole, begun = trained(material, 4), trained(material, 3)
    begun.save(tmp_path / "checkpoint.pt")
    again = DetailTrainer(TINY, material, torch.device("cpu"))
    again.load(tmp_path / "checkpoint.pt")
    trained(material, 1, again)
    assert again.steps == whole.steps == 4
    for one, other in zip(whole.averaged.parameters(), again.averaged.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-7)


def test_the_critic_sees_drawings_where_they_are_to_pass_it(material: Material) -> None:
    """The same first steps, other drawings from then on: only a critic that sees them learns otherwise."""
    unlike = replace(material, drawings=255 - material.drawings)
    for weight, same in ((0, True), (0.01, False)):
        weights = {"adversarial_drawn": weight, "consistency": 0, "grid": 0}
        config = DetailConfig.model_validate(TINY.model_dump() | {"alone": 0, "weights": weights, "weave": 0})
        losses_of_critic = []
        for drawn in (material, unlike):
            trainer = DetailTrainer(config, drawn, torch.device("cpu"))
            trainer.step()
            losses_of_critic.append([trainer.step()["critic"] for _ in range(2)])
        assert np.allclose(*losses_of_critic, rtol=0, atol=1e-6) == same


def test_the_median_leaves_edges_and_takes_texture() -> None:
    edge = (torch.arange(16) >= 8).float().expand(1, 3, 16, 16)
    assert torch.equal(losses.median(edge), edge)
    noise = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert float(losses.median(noise).std()) < 0.7 * float(noise.std())


def test_training_brings_photographs_back(material: Material) -> None:
    """In few steps it gets nearer to photographs, on the average over blurs, than bicubic enlargement is."""
    networks, weights = SMALL.model_copy(update={"width": 8}), {"consistency": 0, "grid": 0}
    config = TINY.model_copy(update={"steps": 60, "alone": 60, "learning_rate": 3e-3, "average": 0.9, "weave": 0})
    config = DetailConfig.model_validate(config.model_dump() | {"networks": networks, "weights": weights})
    stage = trained(material, 60, DetailTrainer(config, material, torch.device("cpu"))).averaged
    large, errors = to_tensor(material.photographs), []
    for seed in range(4):
        small = losses.degraded(large, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            errors.append([float(losses.pixel(made, large)) for made in (stage.enlarge(small), enlarged(small))])
    drawn, plain = np.mean(errors, axis=0)
    assert drawn < plain


def test_a_grid_is_seen_and_a_photograph_has_none() -> None:
    photograph = to_tensor(data.astronaut()[None, :256, 100:356])
    repeated = photograph[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert float(losses.grid(photograph)) < 0.01
    assert float(losses.grid(0.9 * photograph + 0.1 * repeated)) > 2 * float(losses.grid(photograph))
    assert float(losses.grid(repeated)) > 1


def test_consistency_is_about_what_the_small_picture_shows() -> None:
    plain = torch.rand(1, 3, 64, 64) * 0.5
    finest = 0.05 * (torch.arange(64) % 2 * 2 - 1).float()
    assert float(losses.consistency(plain + finest, plain)) < 3e-3
    assert float(losses.consistency(plain + 0.04, plain)) == pytest.approx(0.04 * 1.25, abs=1e-3)


def test_a_weave_is_what_drawings_share_beside_features() -> None:
    """Faces of noise, a blob that all of them have where photographs have it too, and stripes of the machine.

    Half of the drawings have other stripes besides, at another place.
    """
    random = np.random.default_rng(0)
    wave = 8 * np.sin(np.arange(128) * 2 * np.pi / 3)[:, None, None]
    stripes, others, blob = np.zeros((3, 128, 128, 1), np.float32)
    stripes[:, 64:], others[:, 40:60], blob[20:30:2, 20:30] = wave, wave, 60
    share = (np.arange(60) % 2)[:, None, None, None]
    drawings = 128 + blob + stripes + share * others + random.normal(0, 2, (60, 128, 128, 3))
    drawings = np.clip(drawings, 0, 255).astype(np.uint8)
    photographs = np.clip(128 + blob + random.normal(0, 2, (60, 128, 128, 3)), 0, 255).astype(np.uint8)
    photographs = photographs.repeat(2, 1).repeat(2, 2)
    mean, components = weave_of(drawings[:, None], photographs)
    pattern = mean[0] * 127.5
    assert pattern[:, :, 70:].std() > 3 > 6 * pattern[:, 22:28, 22:28].abs().mean()
    strongest = components[-1] * 127.5
    assert strongest[:, :, 41:59].std() > 1.5 > 6 * strongest[:, :, 70:].std()
    taken_off = np.clip(drawings - pattern.permute(1, 2, 0).numpy(), 0, 255).round().astype(np.uint8)
    weight = quiet(mean_detail(photographs))
    assert pattern_left(taken_off, weight) < 0.5 * pattern_left(drawings, weight)


def test_moments_match_wherever_the_detail_lies() -> None:
    features = [torch.rand(2, 3, 8, 8)]
    assert (
        float(losses.feature_moments([features[0].flip(3)], features))
        < 1e-6
        < float(losses.feature_matching([features[0].flip(3)], features))
    )
    assert float(losses.feature_moments([features[0] * 2], features)) > 0.1


def test_fine_detail_is_power_in_the_finest_octave() -> None:
    random = np.random.default_rng(0)
    sharp = random.integers(0, 256, (1, 256, 256, 3), np.uint8)
    soft = plainly(sharp[:, ::2, ::2], 256)
    assert finest_octave(sharp)[0] > finest_octave(soft)[0] + 10
    assert psnr_of(sharp, sharp)[0] > 70 > psnr_of(soft, sharp)[0]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of photographs of one face, and what `prepare` would say of it: three to train on, one held out."""
    folder, prepared = tmp_path_factory.mktemp("photographs"), tmp_path_factory.mktemp("prepared")
    photograph = Image.fromarray(data.astronaut())
    rows = ["row,file,split,age,gender,group,cluster,grey,eye_distance,source"]
    faces = []
    for row, side in enumerate((512, 480, 496, 200)):
        photograph.resize((side, side)).save(folder / f"{row}.png")
        faces.append(np.asarray(photograph.crop((150, 0, 310, 160)).resize((128, 128))))
        rows.append(f"{row},{row}.png,{'test' if row == 2 else 'train'},,,,{row},0,{side / 6:.1f},")
    rows = [rows[0], rows[1], rows[2], rows[4], rows[3]]
    (prepared / "faces.csv").write_text("\n".join(rows) + "\n")
    (prepared / "report.json").write_text("{}")
    np.save(prepared / "faces.npy", np.stack(faces))
    for name in ("embeddings", "embeddings_mirrored"):
        np.save(prepared / f"{name}.npy", np.eye(4, 192, dtype=np.float32))
    return folder, prepared


def test_photographs_are_cut_larger_and_drawn(
    photographs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, prepared = photographs
    sources = read_sources(folder)
    found = gather(sources, prepared, MODELS, "train", tmp_path, Wanted(faces=3))
    assert found.photographs.shape == (2, 256, 256, 3), "in the third the eyes are too close"
    assert found.drawings.shape == (3, 2, 128, 128, 3)
    assert np.allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-3)
    assert np.abs(found.drawings[:, 0].astype(int) - found.drawings[:, 1]).mean() > 1, "a redrawing, and a variant"
    monkeypatch.setattr("model_export.detail.material._draw", lambda *_: pytest.fail("kept from the first time"))
    again = gather(sources, prepared, MODELS, "train", tmp_path, Wanted(faces=3))
    assert np.array_equal(again.drawings, found.drawings)
    with pytest.raises(ValueError, match="begun with another choice: use another folder"):
        gather(sources, prepared, MODELS, "train", tmp_path, Wanted(faces=3, least_eyes=40))


def test_without_a_large_photograph_it_says_so(
    photographs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, prepared = photographs
    command = ["detail", str(folder), str(prepared), str(tmp_path / "run"), "--least-eyes", "300"]
    assert main(command) == 2
    assert "no photograph of the train side has eyes 300 pixels apart" in capsys.readouterr().err
    assert main([*command, "--steps", "5"]) == 2
    assert "no photograph" in capsys.readouterr().err, "nothing was begun that other steps could not be asked of"


def test_what_could_not_be_written_at_the_end_is_said_at_the_beginning(
    photographs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, prepared = photographs
    command = ["detail", str(folder), str(prepared), str(tmp_path / "run")]
    (tmp_path / "card.md").write_text("no table\n")
    assert main([*command, "--card", str(tmp_path / "card.md")]) == 2
    assert f"card.md: lacks the lines {BEGIN} and {END}" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "nothing")]) == 2
    assert "manifest.json" in capsys.readouterr().err
    (tmp_path / "run" / "config.json").write_text(TINY.model_dump_json())
    assert main([*command, "--steps", "5"]) == 2
    assert "was begun with 4 steps: use another folder for 5" in capsys.readouterr().err


@pytest.fixture
def without_detail(tmp_path: Path) -> Path:
    """The shipped models, as they were before they had such a stage."""
    models = tmp_path / "models"
    shutil.copytree(MODELS, models, ignore=shutil.ignore_patterns(NETWORKS["detail"]))
    manifest = json.loads((models / "manifest.json").read_text())
    manifest["files"].pop("detail", None)
    (models / "manifest.json").write_text(json.dumps(manifest))
    return models


def test_the_command_ends_with_a_model_that_draws_larger_faces(
    photographs: tuple[Path, Path], tmp_path: Path, without_detail: Path
) -> None:
    (folder, prepared), models, card, run = photographs, without_detail, tmp_path / "card.md", tmp_path / "run"
    card.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    run.mkdir()
    (run / "config.json").write_text(TINY.model_copy(update={"steps": 3}).model_dump_json())
    command = ["detail", str(folder), str(prepared), str(run), "--models", str(models)]
    assert main([*command, "--max-seconds", "0"]) == 0
    assert read_manifest(models).picture_sizes == [128], "it is not trained to its end"
    assert main([*command, "--card", str(card)]) == 0
    manifest = read_manifest(models)
    assert manifest.picture_sizes == [128, 256]
    facts = manifest.metrics["detail"]
    assert facts["faces"] == facts["photographs"] == 1
    assert manifest.training["detail"]["settings"]["steps"] == 3
    assert (models / NETWORKS["detail"]).stat().st_size < 2**20
    assert "| similarity to the photograph moves by, median |" in card.read_text()
    assert card.read_text().startswith("before\n")
    assert card.read_text().endswith("after\n")
    assert list(run.glob("sheet-*.png"))
