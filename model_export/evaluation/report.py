"""The generated tables of `MODEL_CARD.md`: everything between two markers, the prose around them left alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- evaluation: begin -->", "<!-- evaluation: end -->"

HEADLINES = (
    ("in_band.rate", "in-band rate, the service's recogniser", "percent"),
    ("in_band.below", "of the rest: below the band", "percent"),
    ("in_band.above", "of the rest: above the band", "percent"),
    ("in_band.judge_taken_for_the_person", "taken for the person by an independent recogniser (FMR 1e-3)", "percent"),
    ("calibration.judge_still_recognises.degraded_photographs", "the same of blurred, JPEG'd photographs", "percent"),
    ("in_band.similarity_median", "similarity of a variant to its source, median", "number"),
    ("reconstruction.psnr", "reconstruction (c = 0): PSNR, dB", "number"),
    ("principal_components.psnr", "the same of 70 principal components of training faces", "number"),
    ("reconstruction.similarity_median", "reconstruction: similarity, median", "number"),
    ("reconstruction.above_threshold", "reconstruction: above the threshold at FMR 1e-3", "percent"),
    ("reconstruction.judge_above_threshold", "the same by the independent recogniser", "percent"),
    ("diversity.ratio", "diversity: distance among variants / between two people", "number"),
    ("realism.kernel_over_floor", "realism: kernel distance / train-against-test floor", "number"),
    ("realism.judge_kernel_over_floor", "the same in the features of the independent recogniser", "number"),
    ("realism.frechet_over_floor", "realism: Frechet distance / train-against-test floor", "number"),
    ("control_recoverability.r2_worst", "control recoverability: R² of the worst control", "number"),
    ("control_recoverability.r2_mean", "control recoverability: R², mean", "number"),
    ("control_recoverability.nats", "control recoverability: nats", "number"),
    ("disentanglement.spearman", "disentanglement: rank correlation along sweeps", "number"),
    ("disentanglement.mutual_information_gap", "disentanglement: mutual information gap", "number"),
    ("disentanglement.off_diagonal", "disentanglement: response off the diagonal", "number"),
    ("disentanglement.age_of_control_1.years", "control 1 from -1 to 1: apparent age, years", "number"),
    ("features.moved_enough", "named controls that move their feature by 1.2 SD of people from -1 to 1", "count"),
    ("features.spread", "spread of features: among variants / among people, noise taken off", "number"),
    ("texture.redrawn.columns", "reconstruction: steps at odd columns over even ones", "number"),
    ("texture.redrawn.rows", "the same of rows", "number"),
    ("texture.variants.columns", "variants: steps at odd columns over even ones", "number"),
    ("texture.variants.rows", "the same of rows", "number"),
    ("texture.variants.column_standing_out", "largest step at a column, over its neighbours'", "number"),
    ("texture.variants.row_standing_out", "the same of rows", "number"),
    ("texture.variants.eye_sharpness", "eye on the right over eye on the left, sharpness", "number"),
    ("glasses.redrawn_agree", "glasses as in the photograph, reconstruction", "percent"),
    ("glasses.variants_agree", "the same of variants", "percent"),
    ("glasses.photographs_agree", "the same of photographs: what the probe of glasses makes of them", "percent"),
    ("glasses.redrawn_made_up", "reconstructions with glasses of faces without", "percent"),
    (
        "random_identities.confused_by_judge",
        "random people confused by the independent recogniser",
        "number",
    ),
    (
        "texture.grey.networks",
        "grey photographs: largest minus least channel, levels, by the networks",
        "number",
    ),
    ("texture.grey.served", "the same as served", "number"),
    ("random_identities.detected", "random identities in which the detector finds a face", "percent"),
    ("random_identities.detected_among_photographs", "the same for held-out photographs", "percent"),
    ("random_identities.nearest_training_face", "random identities: similarity to the nearest training face", "number"),
    ("cohort_gain.random_identities", "random people as a cohort: hard impostors let in less often by", "percent"),
    ("cohort_gain.real_people", "the same with as many real people", "percent"),
    ("drawn_training.accuracy", "real people told apart by a linear probe that drawn people taught", "percent"),
    ("drawn_training.accuracy_untaught", "the same by what it was fitted on, untaught", "percent"),
    ("fairness.in_band_gap", "fairness: group x gender farthest behind, in-band rate, points", "number"),
    ("fairness.reconstruction_gap", "fairness: the same, reconstruction above the threshold, points", "number"),
    ("memorisation.auc", "memorisation: AUC of nearest-neighbour distance", "number"),
)
"""Path in `metrics`, what it is, and how it is written."""

BASELINES = (
    ("rate", "in band", "percent"),
    ("judge_taken_for_the_person", "taken for the person by the independent recogniser", "percent"),
    ("similarity_median", "similarity, median", "number"),
    ("diversity", "diversity", "number"),
    ("kernel_over_floor", "kernel distance / floor", "number"),
    ("frechet_over_floor", "Frechet distance / floor", "number"),
)


def tables(evaluation: dict[str, Any]) -> str:
    """The tables of an `evaluation.json` as Markdown."""
    metrics = evaluation["metrics"]
    settings = metrics["settings"]
    parts = [
        f"Held-out faces: {settings['faces']} with {settings['controls']} random controls each, "
        f"{settings['wide']} with one. Brackets hold 95 % bootstrap intervals over faces.",
        _headlines(metrics),
        "### Thresholds of the service's recogniser in the face frame",
        _thresholds(metrics["calibration"]),
        "### Against two baselines",
        _beside_baselines(metrics),
        "### What each control was measured to do",
        _controls(evaluation["controls"], metrics["control_recoverability"]["r2"]),
        "### By group and gender of the data's labels",
        _groups(metrics["fairness"]["groups"]),
    ]
    profiles = metrics.get("profiles", {})
    if kinds := metrics.get("difficult", {}) | ({"profile": profiles} if "psnr" in profiles else {}):
        parts += ["### By kind of photograph, redrawn at control 0", _kinds(kinds)]
    if profiles:
        parts.append(_profiles(profiles))
    return "\n\n".join(parts) + "\n"


def _headlines(metrics: dict[str, Any]) -> str:
    rows = [
        (text, written(entry, style), _aim(entry, style), reached(entry))
        for path, text, style in HEADLINES
        if (entry := find(metrics, path)) is not None
    ]
    return table(("metric", "value", "aim", "reached"), rows)


def _thresholds(calibration: dict[str, Any]) -> str:
    median = calibration["genuine_median"]
    rows = [(name, written(entry)) for name, entry in calibration["recognizer"].items()]
    rows.append(("genuine median", f"{median['value']:.2f} ({median['quoted_from']})"))
    return table(("threshold", "cosine"), rows)


def _beside_baselines(metrics: dict[str, Any]) -> str:
    rows = [
        (text, *(written(entry, style) if entry else "" for entry in entries))
        for key, text, style in BASELINES
        if (entries := _beside(metrics, key))[0] is not None
    ]
    return table(("metric", "this model", "latent jitter", "pixel morph"), rows)


def _controls(controls: list[dict[str, str]], recovered: list[dict[str, Any]]) -> str:
    rows = [
        (str(number), control["name"], control["effect"], written(entry))
        for number, (control, entry) in enumerate(zip(controls, recovered, strict=True), 1)
    ]
    return table(("control", "name", "effect", "R²"), rows)


def _groups(groups: dict[str, dict[str, Any]]) -> str:
    rows = [
        (
            name,
            str(row["faces"]),
            written(row["in_band"], "percent"),
            written(row["reconstruction_above_threshold"], "percent"),
            written(row["reconstruction_similarity"]),
            written(row["psnr"]),
            written(row["diversity"]),
        )
        for name, row in groups.items()
    ]
    head = ("group", "faces", "in band", "reconstruction above threshold", "similarity", "PSNR, dB", "diversity")
    return table(head, rows)


def _kinds(kinds: dict[str, dict[str, Any]]) -> str:
    rows = [
        (
            name.replace("_", " "),
            str(row["faces"]),
            written(row["above_threshold"], "percent"),
            written(row["judge_above_threshold"], "percent") if "judge_above_threshold" in row else "not measured",
            written(row["similarity_median"]),
            written(row["psnr"]),
        )
        for name, row in kinds.items()
    ]
    head = ("kind", "faces", "taken for the person", "the same by the independent recogniser", "similarity", "PSNR, dB")
    return table(head, rows)


def _profiles(found: dict[str, Any]) -> str:
    refused = ", ".join(f"{reason} {count}" for reason, count in found["refused"].items())
    text = (
        f"Profiles are of a set of their own, {found['photographs']} photographs, one a person, as they would be sent: "
        f"{written(found['usable'], 'percent')} can be used. Refused were {refused or 'none'}."
    )
    if known := found.get("judge_still_recognises"):
        share = written(known, "percent")
        text += f" Of the photographs, blurred and JPEG'd, the independent recogniser takes {share} for the person."
    return text


def write(path: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Put the tables between the markers of a card.

    Raises:
        ValueError: the card lacks the markers.
    """
    before, after = check_markers(path, begin, end)
    path.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")


