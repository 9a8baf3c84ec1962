"""What the frozen networks are shown: jittered, blurred, half of it mirrored, and drawn as photographed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model_export.preparing.dataset import FaceSet
from model_export.training.judges import Judge
from model_export.training.trainer import Trainer
from model_export.training.views import Dice, Handling, draw, jitter, look
from tests.model_export.tiny import TINY, trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def learner(face_set: FaceSet) -> Trainer:
    return trainer(face_set)


def test_two_variants_of_a_quarter_of_the_faces_and_random_people_are_drawn_beside_them(learner: Trainer) -> None:
    batch, nearer = learner.batches.after(0), TINY.changed(["reach=0.5"])
    with torch.no_grad():
        drawn = draw(learner.networks, batch, Dice(0, learner.device), nearer, variants=True)
        plain = draw(learner.networks, batch, Dice(0, learner.device), nearer, variants=False)
    assert (len(drawn.images), len(drawn.redrawn), len(drawn.variants)) == (8 + 4 + 1, 8, 4)
    assert drawn.varied.tolist() == [0, 1, 0, 1]
    assert drawn.control.shape == (4, 10)
    assert 0.2 < drawn.control.abs().max() <= 0.5
    assert (len(plain.images), len(plain.variants)) == (8, 0)
    torch.testing.assert_close(plain.redrawn, drawn.redrawn)


def test_recognisers_see_half_of_the_faces_mirrored_and_compare_them_with_mirrored_photographs(
    learner: Trainer,
) -> None:
    batch, seen = learner.batches.after(0), {}
    (service,) = learner.frozen.judges
    for mirror in (False, True):

        class Watched(torch.nn.Module):
            def forward(self, images: torch.Tensor, mirror: bool = mirror) -> torch.Tensor:
                seen.setdefault(mirror, []).append(images)
                return torch.nn.functional.normalize(images.mean((2, 3)), dim=1)

        judges = (service, Judge(service.config.model_copy(update={"name": "watched"}), Watched()))
        dice = Dice(3, learner.device)
        with torch.no_grad():
            drawn = draw(learner.networks, batch, dice, TINY, variants=True)
            handling = Handling.thrown(dice, TINY.changed([f"mirror={str(mirror).lower()}"]), 8)
            views = look(learner.frozen, judges, batch, drawn, handling)
        turned = handling.mirrored[:, 0]
        expected = torch.where(turned[:, None], batch.embedding_mirrored, batch.embedding)
        assert torch.equal(views.originals["service"], expected)
    of_drawn, of_photographs = zip(seen[False], seen[True], strict=True)
    assert 0 < turned.sum() < 8
    for (plain, mirrored), faces in ((of_drawn, turned[[*range(8), 0, 1, 0, 1]]), (of_photographs, turned)):
        same = (mirrored == plain).flatten(1).all(1)
        other_way = (mirrored == plain.flip(3)).flatten(1).all(1)
        assert torch.equal(other_way, faces), "a variant is seen as its face is"
        assert torch.equal(same, ~faces)


def test_redrawings_have_no_gradient_where_controls_alone_are_trained(learner: Trainer) -> None:
    batch = learner.batches.after(0)
    images = {}
    for train in ("all", "controls"):
        config = TINY.changed([f'train="{train}"'])
        drawn = draw(learner.networks, batch, Dice(0, learner.device), config, variants=True)
        views = look(learner.frozen, learner.frozen.judges, batch, drawn, Handling.thrown(Dice(1, CPU), config, 8))
        by_redrawings, by_variants = (
            torch.autograd.grad(views.embeddings["service"][rows].sum(), drawn.images, retain_graph=True)[0]
            for rows in (slice(8), slice(8, None))
        )
        assert (by_redrawings.abs().sum() == 0) == (train == "controls")
        assert by_variants.abs().sum() > 0
        images[train] = drawn.images.detach()
    torch.testing.assert_close(images["all"], images["controls"], atol=1e-2, rtol=0)


def test_light_and_blur_stay_within_their_limits() -> None:
    handling = Handling.thrown(Dice(0, torch.device("cpu")), TINY.changed(["jitter=0.1", "blur=2", "light=0.2"]), 200)
    assert 0.09 < handling.zoom.abs().max() <= 0.1
    assert 0.045 < handling.shift.abs().max() <= 0.05
    assert 1 <= handling.blur.min() < 1.1
    assert 2.9 < handling.blur.max() <= 3
    assert 0.18 < handling.light.abs().max() <= 0.2
    still = replace(handling, zoom=0 * handling.zoom, shift=0 * handling.shift, blur=0 * handling.blur + 1)
    images = torch.rand(2, 3, 128, 128)
    seen = still.for_recognisers(images, torch.tensor([5, 7]))
    for face, image, shown in zip((5, 7), images, seen, strict=True):
        lit = image * (1 + handling.light[face, 0]) + handling.light[face, 1:, None, None] / 2
        lit = lit.flip(2) if handling.mirrored[face] else lit
        torch.testing.assert_close(shown, lit, atol=1e-5, rtol=1e-5)


def test_jitter_without_zoom_is_the_picture_and_with_shift_moves_it() -> None:
    images = torch.rand(2, 3, 32, 32)
    zero = torch.zeros(2, 1)
    torch.testing.assert_close(jitter(images, zero, torch.zeros(2, 2), 32), images, atol=1e-5, rtol=1e-5)
    shift = torch.tensor([[0.0, 0.0], [0.0, 1 / 32]])
    moved = jitter(images, zero, shift, 32)
    torch.testing.assert_close(moved[1, :, :, :-1], images[1, :, :, 1:], atol=1e-5, rtol=1e-5)
    halved = jitter(images, zero, torch.zeros(2, 2), 16)
    assert halved.mean().item() == pytest.approx(images.mean().item(), abs=0.01)


def test_jitter_blurs_each_picture_by_its_own_width() -> None:
    images = torch.rand(2, 3, 32, 32)
    zero = torch.zeros(2, 1)
    same, blurred = jitter(images, zero, torch.zeros(2, 2), 32, torch.tensor([[1.0], [2.5]]))
    torch.testing.assert_close(same, images[0], atol=1e-5, rtol=1e-5)
    assert blurred.std() < images[1].std() / 3
    assert blurred.mean().item() == pytest.approx(images[1].mean().item(), abs=0.01)
