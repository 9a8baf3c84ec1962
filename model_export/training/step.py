"""One step of the algorithm: encoder, decoder and Q against the discriminator, and the other way round.

To add a loss: write it as a pure function in `losses`, name its weight in `config.LossWeights`, and add it to the terms
below; what it needs to see goes into `views`. Terms are functions, called where they count: weight 0 costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from model_export.networks.generator import mixed_precision
from model_export.networks.landmarks import FEATURES
from model_export.training import losses
from model_export.training.config import SERVICE, Steering, TrainConfig
from model_export.training.data import Batch
from model_export.training.judges import Frozen, Judge
from model_export.training.networks import Networks
from model_export.training.processes import Processes
from model_export.training.views import Dice, Drawn, Handling, Views, draw, look, measure

LOST_POINT = 12 / 128
"""Distance, in units of the frame, from which a landmark counts as not found."""
EMBEDDING_MEMORY = 0.98
"""Share of the mean difference of embeddings that a step of the same recogniser keeps."""

Terms = dict[str, Tensor]
"""Losses by the name under which their weight stands in the configuration."""
Uncounted = dict[str, Callable[[], Tensor]]
"""The same before it is known which of them count."""


@dataclass(frozen=True)
class Run:
    """Who takes part.

    Attributes:
        config: the settings.
        networks: those that are trained.
        frozen: those that look on.
        processes: gradients are shared between them.
    """

    config: TrainConfig
    networks: Networks
    frozen: Frozen
    processes: Processes


def generator_step(run: Run, batch: Batch, dice: Dice, fade_in: float, turn: int) -> tuple[Terms, Views]:
    """One update of encoder, decoder and Q.

    Args:
        run: who takes part.
        batch: the faces.
        dice: every random number.
        fade_in: weight in [0, 1] of what is asked of variants; at 0 there are none.
        turn: the step's number, which says who judges where judges take turns.

    Returns:
        The losses, and what was seen, for the discriminator to learn from.
    """
    config, networks = run.config, run.networks
    judges, placer = run.frozen.judges_at(turn), run.frozen.placer_at(turn)
    drawn = draw(networks, batch, dice, config, variants=fade_in > 0)
    views = look(run.frozen, judges, batch, drawn, Handling.thrown(dice, config, len(batch.source)))
    weights = config.loss_weights
    redrawing = counted(redrawing_terms(run, judges, batch, drawn, views), weights)
    varying = counted(varying_terms(run, judges, drawn, views), weights) if len(drawn.variants) else {}
    if placer and (weights["landmarks"] or (varying and config.steering and weights["steering"])):
        measured = measure(placer, batch, drawn, dice)
        placed: Uncounted = {"landmarks": lambda: losses.landmarks(measured.redrawn, measured.source, LOST_POINT)}
        redrawing |= counted(placed, weights)
        if varying and config.steering:
            wanted, counts = (value.to(drawn.control.device) for value in wanted_changes(config.steering))
            steered: Uncounted = {"steering": lambda: losses.steering(measured.change, drawn.control, wanted, counts)}
            varying |= counted(steered, weights)

    weighed = [value * weights[name] for name, value in redrawing.items()]
    weighed += [value * weights[name] * fade_in for name, value in varying.items()]
    networks.generator_optimiser.zero_grad(set_to_none=True)
    sum(weighed, torch.zeros((), device=batch.source.device)).backward()
    run.processes.share_gradients(networks.generator_parameters)
    nn.utils.clip_grad_norm_(networks.generator_parameters, 5.0)
    networks.generator_optimiser.step()
    return {name: value.detach() for name, value in (redrawing | varying).items()}, views


def counted(terms: Uncounted, weights: Mapping[str, float]) -> Terms:
    """The losses that have a weight, computed in their order; the others are not."""
    return {name: term() for name, term in terms.items() if weights[name]}


def wanted_changes(steering: Steering) -> tuple[Tensor, Tensor]:
    """What each steered control moves each feature at its full value, [9, 12], and what each feature counts, [12]."""
    wanted = torch.zeros(len(steering.controls), len(FEATURES))
    counts = torch.full((len(FEATURES),), steering.others)
    for row, name in enumerate(steering.controls):
        counts[FEATURES.index(name)] = 1
        for feature, share in {name: 1.0, **steering.follow.get(name, {})}.items():
            wanted[row, FEATURES.index(feature)] = share * steering.step
    return wanted, counts


def redrawing_terms(run: Run, judges: Sequence[Judge], batch: Batch, drawn: Drawn, views: Views) -> Uncounted:
    """What control 0 is to be: the person, as in the photograph. These losses are there from the start."""
    focus, count = run.frozen.focus, len(batch.source)
    strengths, of_source = [value[:count] for value in views.strengths], views.of_source_strengths
    terms: Uncounted = {
        "pixel": lambda: losses.pixel(drawn.redrawn, batch.source, focus),
        "perceptual": lambda: losses.perceptual(views.of_redrawn, views.of_source, focus),
        "texture": lambda: losses.texture(strengths, of_source, cells=4),
        "matching": lambda: matching_term(run, count, drawn, views),
        "divergence": lambda: losses.divergence(drawn.mean, drawn.log_variance),
        "phases": lambda: losses.phases(drawn.images),
        "seams": lambda: losses.seams(drawn.images),
        "moments": lambda: losses.moments(drawn.mean, drawn.log_variance),
    }
    for judge in judges:
        terms |= likeness_terms(run, judge, drawn, views)
    return terms


def matching_term(run: Run, count: int, drawn: Drawn, views: Views) -> Tensor:
    """Bias of mean features of `count` redrawings and, where there are any, of variants."""
    drawn_means, wanted_means = [value[:count] for value in views.means], views.of_source_means
    if len(drawn.variants):  # apart: what one kind has too much of, the other might lack
        drawn_means += [value[count:] for value in views.means]
        wanted_means = wanted_means + [value[drawn.varied] for value in wanted_means]
    bias = run.networks.bias.update(drawn_means, wanted_means, run.config.matching_memory)
    return losses.matching(bias, run.config.matching_memory)


def likeness_terms(run: Run, judge: Judge, drawn: Drawn, views: Views) -> Uncounted:
    """What a recogniser says of redrawings, and of whether it finds all that is drawn alike."""
    embeddings, original = views.embeddings[judge.name], views.originals[judge.name]
    redrawn = embeddings[: len(original)]

    def bias() -> Tensor:
        everyone, targets = embeddings.mean(0, keepdim=True), torch.cat([original, original[drawn.varied]])
        memory = run.networks.embedding_bias[judge.name]
        (average,) = memory.update([everyone], [targets.mean(0, keepdim=True)], EMBEDDING_MEMORY)  # type: ignore[operator]
        return losses.embedding_bias(average, EMBEDDING_MEMORY)

    return {
        f"{judge.name}_identity": lambda: losses.identity(redrawn, original),
        f"{judge.name}_evenness": lambda: losses.evenness(redrawn, original),
        f"{judge.name}_bias": bias,
    }


def varying_terms(run: Run, judges: Sequence[Judge], drawn: Drawn, views: Views) -> Uncounted:
    """What other controls are to be: look-alikes, all different, none of them a photograph's worse copy."""
    config, networks, frozen = run.config, run.networks, run.frozen
    count, likenesses, control = len(drawn.redrawn), len(drawn.redrawn) + len(drawn.variants), drawn.control
    of_variants = [value[count:likenesses] for value in views.features]

    def adversarial() -> Tensor:
        with mixed_precision(control.device):
            taken_for_real = networks.discriminator(views.criticised)
            with torch.no_grad():
                real = networks.discriminator(views.of_source_criticised)[drawn.shown_as]
        return losses.adversarial(taken_for_real, real)

    def attribute_shift() -> Tensor:
        change = networks.probe(of_variants) - networks.probe([value[drawn.varied] for value in views.of_redrawn])
        return losses.attribute_shift(change, control, config.age_step)

    terms: Uncounted = {
        "adversarial": adversarial,
        "attribute_shift": attribute_shift,
        # The whole picture's statistics: features may move, and what a face is made of stays.
        "variant_texture": lambda: losses.texture(
            [value[count:likenesses] for value in views.strengths],
            [value[drawn.varied] for value in views.of_source_strengths],
            cells=1,
        ),
        "colour_shift": lambda: losses.colour_shift(drawn.variants, drawn.redrawn[drawn.varied]),
        "unlike_eyes": lambda: losses.unlike_eyes(drawn.variants, drawn.redrawn[drawn.varied].detach(), frozen.eyes),
    }
    terms |= code_terms(run, drawn, of_variants, views.embeddings.get(SERVICE))
    for judge in judges:
        terms[f"{judge.name}_band"] = partial(band_term, judge, drawn, views)
    return terms


