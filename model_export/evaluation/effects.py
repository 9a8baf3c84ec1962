"""What each control does to a face, measured on held-out faces, and the short honest name that follows from it.

A measurement is a number read off a picture: an attribute probe, a landmark of the detector, a statistic of a region's
brightness or colour. Effects are given in standard deviations of the measurement over photographs of different people,
so that they can be compared with each other and with what people differ by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from app.core.faces import FRAME_SIZE, Bytes, Detector
from model_export.evaluation.metrics import spearman

Array = NDArray[Any]

MARGIN = 0.3
"""Black margin around the face frame, in its sides: the detector misses a face that fills the picture."""

NAMED = 0.3
"""Least effect of a control, in standard deviations from -1 to 1, that gives it a measurement's name."""
STEADY = 0.5
"""Least rank correlation of a control with a measurement that may name it: an effect that most faces show."""
VISIBLE = 0.03
"""Least feature distance between a control at -1 and at 1, over that of two people, that counts as doing anything."""


@dataclass(frozen=True)
class Measurement:
    """One thing that is measured of a picture.

    Attributes:
        name: short name, which a control may take over.
        unit: what its numbers are in.
        rises, falls: what a viewer would say when it goes up or down.
    """

    name: str
    unit: str
    rises: str
    falls: str


LANDMARKS = (
    Measurement("eye distance", "% of the frame", "eyes farther apart", "eyes closer together"),
    Measurement("eye height", "% of the frame", "eyes lower", "eyes higher"),
    Measurement("nose length", "eye distances", "longer nose", "shorter nose"),
    Measurement("mouth height", "eye distances", "mouth farther below the nose", "mouth closer to the nose"),
    Measurement(
        "head turn", "eye distances", "head turned to the picture's right", "head turned to the picture's left"
    ),
    Measurement("head tilt", "degrees", "head tilted clockwise", "head tilted anticlockwise"),
)
"""Read off the detector's points: both eyes, nose tip, mouth centre."""

REGIONS = {
    "forehead": (0.25, 0.00, 0.75, 0.16),
    "eyes": (0.12, 0.20, 0.88, 0.37),
    "nose": (0.38, 0.38, 0.62, 0.60),
    "mouth": (0.30, 0.65, 0.70, 0.82),
    "chin": (0.30, 0.86, 0.70, 1.00),
    "cheeks": (0.15, 0.45, 0.85, 0.62),
    "left edge": (0.00, 0.10, 0.10, 0.90),
    "right edge": (0.90, 0.10, 1.00, 0.90),
}
"""Left, top, right, bottom in the face frame, in units of its side; left and right are the picture's."""

APPEARANCE = (
    Measurement("brightness", "levels of 255", "brighter picture", "darker picture"),
    Measurement("contrast", "levels of 255", "more contrast", "less contrast"),
    Measurement("warmth", "levels of 255", "redder colours", "bluer colours"),
    Measurement("colourfulness", "levels of 255", "stronger colours", "paler colours"),
    Measurement("fine detail", "levels of 255", "more fine detail", "smoother"),
    Measurement("light from the side", "levels of 255", "lit from the picture's right", "lit from the picture's left"),
    Measurement("light from above", "levels of 255", "lit from above", "lit from below"),
    Measurement("lip redness", "levels of 255", "redder lips", "paler lips"),
    Measurement("skin detail", "levels of 255", "rougher skin", "smoother skin"),
    *(
        Measurement(f"brightness of the {region}", "levels of 255", f"brighter {region}", f"darker {region}")
        for region in ("forehead", "eyes", "nose", "mouth", "chin", "left edge", "right edge")
    ),
    *(
        Measurement(
            f"contrast of the {region}",
            "levels of 255",
            f"more contrast at the {region}",
            f"less contrast at the {region}",
        )
        for region in ("forehead", "eyes", "nose", "mouth", "chin")
    ),
)
"""Read off the pixels; brightness and contrast of a region are taken relative to the whole picture's."""


