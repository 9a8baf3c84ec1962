"""Each loss is zero, least or negative exactly where it should be, and pulls the right way."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from model_export.networks.generator import RunningBias
from model_export.training import losses

torch.manual_seed(0)


def faces(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16) * 2 - 1


def maps(count: int = 3) -> list[torch.Tensor]:
    return [F.normalize(torch.randn(count, channels, 4, 4), dim=1) for channels in (8, 16)]


def test_adversarial_is_log_two_at_a_draw_and_falls_as_the_winner_wins() -> None:
    logits = torch.randn(5, 2)
    assert losses.adversarial(logits, logits).item() == pytest.approx(math.log(2))
    assert losses.adversarial(logits + 3, logits) < losses.adversarial(logits + 1, logits) < math.log(2)


def test_gradient_penalty_is_the_squared_norm_of_a_linear_critic_and_can_be_differentiated() -> None:
    weight = torch.randn(1, 8, 4, 4, requires_grad=True)
    inputs = [torch.randn(6, 8, 4, 4, requires_grad=True)]
    penalty = losses.gradient_penalty((inputs[0] * weight).sum((1, 2, 3)), inputs)
    assert penalty.item() == pytest.approx(weight.square().sum().item(), rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())


def test_pixel_counts_both_resolutions() -> None:
    image = faces()
    assert losses.pixel(image, image) == 0
    # A constant difference survives the halving, a checkerboard does not.
    board = torch.ones(1, 1, 16, 16)
    board[..., ::2, ::2] = board[..., 1::2, 1::2] = -1
    assert losses.pixel(image + 0.1, image).item() == pytest.approx(0.2, rel=1e-4)
    assert losses.pixel(image + 0.1 * board, image).item() == pytest.approx(0.1, rel=1e-4)


def test_feature_distance_is_zero_for_itself_two_for_orthogonal_and_four_for_opposite() -> None:
    features = maps()
    assert losses.feature_distance(features, features).abs().max() == 0
    torch.testing.assert_close(losses.feature_distance(features, [-value for value in features]), torch.full((3,), 4.0))
    first, second = torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    first[0, 0], second[0, 1] = 1, 1
    assert losses.perceptual([first], [second]).item() == pytest.approx(2)


def test_what_is_in_focus_counts_more_and_the_whole_as_much() -> None:
    focus = losses.focus_map(torch.tensor([[0.28125, 0.78125], [0.71875, 0.78125]]), 16, torch.tensor([3.0]))
    assert focus.shape == (1, 1, 16, 16)
    assert focus.mean().item() == pytest.approx(1)
    assert focus[0, 0, 12, 4] == focus.max()
    assert focus[0, 0, 0, 8] == focus.min()
    assert (focus.max() / focus.min()).item() == pytest.approx(4, rel=0.1)
    torch.testing.assert_close(focus, focus.flip(3))
    uneven = losses.focus_map(torch.tensor([[0.28125, 0.78125], [0.71875, 0.78125]]), 16, torch.tensor([3.0, 6.0]))
    assert (uneven[0, 0, 12, 11] / uneven[0, 0, 12, 4]).item() == pytest.approx(7 / 4, rel=0.1)
    image = faces()
    assert losses.pixel(image + 0.1, image, focus).item() == pytest.approx(0.2, rel=1e-4)
    eye, corner = torch.zeros_like(image), torch.zeros_like(image)
    eye[..., 12, 4] = corner[..., 0, 8] = 1
    assert losses.pixel(image + eye, image, focus) > 3 * losses.pixel(image + corner, image, focus)
    features = maps()
    moved = [value.flip(1) for value in features]
    torch.testing.assert_close(
        losses.perceptual(features, moved, torch.ones(1, 1, 16, 16)), losses.perceptual(features, moved)
    )


def test_texture_asks_for_as_much_of_a_pattern_and_not_for_its_place() -> None:
    board = torch.ones(1, 2, 16, 16)
    board[..., ::2, ::2] = board[..., 1::2, 1::2] = -1
    flat = torch.zeros_like(board)
    assert losses.texture([board], [board], 4).item() == 0
    assert losses.texture([board], [board.roll(1, 3)], 4).item() == pytest.approx(0, abs=1e-6)
    assert losses.texture([flat], [board], 4).item() == pytest.approx(
        1, abs=0.02
    )  # blurred away: deviation 1 is missing
    assert losses.texture([board + 0.5], [board], 4).item() == pytest.approx(0.5, abs=1e-3)


def test_texture_is_local_as_far_as_it_has_cells() -> None:
    left, right = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    left[..., :8] = torch.randn(16, 8)
    right[..., 8:] = left[..., :8]
    assert losses.texture([left], [right], 1).item() == pytest.approx(0, abs=1e-6)
    assert losses.texture([left], [right], 4).item() > 0.5


def test_matching_sees_what_all_faces_have_too_much_of_and_nothing_else() -> None:
    target = [torch.randn(64, 5), torch.randn(64, 9)]
    bias = RunningBias([5, 9])
    assert losses.matching(bias.update([value.flip(0) for value in target], target, 0.0), 0.0).item() < 1e-9
    shifted = [value + 0.5 for value in target]
    assert losses.matching(bias.update(shifted, target, 0.0), 0.0).item() == pytest.approx(0.25, abs=1e-4)


def test_matching_remembers_the_batches_before_and_pulls_as_hard_as_one_batch_would() -> None:
    bias, zero = RunningBias([3]), [torch.zeros(4, 3)]
    for _ in range(200):
        bias.update([torch.full((4, 3), 0.5)], zero, 0.9)
    torch.testing.assert_close(bias.get_buffer("mean_0"), torch.full((3,), 0.5))
    # A batch without any bias is pulled down all the same, by the gradient of mean(0.5^2) but for its own share.
    drawn = torch.zeros(4, 3, requires_grad=True)
    losses.matching(bias.update([drawn], zero, 0.9), 0.9).backward()
    assert drawn.grad is not None
    torch.testing.assert_close(drawn.grad, torch.full((4, 3), 0.9 * 2 * 0.5 / 3 / 4))


def test_evenness_weighs_the_worst_faces_most() -> None:
    source = F.normalize(torch.randn(2, 192), dim=1)
    across = torch.roll(source, 1, 1) - (torch.roll(source, 1, 1) * source).sum(1, keepdim=True) * source
    across = F.normalize(across, dim=1)

    def at(*cosines: float) -> torch.Tensor:
        cosine = torch.tensor(cosines)[:, None]
        return losses.evenness(cosine * source + (1 - cosine**2).sqrt() * across, source)

    assert at(1, 1).item() == pytest.approx(0, abs=1e-6)
    assert at(0.7, 0.7).item() == pytest.approx(0.09, abs=1e-4)
    assert at(0.5, 0.9) > at(0.7, 0.7)


def test_identity_is_one_minus_cosine() -> None:
    embedding = F.normalize(torch.randn(4, 192), dim=1)
    assert losses.identity(embedding, embedding).item() == pytest.approx(0, abs=1e-6)
    assert losses.identity(embedding, -embedding).item() == pytest.approx(2)


def test_the_corridor_is_the_band_far_out_and_closes_on_one_at_zero() -> None:
    controls = torch.stack([torch.zeros(10), torch.full((10,), 0.175), torch.full((10,), 0.35), torch.ones(10)])
    low, high = losses.corridor(controls, 0.5, 0.7)
    torch.testing.assert_close(low, torch.tensor([1.0, 0.75, 0.5, 0.5]))
    torch.testing.assert_close(high, torch.tensor([1.0, 0.85, 0.7, 0.7]))


@pytest.mark.parametrize(("similarity", "expected"), [(0.6, 0.0), (0.5, 0.0), (0.4, 0.1), (0.9, 0.2)])
def test_band_is_the_distance_to_the_corridor(similarity: float, expected: float) -> None:
    low, high = torch.tensor([0.5]), torch.tensor([0.7])
    assert losses.band(torch.tensor([similarity]), low, high).item() == pytest.approx(expected, abs=1e-6)


def test_mutual_information_is_least_for_a_right_and_certain_answer() -> None:
    control = torch.rand(8, 10) * 2 - 1
    certain, unsure = torch.full((8, 10), -20.0), torch.full((8, 10), 20.0)
    right = losses.mutual_information(control, certain, control)
    assert right.item() == pytest.approx(math.log(0.25), abs=1e-4)
    assert right < losses.mutual_information(control, unsure, control)
    assert losses.mutual_information(-control, certain, control) > losses.mutual_information(-control, unsure, control)


def test_latent_cycle_is_the_mean_absolute_difference() -> None:
    latent = torch.randn(4, 70)
    assert losses.latent_cycle(latent + 0.25, latent).item() == pytest.approx(0.25, rel=1e-5)


def test_diversity_rewards_change_up_to_its_limit_only() -> None:
    spread = torch.ones(4)
    values = [losses.diversity(torch.full((4,), distance), spread, 0.4).item() for distance in (0.0, 0.2, 0.4, 4.0)]
    assert values == pytest.approx([0, -0.5, -1, -1], abs=2e-3)
    # The same change is worth more when the controls lie close together.
    assert losses.diversity(spread / 10, spread / 2, 0.4) < losses.diversity(spread / 10, spread, 0.4)


def test_colour_shift_sees_a_cast_and_a_dimming_but_not_fine_structure() -> None:
    image = faces()
    red = image.clone()
    red[:, 0] += 0.3
    structure = torch.zeros(1, 1, 16, 16)
    structure[..., ::2], structure[..., 1::2] = 0.3, -0.3
    assert losses.colour_shift(red, image) > 0.1
    assert losses.colour_shift(image - 0.3, image).item() == pytest.approx(0.3, rel=1e-4)
    assert losses.colour_shift(image + structure, image).item() == pytest.approx(0, abs=1e-6)


def test_unlike_eyes_are_those_that_a_control_changes_differently() -> None:
    points = torch.tensor([[0.28125, 0.28125], [0.71875, 0.28125]])
    eyes = losses.focus_map(points, 16, torch.ones(1), elsewhere=0.0)
    assert eyes.mean().item() == pytest.approx(1)
    assert eyes[0, 0, -1].max() < 1e-6 * eyes.max()
    image = faces()
    both, one, mouth = image.clone(), image.clone(), image.clone()
    one[..., 3:6, 3:6] += 0.2
    both[..., 3:6, 3:6] += 0.2
    both[..., 3:6, 10:13] += 0.2
    mouth[..., 13:, 3:6] += 0.2
    assert losses.unlike_eyes(one, image, eyes) > 0.05
    for alike in (both, mouth, image):
        assert losses.unlike_eyes(alike, image, eyes) < 1e-4


def test_divergence_and_moments_vanish_for_the_standard_normal() -> None:
    assert losses.divergence(torch.zeros(4, 70), torch.zeros(4, 70)) == 0
    assert losses.divergence(torch.ones(4, 70), torch.zeros(4, 70)).item() == pytest.approx(0.5)
    mean, certain = torch.randn(20_000, 3), torch.full((20_000, 3), -20.0)
    assert losses.moments(mean, certain) < 0.01
    assert losses.moments(mean + 1, certain) > 0.9
    assert losses.moments(2 * mean, certain) > 8


def test_attribute_shift_wants_age_to_follow_the_first_control_and_the_rest_to_stay() -> None:
    control = torch.rand(6, 10) * 2 - 1
    change = torch.zeros(6, 7)
    change[:, 0] = 0.8 * control[:, 0]
    assert losses.attribute_shift(change, control, 0.8) == 0
    moved = change.clone()
    moved[:, 1] += 1
    assert losses.attribute_shift(moved, control, 0.8) > 0
    assert losses.attribute_shift(-change, control, 0.8) > 0
