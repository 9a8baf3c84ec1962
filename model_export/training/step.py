"""One step of the algorithm: encoder, decoder and Q against the discriminator, and the other way round.

To add a loss: write it as a pure function in `losses`, name its weight in `config.LossWeights`, and add it to the terms
below; what it needs to see goes into `views`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model_export.networks.generator import mixed_precision
from model_export.training import losses
from model_export.training.config import SERVICE, TrainConfig
from model_export.training.data import Batch
from model_export.training.judges import Frozen
from model_export.training.networks import Networks
from model_export.training.processes import Processes
from model_export.training.views import Dice, Drawn, Handling, Views, draw, look

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


def generator_step(run: Run, batch: Batch, dice: Dice, fade_in: float) -> tuple[Terms, Views]:
    """One update of encoder, decoder and Q.

    Args:
        run: who takes part.
        batch: the faces.
        dice: every random number.
        fade_in: weight in [0, 1] of what is asked of variants; at 0 there are none.

    Returns:
        The losses, and what was seen, for the discriminator to learn from.
    """
    config, networks = run.config, run.networks
    drawn = draw(networks, batch, dice, config.reach, variants=fade_in > 0)
    views = look(run.frozen, batch, drawn, Handling.thrown(dice, config, len(batch.source)))
    redrawing = redrawing_terms(run, batch, drawn, views)
    varying = varying_terms(run, drawn, views) if len(drawn.variants) else {}

    weights = config.loss_weights
    weighed = [value * weights[name] for name, value in redrawing.items()]
    weighed += [value * weights[name] * fade_in for name, value in varying.items()]
    networks.generator_optimiser.zero_grad(set_to_none=True)
    sum(weighed, torch.zeros((), device=batch.source.device)).backward()
    run.processes.share_gradients(networks.generator_parameters)
    nn.utils.clip_grad_norm_(networks.generator_parameters, 5.0)
    networks.generator_optimiser.step()
    return {name: value.detach() for name, value in (redrawing | varying).items()}, views


def redrawing_terms(run: Run, batch: Batch, drawn: Drawn, views: Views) -> Terms:
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
        "moments": losses.moments(drawn.mean, drawn.log_variance),
    }
    for judge in frozen.judges:
        embedding, original = views.embeddings[judge.name][:count], views.originals[judge.name]
        terms[f"{judge.name}_identity"] = losses.identity(embedding, original)
        terms[f"{judge.name}_evenness"] = losses.evenness(embedding, original)
    return terms


def varying_terms(run: Run, drawn: Drawn, views: Views) -> Terms:
    """What other controls are to be: look-alikes, all different, none of them a photograph's worse copy."""
    config, networks, frozen = run.config, run.networks, run.frozen
    count, likenesses, control = len(drawn.redrawn), len(drawn.redrawn) + len(drawn.variants), drawn.control
    of_variants = [value[count:likenesses] for value in views.features]
    one, other = zip(*(value.chunk(2) for value in of_variants), strict=True)
    spread = (control.chunk(2)[0] - control.chunk(2)[1]).square().mean(1).sqrt()
    embeddings = {name: value[count:] for name, value in views.embeddings.items()}
    with mixed_precision(control.device):
        mean, log_deviation = networks.recovery(drawn.variants, drawn.redrawn[drawn.varied])
        taken_for_real = networks.discriminator(views.strengths)
        with torch.no_grad():
            real = networks.discriminator(views.of_source_strengths)[drawn.shown_as]
        read_again, _ = networks.encoder(drawn.variants, embeddings[SERVICE])
    change = networks.probe(of_variants) - networks.probe([value[drawn.varied] for value in views.of_redrawn])
    terms = {
        # The whole picture's statistics: features may move, and what a face is made of stays.
        "variant_texture": losses.texture(
            [value[count:likenesses] for value in views.strengths],
            [value[drawn.varied] for value in views.of_source_strengths],
            cells=1,
        ),
        "adversarial": losses.adversarial(taken_for_real, real),
        "mutual_information": losses.mutual_information(mean, log_deviation, control),
        "diversity": losses.diversity(losses.feature_distance(list(one), list(other)), spread, config.diversity_limit),
        "colour_shift": losses.colour_shift(drawn.variants, drawn.redrawn[drawn.varied]),
        "unlike_eyes": losses.unlike_eyes(drawn.variants, drawn.redrawn[drawn.varied].detach(), frozen.eyes),
        "attribute_shift": losses.attribute_shift(change, control, config.age_step),
        "latent_cycle": losses.latent_cycle(read_again, drawn.latent[drawn.varied]),
    }
    for judge in frozen.judges:
        similarity = (embeddings[judge.name] * views.originals[judge.name][drawn.varied]).sum(1)
        terms[f"{judge.name}_band"] = losses.band(similarity, *losses.corridor(control, *judge.config.band))
    return terms


def critic_step(run: Run, views: Views, *, with_penalty: bool) -> Terms:
    """One update of the discriminator, on what the generator was last seen to draw; its losses."""
    config, networks = run.config, run.networks
    real, fake = views.of_source_strengths, [value.detach() for value in views.strengths]
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