def band_term(judge: Judge, drawn: Drawn, views: Views) -> Tensor:
    """How far variants are from a recogniser's band."""
    embeddings, original = views.embeddings[judge.name][len(drawn.redrawn) :], views.originals[judge.name]
    similarity = (embeddings * original[drawn.varied]).sum(1)
    return losses.band(similarity, *losses.corridor(drawn.control, *judge.config.band))


def code_terms(run: Run, drawn: Drawn, of_variants: list[Tensor], embedding: Tensor | None) -> Uncounted:
    """What keeps control and latent readable and variants varied.

    Args:
        run: who takes part.
        drawn: what was drawn.
        of_variants: features of the variants.
        embedding: of redrawings and variants by the service's recogniser, where it looked.
    """
    networks, control = run.networks, drawn.control

    def mutual_information() -> Tensor:
        with mixed_precision(control.device):
            mean, log_deviation = networks.recovery(drawn.variants, drawn.redrawn[drawn.varied])
            return losses.mutual_information(mean, log_deviation, control)

    def latent_cycle() -> Tensor:
        assert embedding is not None
        with mixed_precision(control.device):
            read_again, _ = networks.encoder(drawn.variants, embedding[len(drawn.redrawn) :])
            return losses.latent_cycle(read_again, drawn.latent[drawn.varied])

    def diversity() -> Tensor:
        one, other = zip(*(value.chunk(2) for value in of_variants), strict=True)
        first, second = control.chunk(2)
        spread = (first - second).square().mean(1).sqrt()
        return losses.diversity(losses.feature_distance(list(one), list(other)), spread, run.config.diversity_limit)

    seen = {} if embedding is None else {"latent_cycle": latent_cycle}
    return {"mutual_information": mutual_information, **seen, "diversity": diversity}


