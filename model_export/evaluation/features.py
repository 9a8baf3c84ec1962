"""Do the named controls do what their names say? Measured by a landmark network that training never saw."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from app.core.faces import Bytes
from model_export.evaluation import mesh
from model_export.evaluation.controls import named as named_by_effect
from model_export.evaluation.controls import walk
from model_export.evaluation.metrics import Array, spearman
from model_export.evaluation.sample import Sample
from model_export.networks.landmarks import FEATURES

LEAST_CHANGE, LEAST_CONTROLS = 1.2, 8
"""How far a control is to move its own feature from -1 to 1, in standard deviations of people, and how many are to."""
MOST_ELSEWHERE = 0.3
LEAST_SPREAD = 0.55
UNIT = "standard deviations of people"
ENDS = {
    "age": ("younger", "older", "years"),
    "face_width": ("narrow", "wide", UNIT),
    "jaw_width": ("pointed", "square", UNIT),
    "chin": ("short", "long", UNIT),
    "nose_width": ("narrow", "wide", UNIT),
    "nose_length": ("short", "long", UNIT),
    "mouth_width": ("narrow", "wide", UNIT),
    "lips": ("thin", "full", UNIT),
    "mouth_opening": ("closed", "open", UNIT),
    "eyes": ("narrow", "wide open", UNIT),
    "brows": ("low", "high", UNIT),
    "smile": ("corners down", "corners up", UNIT),
    "turn": ("to the left", "to the right", UNIT),
}
"""Two plain ends of each control, at -1 and at 1, and the unit of its effect."""
TOGETHER = (
    frozenset({"face_width", "jaw_width"}),
    frozenset({"lips", "mouth_opening"}),
    frozenset({"mouth_width", "smile"}),
)
"""Features that go together in people, declared beforehand: not counted as a control's effect elsewhere."""


def measured(sample: Sample, pictures: Bytes) -> Array:
    """Pictures [n, 128, 128, 3] -> features [n, 12], in the order of `FEATURES`."""
    assert sample.mesh is not None
    found = mesh.features(sample.mesh(pictures))
    return np.stack([found[name] for name in FEATURES], axis=1).astype(np.float64)


@lru_cache(maxsize=1)
def of_photographs(sample: Sample) -> Array:
    """Features [n, 12] of the photographs."""
    return measured(sample, sample.sources)


def of_people(sample: Sample) -> Array:
    """Standard deviation [12] of each feature among the photographs."""
    deviations: Array = of_photographs(sample).std(0)
    return deviations


def measure(sample: Sample) -> dict[str, Any]:
    """Named controls and the spread of features; nothing where no landmark network was named."""
    if sample.mesh is None:
        return {}
    return {"features": {**spread(sample), **named_controls(sample)}}


@lru_cache(maxsize=1)
def changes(sample: Sample) -> Array:
    """Walks of every control: features [faces, 10, steps, 12] in standard deviations of people."""
    grid = walk(sample).grid
    found = measured(sample, grid.reshape(-1, *grid.shape[3:]))
    return found.reshape(*grid.shape[:3], -1) / of_people(sample)


@lru_cache(maxsize=1)
def named_controls(sample: Sample) -> dict[str, Any]:
    """What each named control moves: its own feature, the one that it moves most beside it, and how steadily."""
    walked = changes(sample)
    ends = walked[:, :, -1] - walked[:, :, 0]
    controls: dict[str, Any] = {}
    enough = 0
    for control, name in own_features(sample.steered).items():
        own = FEATURES.index(name)
        apart = [i for i, other in enumerate(FEATURES) if i != own and frozenset({name, other}) not in TOGETHER]
        most = max(apart, key=lambda i: abs(float(ends[:, control, i].mean())))
        moved = sample.intervals.mean(ends[:, control, own]).with_aim(">=", LEAST_CHANGE)
        enough += bool(moved.value >= LEAST_CHANGE)
        elsewhere = sample.intervals.of(lambda x: abs(float(x.mean())), ends[:, control, most])
        steps = walked[:, control, :, own].mean(0)
        steady = float(spearman(steps[None], np.linspace(-1, 1, len(steps)))[0])
        controls[name] = {
            "control": control,
            "change": moved.as_json(),
            "elsewhere": elsewhere.with_aim("<=", MOST_ELSEWHERE).as_json() | {"feature": FEATURES[most]},
            "rank_correlation": steady,
        }
    return {
        "controls": controls,
        "moved_enough": {
            "value": enough,
            "interval": [None, None],
            "aim": f">= {LEAST_CONTROLS}",
            "met": enough >= LEAST_CONTROLS,
        },
    }


def named(sample: Sample) -> list[dict[str, str]]:
    """The manifest's entry of each control: steered ones by their features, others by what they were measured to do."""
    entries = named_by_effect(sample)
    if not sample.steered:
        return entries
    moved = named_controls(sample)["controls"] if sample.mesh else {}
    for control, name in {0: "age", **own_features(sample.steered)}.items():
        low, high, unit = ENDS[name]
        effect = entries[control]["effect"]
        if name in moved:
            own, other = moved[name]["change"], moved[name]["elsewhere"]
            effect = (
                f"From -1 to 1: {own['value']:+.2f} standard deviations of people, by a landmark network that training "
                f"never saw; most beside it: {other['feature'].replace('_', ' ')}, {other['value']:.2f}."
            )
        entries[control] = {"name": name, "low": low, "high": high, "unit": unit, "effect": effect}
    return entries


def own_features(steered: tuple[str, ...]) -> Mapping[int, str]:
    """Control -> the feature it is named after; the first control is age."""
    return dict(enumerate(steered, start=1))


def spread(sample: Sample) -> dict[str, Any]:
    """Spread of features among the variants of a face over that among people, the landmark network's noise taken off.

    The noise is how much its answer changes with light and blur alone.
    """
    images = sample.variants.images
    flat = measured(sample, images.reshape(-1, *images.shape[2:])) / of_people(sample)
    within = flat.reshape(*images.shape[:2], -1).var(1, ddof=1)
    plain = sample.redrawn.images[: len(images)]
    handled = np.stack([measured(sample, light(plain, turn)) for turn in range(4)], axis=1) / of_people(sample)
    noise = handled.var(1, ddof=1)

    def ratio(variance: Array, of_noise: Array) -> float:
        return float(np.sqrt(np.maximum(variance.mean(0) - of_noise.mean(0), 0)).mean())

    return {"spread": sample.intervals.of(ratio, within, noise).with_aim(">=", LEAST_SPREAD).as_json()}


def light(pictures: Bytes, turn: int) -> Bytes:
    """The same faces brighter, darker, flatter or blurred."""
    handle = (
        lambda image: ImageEnhance.Brightness(image).enhance(1.15),
        lambda image: ImageEnhance.Brightness(image).enhance(0.85),
        lambda image: ImageEnhance.Contrast(image).enhance(0.85),
        lambda image: image.filter(ImageFilter.GaussianBlur(0.7)),
    )[turn]
    return np.stack([np.asarray(handle(Image.fromarray(picture))) for picture in pictures])
