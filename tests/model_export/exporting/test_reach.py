"""Reach: the latent's idle directions carry what the decoder cannot draw, and controls are scaled by it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model_export.exporting import reach
from model_export.exporting.reach import PORTRAIT_SIZE, Gain, Observed, Surrogate
from model_export.networks.generator import CONTROL_SIZE, IDENTITY_SIZE, Decoder, Encoder
from model_export.networks.pretrained import FrozenRecognizer
from model_export.preparing.dataset import FaceSet
from tests.model_export.conftest import MODELS
from tests.model_export.tiny import TINY

BAND = (0.45, 0.7)


class World:
    """Made-up faces: what a recogniser sees of a variant is linear in latent and control, then normalised."""

    def __init__(self, seed: int = 0) -> None:
        random = torch.Generator().manual_seed(seed)
        self.drawn = torch.randn(PORTRAIT_SIZE, 192, generator=random) / PORTRAIT_SIZE**0.5
        self.moved = torch.randn(CONTROL_SIZE, 192, generator=random) * 0.45
        # What a redrawing lacks lies in eight directions, and each face has more or less of it.
        self.lacking = torch.randn(8, 192, generator=random) / 8**0.5
        self.random = random

    def variants(self, identity: torch.Tensor, control: torch.Tensor) -> torch.Tensor:
        return F.normalize(identity[:, :PORTRAIT_SIZE] @ self.drawn + control @ self.moved, dim=1)

    def observe(self, count: int) -> Observed:
        identity = torch.randn(count, IDENTITY_SIZE, generator=self.random)
        identity[:, PORTRAIT_SIZE:] = 0
        lack = torch.randn(count, 8, generator=self.random)
        embedding = F.normalize(identity[:, :PORTRAIT_SIZE] @ self.drawn + lack @ self.lacking, dim=1)
        control = torch.rand(count, CONTROL_SIZE, generator=self.random) * 2 - 1
        return Observed(identity, embedding, control, self.variants(identity, control))


@pytest.fixture(scope="module", autouse=True)
def _surrogates_are_narrow() -> Iterator[None]:
    """A quarter of the width is enough for the made-up faces, and a sixteenth of the work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reach, "Surrogate", partial(Surrogate, width=192, dropout=0.03))
        yield


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def fitted() -> tuple[reach.Reach, Gain, float]:
    world = World()
    world.random.manual_seed(1)  # other faces than the tests'
    observed = world.observe(3000)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small matrices: threads of two processes would wait for each other
    try:
        return reach.fit(observed, BAND, reach.learn(reach.held_back(observed)[1], epochs=60))
    finally:
        torch.set_num_threads(threads)


def test_turning_the_latent_leaves_pictures_and_blinds_the_decoder_to_the_last_directions() -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder(TINY.networks).eval(), Decoder(TINY.networks).eval()
    with torch.no_grad():
        for first in (decoder.identity_style[0], decoder.start):
            assert isinstance(first, nn.Linear)
            basis = torch.linalg.qr(
                torch.randn(IDENTITY_SIZE, PORTRAIT_SIZE, generator=torch.Generator().manual_seed(1))
            )
            first.weight.copy_(first.weight @ basis.Q @ basis.Q.T)  # 16 directions move nothing
        images, embeddings = torch.rand(4, 3, 128, 128) * 2 - 1, F.normalize(torch.randn(4, 192), dim=1)
        control = torch.rand(4, CONTROL_SIZE) * 2 - 1
        before, _ = encoder(images, embeddings)
        drawn = decoder(before, control)
        given_up = reach.free(decoder, encoder, torch.randn(3, IDENTITY_SIZE), step=1e-3)
        after, _ = encoder(images, embeddings)
        assert given_up < 1e-3
        assert (decoder(after, control) - drawn).abs().max() < 1e-3
        torch.testing.assert_close(after.norm(dim=1), before.norm(dim=1), rtol=1e-3, atol=1e-4)
        after[:, PORTRAIT_SIZE:] += 10
        assert (decoder(after, control) - drawn).abs().max() < 1e-3


def test_variants_are_observed_as_the_recogniser_sees_them(face_set: FaceSet) -> None:
    encoder, decoder = Encoder(TINY.networks).eval(), Decoder(TINY.networks).eval()
    recognizer = FrozenRecognizer(MODELS / "face_recognizer.onnx")
    observed = reach.observe(encoder, decoder, recognizer, face_set, 5)
    assert observed.control.shape == (10, CONTROL_SIZE)
    assert observed.control[::2].abs().max() <= 1
    with torch.no_grad():
        seen = recognizer(decoder(observed.identity[7:8], observed.control[7:8]))
    assert (observed.variants[7] * seen[0]).sum() > 0.98, "bf16, where there is any, is as good as that"
    torch.testing.assert_close(observed.similarity[7], observed.variants[7] @ observed.embedding[7])
    rows = {tuple(row.tolist()) for row in observed.embedding}
    assert rows <= {tuple(row.tolist()) for row in face_set.embeddings} | {
        tuple(row.tolist()) for row in face_set.embeddings_mirrored
    }
    assert len(rows) == 10