def critic_step(run: Run, views: Views, *, with_penalty: bool) -> Terms:
    """One update of the discriminator, on what the generator was last seen to draw; its losses."""
    config, networks = run.config, run.networks
    real, fake = views.of_source_criticised, [value.detach() for value in views.criticised]
    count = len(real[0])
    # Each fake is judged beside a real face; there are more fakes than faces, so some faces serve twice.
    beside = torch.arange(len(fake[0]), device=fake[0].device) % count
    with mixed_precision(fake[0].device):
        logits_real, logits_fake = networks.discriminator(real), networks.discriminator(fake)
    loss = losses.adversarial(logits_real[beside], logits_fake)
    terms = {"discriminator": loss}
    if with_penalty:
        # In float32: the second derivative of bf16 convolutions is neither fast nor accurate.
        inputs = [
            torch.cat([a[: count // 2], b[: count // 2]]).float().requires_grad_()
            for a, b in zip(real, fake, strict=True)
        ]
        # Its `forward` itself, which is never compiled: compiled code has no second derivative.
        terms["penalty"] = losses.gradient_penalty(networks.discriminator.forward(inputs), inputs)
        # Lazily, every few steps, and so as much stronger (Karras et al. 2020).
        loss = loss + config.penalty / 2 * config.penalty_every * terms["penalty"]
    networks.discriminator_optimiser.zero_grad(set_to_none=True)
    loss.backward()
    run.processes.share_gradients(networks.discriminator.parameters())
    networks.discriminator_optimiser.step()
    return {name: value.detach() for name, value in terms.items()}