def attributes(gender_names: Sequence[str], group_names: Sequence[str]) -> tuple[Measurement, ...]:
    """What the attribute probe reads, in its order: age, gender, then the groups in the order of their labels."""
    second = gender_names[1] if len(gender_names) > 1 else "second gender"
    first = gender_names[0] if gender_names else "first gender"
    return (
        Measurement("age", "years", "older", "younger"),
        Measurement(f"apparently {second}", "probe units", f"more {second}", f"more {first}"),
        *(Measurement(f"apparently {name}", "probe units", f"more {name}", f"less {name}") for name in group_names),
    )


def measure_landmarks(detector: Detector, faces: Bytes) -> Array:
    """`LANDMARKS` of faces [n, 128, 128, 3]; a row of nan where the detector finds none. Returns [n, 6]."""
    rows = np.full((len(faces), len(LANDMARKS)), np.nan)
    for row, face in zip(rows, faces, strict=True):
        size = len(face)
        pad = round(MARGIN * size)
        canvas = Image.new("RGB", (size + 2 * pad, size + 2 * pad))
        canvas.paste(Image.fromarray(face), (pad, pad))
        if found := detector(canvas):
            row[:] = landmark_values((found[0].points[:4] - pad) / size)
    return rows


def landmark_values(points: Array) -> Array:
    """`LANDMARKS` of right eye, left eye, nose tip and mouth centre [4, 2] in units of the frame's side; [6]."""
    right, left, nose, mouth = points
    across = left - right
    distance = float(np.linalg.norm(across))
    along = across / max(distance, 1e-6)
    down = np.array([-along[1], along[0]])
    middle = (right + left) / 2
    return np.array(
        [
            100 * distance,
            100 * middle[1],
            (nose - middle) @ down / distance,
            (mouth - nose) @ down / distance,
            (nose - middle) @ along / distance,
            np.degrees(np.arctan2(along[1], along[0])),
        ]
    )


def measure_appearance(faces: Bytes) -> Array:
    """`APPEARANCE` of faces [n, 128, 128, 3] uint8; [n, measurements]."""
    pixels = faces.astype(np.float32)
    red, green, blue = np.moveaxis(pixels, -1, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    # What four neighbours do not tell about a pixel: lines, pores, hair, noise.
    detail = np.abs(
        luma[:, 1:-1, 1:-1] - (luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]) / 4
    )
    detail = np.pad(detail, ((0, 0), (1, 1), (1, 1)), mode="edge")

    def mean(values: Array, region: str | None = None) -> Array:
        return _cut(values, region).mean((1, 2))

    def spread(region: str | None = None) -> Array:
        return _cut(luma, region).std((1, 2))

    half = FRAME_SIZE // 2
    brightness, contrast = mean(luma), spread()
    columns = [
        brightness,
        contrast,
        mean(red - blue),
        mean(np.abs(red - luma) + np.abs(blue - luma)),
        mean(detail),
        luma[:, :, half:].mean((1, 2)) - luma[:, :, :half].mean((1, 2)),
        luma[:, :half].mean((1, 2)) - luma[:, half:].mean((1, 2)),
        mean(red - green, "mouth") - mean(red - green, "cheeks"),
        mean(detail, "cheeks"),
        *(mean(luma, region) - brightness for region in ("forehead", "eyes", "nose", "mouth", "chin")),
        *(mean(luma, region) - brightness for region in ("left edge", "right edge")),
        *(spread(region) - contrast for region in ("forehead", "eyes", "nose", "mouth", "chin")),
    ]
    return np.column_stack(columns).astype(np.float64)


def _cut(values: Array, region: str | None) -> Array:
    if region is None:
        return values
    side = values.shape[1]
    left, top, right, bottom = (round(edge * side) for edge in REGIONS[region])
    return values[:, top:bottom, left:right]


@dataclass(frozen=True)
class Effects:
    """What moving each control from -1 to 1, the others at 0, was measured to do.

    Attributes:
        measurements: [m] what was measured.
        size: [controls, m] mean change in standard deviations over people.
        natural: [controls, m] the same in the measurement's own unit.
        monotony: [controls, m] mean over faces of the rank correlation of measurement and control.
        distance: [controls] feature distance between -1 and 1, over that of two people.
    """

    measurements: tuple[Measurement, ...]
    size: Array
    natural: Array
    monotony: Array
    distance: Array