def check_markers(path: Path, begin: str = BEGIN, end: str = END) -> tuple[str, str]:
    """What stands before and after the tables of a card.

    Raises:
        ValueError: the card lacks the markers.
    """
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{path}: lacks the lines {begin} and {end}")
    return before, after


def find(metrics: dict[str, Any], path: str) -> dict[str, Any] | None:
    """An entry by its dotted path; None where it was not measured."""
    entry: Any = metrics
    for key in path.split("."):
        entry = entry.get(key) if isinstance(entry, dict) else None
    return entry if isinstance(entry, dict) else None


def written(entry: dict[str, Any], style: str = "number") -> str:
    """A figure with its interval, such as `81.2 % [79.0, 83.1]`."""
    value, (low, high) = entry["value"], entry["interval"]
    if value is None:
        return "not measured"
    factor, unit = (100, " %") if style == "percent" else (1, "")
    if style == "count":
        return f"{value:g}"
    digits = 3 if abs(value) < 0.1 and style == "number" else 1 if style == "percent" or abs(value) >= 10 else 2
    text = f"{factor * value:.{digits}f}{unit}"
    if low is not None and high is not None:
        text += f" [{factor * low:.{digits}f}, {factor * high:.{digits}f}]"
    return text


def _aim(entry: dict[str, Any], style: str) -> str:
    aim = str(entry.get("aim", ""))
    sign, _, bound = aim.partition(" ")
    if style == "percent" and bound:
        return f"{sign} {100 * float(bound):g} %"
    return aim


def reached(entry: dict[str, Any]) -> str:
    """Whether a figure met its aim, where it has one."""
    met = entry.get("met")
    return "" if met is None else "yes" if met else "**no**"


def _beside(metrics: dict[str, Any], key: str) -> list[dict[str, Any] | None]:
    own = next(
        (entry for part in ("in_band", "realism") if (entry := find(metrics, f"{part}.{key}"))),
        find(metrics, "diversity.ratio") if key == "diversity" else None,
    )
    return [own, *(find(metrics, f"baselines.{name}.{key}") for name in ("latent_jitter", "pixel_morph"))]


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
