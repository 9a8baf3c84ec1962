"""One step of the algorithm: encoder, decoder and Q against the discriminator, and the other way round.

To add a loss: write it as a pure function in `losses`, name its weight in `config.LossWeights`, and add it to the terms
below; what it needs to see goes into `views`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    redrawing = redrawing_terms(run, judges, batch, drawn, views)
    varying = varying_terms(run, judges, drawn, views) if len(drawn.variants) else {}
    if placer:
        measured = measure(placer, batch, drawn, dice)
        redrawing["landmarks"] = losses.landmarks(measured.redrawn, measured.source, LOST_POINT)
        if varying and config.steering:
            wanted, counts = (value.to(drawn.control.device) for value in wanted_changes(config.steering))
            varying["steering"] = losses.steering(measured.change, drawn.control, wanted, counts)

    weights = config.loss_weights
    # What counts nothing needs no gradient either.
    weighed = [value * weights[name] for name, value in redrawing.items() if weights[name]]
    weighed += [value * weights[name] * fade_in for name, value in varying.items() if weights[name]]
    networks.generator_optimiser.zero_grad(set_to_none=True)
    sum(weighed, torch.zeros((), device=batch.source.device)).backward()
    run.processes.share_gradients(networks.generator_parameters)
    nn.utils.clip_grad_norm_(networks.generator_parameters, 5.0)
    networks.generator_optimiser.step()
    return {name: value.detach() for name, value in (redrawing | varying).items()}, views


def wanted_changes(steering: Steering) -> tuple[Tensor, Tensor]:
    """What each steered control moves each feature at its full value, [9, 12], and what each feature counts, [12]."""
    wanted = torch.zeros(len(steering.controls), len(FEATURES))
    counts = torch.full((len(FEATURES),), steering.others)
    for row, name in enumerate(steering.controls):
        counts[FEATURES.index(name)] = 1
        for feature, share in {name: 1.0, **steering.follow.get(name, {})}.items():
            wanted[row, FEATURES.index(feature)] = share * steering.step
    return wanted, counts


def redrawing_terms(run: Run, judges: Sequence[Judge], batch: Batch, drawn: Drawn, views: Views) -> Terms:
    """What control 0 is to be: the person, as in the photograph. These losses are there from the start."""
    config, frozen = run.config, run.frozen
    count = len(batch.source)
    drawn_means, wanted_means = [value[:count] for value in views.means], views.of_source_means
    if len(drawn.variants):  # apart: what one kind has too much of, the other might lack
        drawn_means += [value[count:] for value in views.means]
        wanted_means = wanted_means + [value[drawn.varied] for value in wanted_means]
    bias = run.networks.bias.update(drawn_means, wanted_means, config.matching_memory)
    terms = {
        "pixel": losses.pixel(drawn.redrawn, batch.source, frozen.focus),
        "perceptual": losses.perceptual(views.of_redrawn, views.of_source, frozen.focus),
        "texture": losses.texture([value[:count] for value in views.strengths], views.of_source_strengths, cells=4),
        "matching": losses.matching(bias, config.matching_memory),
        "divergence": losses.divergence(drawn.mean, drawn.log_variance),
        "phases": losses.phases(drawn.images),
        "seams": losses.seams(drawn.images),
        "moments": losses.moments(drawn.mean, drawn.log_variance),
    }
    for judge in judges:
        embedding, original = views.embeddings[judge.name][:count], views.originals[judge.name]
        terms[f"{judge.name}_identity"] = losses.identity(embedding, original)
        terms[f"{judge.name}_evenness"] = losses.evenness(embedding, original)
        if judge.config.weights.bias:
            everyone = views.embeddings[judge.name].mean(0, keepdim=True)
            targets = torch.cat([original, original[drawn.varied]]).mean(0, keepdim=True)
            (average,) = run.networks.embedding_bias[judge.name].update([everyone], [targets], EMBEDDING_MEMORY)  # type: ignore[operator]
            terms[f"{judge.name}_bias"] = losses.embedding_bias(average, EMBEDDING_MEMORY)
    return terms


def varying_terms(run: Run, judges: Sequence[Judge], drawn: Drawn, views: Views) -> Terms:
    """What other controls are to be: look-alikes, all different, none of them a photograph's worse copy."""
    config, networks, frozen = run.config, run.networks, run.frozen
    count, likenesses, control = len(drawn.redrawn), len(drawn.redrawn) + len(drawn.variants), drawn.control
    of_variants = [value[count:likenesses] for value in views.features]
    embeddings = {name: value[count:] for name, value in views.embeddings.items()}
    with mixed_precision(control.device):
        taken_for_real = networks.discriminator(views.criticised)
        with torch.no_grad():
            real = networks.discriminator(views.of_source_criticised)[drawn.shown_as]
    change = networks.probe(of_variants) - networks.probe([value[drawn.varied] for value in views.of_redrawn])
    terms = {
        # The whole picture's statistics: features may move, and what a face is made of stays.
        "variant_texture": losses.texture(
            [value[count:likenesses] for value in views.strengths],
            [value[drawn.varied] for value in views.of_source_strengths],
            cells=1,
        ),
        "adversarial": losses.adversarial(taken_for_real, real),
        "colour_shift": losses.colour_shift(drawn.variants, drawn.redrawn[drawn.varied]),
        "unlike_eyes": losses.unlike_eyes(drawn.variants, drawn.redrawn[drawn.varied].detach(), frozen.eyes),
        "attribute_shift": losses.attribute_shift(change, control, config.age_step),
    }
    terms |= code_terms(run, drawn, of_variants, embeddings.get(SERVICE))
    for judge in judges:
        similarity = (embeddings[judge.name] * views.originals[judge.name][drawn.varied]).sum(1)
        terms[f"{judge.name}_band"] = losses.band(similarity, *losses.corridor(control, *judge.config.band))
    return terms


def code_terms(run: Run, drawn: Drawn, of_variants: list[Tensor], embedding: Tensor | None) -> Terms:
    """What keeps control and latent readable and variants varied; what counts nothing is not computed.

    Args:
        run: who takes part.
        drawn: what was drawn.
        of_variants: features of the variants.
        embedding: of the variants by the service's recogniser, where it looked.
    """
    weights, networks, terms = run.config.weights, run.networks, Terms()
    with mixed_precision(drawn.control.device):
        if weights.mutual_information:
            mean, log_deviation = networks.recovery(drawn.variants, drawn.redrawn[drawn.varied])
            terms["mutual_information"] = losses.mutual_information(mean, log_deviation, drawn.control)
        if weights.latent_cycle and embedding is not None:
            read_again, _ = networks.encoder(drawn.variants, embedding)
            terms["latent_cycle"] = losses.latent_cycle(read_again, drawn.latent[drawn.varied])
    if weights.diversity:
        one, other = zip(*(value.chunk(2) for value in of_variants), strict=True)
        first, second = drawn.control.chunk(2)
        spread = (first - second).square().mean(1).sqrt()
        distance = losses.feature_distance(list(one), list(other))
        terms["diversity"] = losses.diversity(distance, spread, run.config.diversity_limit)
    return terms


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
        terms["penalty"] = losses.gradient_penalty(networks.discriminator(inputs), inputs)
        # Lazily, every few steps, and so as much stronger (Karras et al. 2020).
        loss = loss + config.penalty / 2 * config.penalty_every * terms["penalty"]
    networks.discriminator_optimiser.zero_grad(set_to_none=True)
    loss.backward()
    run.processes.share_gradients(networks.discriminator.parameters())
    networks.discriminator_optimiser.step()
    return {name: value.detach() for name, value in terms.items()}