def effects(
    measurements: tuple[Measurement, ...], sweeps: Array, positions: Array, deviations: Array, distance: Array
) -> Effects:
    """Effects from sweeps of every control.

    Args:
        measurements: what was measured.
        sweeps: [controls, faces, steps, m]; nan where a measurement could not be had.
        positions: [steps] of the control, from -1 to 1.
        deviations: [m], standard deviation of each measurement over people.
        distance: [controls], as in `Effects`.
    """
    # The slope of all steps, not the two ends alone: half the noise.
    centred = positions - positions.mean()
    slope = np.einsum("cfsm,s->cfm", sweeps, centred) / np.square(centred).sum()
    natural = np.nan_to_num(np.nanmean(slope, axis=1)) * float(positions[-1] - positions[0])
    size = np.where(deviations > 0, natural / np.maximum(deviations, 1e-9), 0.0)
    monotony = np.zeros(size.shape)
    for control, of_control in enumerate(sweeps):
        for index in range(len(measurements)):
            rows = of_control[:, :, index]
            rows = rows[~np.isnan(rows).any(1)]
            monotony[control, index] = spearman(rows, positions).mean() if len(rows) else 0.0
    return Effects(measurements, size, natural, monotony, distance)


def name_controls(found: Effects) -> list[dict[str, str]]:
    """A distinct name and one sentence with its figure for each control, so that the names together tell the most.

    The first control is trained to be age, and is called so where it moves age by at least `NAMED`; no control is
    called by an effect smaller than that, and one that changes next to nothing is said to do nothing.
    """
    count = len(found.size)
    # The group "other" of the labels is no look that a control could be called by.
    nameless = np.array([item.name == "apparently other" for item in found.measurements])
    strength = np.abs(found.size)
    fit = (np.abs(found.monotony) >= STEADY) & ~nameless & (found.distance >= VISIBLE)[:, None] & (strength >= NAMED)
    # How much of a control's strongest effect a name would tell; between equals the stronger effect is named.
    worth = strength / np.maximum(strength.max(1, keepdims=True), 1e-9) + 0.1 * strength / max(strength.max(), 1e-9)
    worth = np.where(fit, worth, 0.0)
    for index, measurement in enumerate(found.measurements):
        if measurement.name == "age" and fit[0, index]:
            worth[0, index] += 2 * count
    pairs = zip(*linear_sum_assignment(-worth), strict=True)
    chosen = {int(control): int(index) for control, index in pairs if fit[control, index]}
    return [_describe(found, control, chosen.get(control)) for control in range(count)]


def _describe(found: Effects, control: int, index: int | None) -> dict[str, str]:
    distance = found.distance[control]
    share = f"{100 * distance:.0f} % of the feature distance between two people"
    number = control + 1
    if distance < VISIBLE:
        return {
            "name": f"no effect {number}",
            "effect": f"Does next to nothing: from -1 to 1 it changes the picture by {share}.",
        }
    strongest = int(np.argmax(np.abs(found.size[control])))
    if index is None:
        most = found.measurements[strongest].name
        return {
            "name": f"unnamed look {number}",
            "effect": (
                f"From -1 to 1 it changes the picture by {share}, but no measurement steadily by {NAMED:g} standard "
                f"deviations that does not name another control; most of all {most}, by "
                f"{found.size[control, strongest]:+.2f}."
            ),
        }
    measurement, size = found.measurements[index], found.size[control, index]
    direction = measurement.rises if size > 0 else measurement.falls
    effect = (
        f"From -1 to 1: {direction}, {found.natural[control, index]:+.3g} {measurement.unit} "
        f"({size:+.2f} standard deviations, rank correlation {found.monotony[control, index]:+.2f})"
    )
    if strongest != index:
        other = found.measurements[strongest]
        effect += f"; it moves {other.name} more, by {found.size[control, strongest]:+.2f}"
    else:
        others = np.abs(found.size[control]).copy()
        others[index] = 0
        second = int(np.argmax(others))
        if others[second] >= NAMED:
            effect += f"; beside it {found.measurements[second].name} by {found.size[control, second]:+.2f}"
    return {"name": measurement.name, "effect": effect + f"; {share}."}