def test_free_entries_are_like_the_others_and_remember_the_embedding(world: World) -> None:
    observed = world.observe(3000)
    surrogate = Surrogate().eval()
    surrogate.forward = lambda identity, control: world.variants(identity, control)  # type: ignore[method-assign]
    put, recall = reach.fit_reach(observed, surrogate)
    identity = put(observed.identity, observed.embedding)
    assert torch.equal(identity[:, :PORTRAIT_SIZE], observed.identity[:, :PORTRAIT_SIZE])
    whole = torch.cov(identity.T)
    free = whole[PORTRAIT_SIZE:, PORTRAIT_SIZE:]
    # Where an embedding has no more spread than the floor of its factor, there is nothing to remember.
    used = free.diagonal() > 0.5
    assert used.sum() >= 8
    torch.testing.assert_close(free[used][:, used], torch.eye(int(used.sum())), atol=0.05, rtol=0)
    assert whole[:PORTRAIT_SIZE, PORTRAIT_SIZE:].abs().max() < 0.05
    assert identity[:, PORTRAIT_SIZE:].mean(0).abs().max() < 0.05
    lost = (recall(identity) - observed.embedding).square().sum(1).mean()
    identity[:, PORTRAIT_SIZE:] = 0
    assert lost < 0.2 * (recall(identity) - observed.embedding).square().sum(1).mean()


def test_gain_brings_variants_of_other_faces_to_the_aim(world: World, fitted: tuple[reach.Reach, Gain, float]) -> None:
    put, gain, foreseen = fitted
    assert foreseen > 0.4
    others = world.observe(1600)
    identity, control, source = put(others.identity, others.embedding), others.control, others.embedding
    plain = (world.variants(identity, control) * source).sum(1)
    scaled = (world.variants(identity, gain(identity, control)) * source).sum(1)
    aim = BAND[0] + reach.AIM * (BAND[1] - BAND[0])
    assert gain.aim == pytest.approx(aim)
    assert scaled.std() < 0.93 * plain.std()
    assert ((scaled > BAND[0]) & (scaled < BAND[1])).float().mean() > (
        (plain > BAND[0]) & (plain < BAND[1])
    ).float().mean()


def test_tuning_foresees_the_similarity_of_other_faces_better(world: World) -> None:
    observed, others = world.observe(3000), world.observe(1600)
    surrogate = reach.learn(observed, epochs=12)
    put, recall = reach.fit_reach(observed, surrogate)
    identity = put(others.identity, others.embedding)

    def unforeseen(recall: nn.Linear, surrogate: Surrogate) -> float:
        with torch.no_grad():
            expected = (surrogate(identity, others.control) * recall(identity)).sum(1)
        return 1 - float(torch.corrcoef(torch.stack([expected, others.similarity]))[0, 1] ** 2)

    before = unforeseen(recall, surrogate)
    kept = [value.clone() for value in (*recall.parameters(), *surrogate.parameters())]
    tuned = reach.tune(observed, put, recall, surrogate)
    assert unforeseen(*tuned) < 0.8 * before
    for value, same in zip((*recall.parameters(), *surrogate.parameters()), kept, strict=True):
        assert torch.equal(value, same), "copies are tuned"


def test_gain_keeps_zero_and_the_direction_and_half_the_strength_is_half_as_far(
    fitted: tuple[reach.Reach, Gain, float],
) -> None:
    _, gain, _ = fitted
    identity = torch.randn(6, IDENTITY_SIZE)
    control = F.normalize(torch.randn(6, CONTROL_SIZE), dim=1)
    assert torch.equal(gain(identity, torch.zeros(6, CONTROL_SIZE)), torch.zeros(6, CONTROL_SIZE))
    followed = gain(identity, control)
    torch.testing.assert_close(F.normalize(followed, dim=1), control)
    torch.testing.assert_close(gain(identity, control / 2), followed / 2, rtol=1e-4, atol=1e-5)
    lengths = followed.norm(dim=1) / (reach.TYPICAL_LENGTH / reach.LENGTHS[0]) ** 0.5
    assert lengths.min() > reach.GAINS[0] * 0.999
    assert lengths.max() < reach.GAINS[1] * 1.001
    longest = gain(identity, control * 10**0.5)
    shrunk = math.sqrt(reach.LENGTHS[0] / reach.LENGTHS[1])
    torch.testing.assert_close(longest, followed * 10**0.5 * shrunk, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_a_decoder_that_does_not_heed_its_controls_is_refused(seed: int) -> None:
    deaf = World(seed)
    deaf.moved = torch.zeros_like(deaf.moved)
    observed = deaf.observe(300)
    with pytest.raises(ValueError, match="train on"):
        reach.fit(observed, BAND, reach.learn(reach.held_back(observed)[1], epochs=1))
