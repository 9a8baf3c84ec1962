"""The figures of an audit, from scored pairs: everything that the report, its JSON and its plots say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.audit.rates import (
    RULE_OF_30,
    AtRate,
    Bootstrap,
    Interval,
    Pairs,
    can_be_had,
    equal_error_rate,
    match_rate,
    threshold_at,
)

Rows = NDArray[Any]

RATES = (1e-2, 1e-3, 1e-4, 1e-5)
"""False match rates at which thresholds are asked for."""
REFERENCE = 1e-3
"""The one that groups, bins and cohorts are looked at with, or the lowest above it that can be had."""
BIN = 0.1
"""Width of the bins of the generator's similarity."""


@dataclass(frozen=True)
class Scored:
    """All scored pairs of an audit.

    Attributes:
        genuine, impostor: of photographs.
        source, other: of look-alikes with the photograph they were made of, and with another one of that person.
        source_similarity, other_similarity: the generator's similarity of those look-alikes to their photograph [n].
        people: how many there are.
    """

    genuine: Pairs
    impostor: Pairs
    source: Pairs
    other: Pairs
    source_similarity: Rows
    other_similarity: Rows
    people: int


def plain(interval: Interval) -> dict[str, Any]:
    """An interval as JSON has it; nan becomes null."""
    value, low, high = (number(one) for one in interval)
    return {"value": value, "interval": [low, high]}


def number(value: float) -> float | None:
    """A number as JSON has it, to six digits."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def reference_rate(impostors: int) -> float | None:
    """The false match rate at which everything else is looked at; None where not even 1e-2 can be had."""
    return next((rate for rate in (REFERENCE, 1e-2) if can_be_had(impostors, rate)), None)


def operating_points(scored: Scored, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """A row a false match rate: threshold, FMR, FNMR and the share of look-alikes let in, or why there is none."""
    impostors = len(scored.impostor)
    possible = [rate for rate in RATES if can_be_had(impostors, rate)]
    points = {point.rate: point for point in _points(scored, bootstrap, possible)}
    rows: list[dict[str, Any]] = []
    for rate in RATES:
        if rate not in points:
            needed = math.ceil(3 / rate)
            why = f"cannot be had: {impostors} impostor pairs, at least {needed} are needed"
            rows.append({"fmr_asked": rate, "can_be_had": False, "why": why})
            continue
        point = points[rate]
        rows.append(
            {
                "fmr_asked": rate,
                "can_be_had": True,
                "rough": impostors * rate < RULE_OF_30,
                "threshold": plain(point.threshold),
                "fmr": plain(point.fmr),
                "fnmr": plain(point.fnmr) if len(scored.genuine) else None,
                "look_alikes_let_in": _let_in(scored, bootstrap, point.threshold.value),
            }
        )
    return rows


def _points(scored: Scored, bootstrap: Bootstrap, rates: Sequence[float]) -> list[AtRate]:
    return bootstrap.at_rates(scored.genuine, scored.impostor, rates) if rates else []


def _let_in(scored: Scored, bootstrap: Bootstrap, threshold: float) -> dict[str, Any]:
    return {
        name: {**plain(bootstrap.match_rate(pairs, threshold)), "of": len(pairs)} if len(pairs) else None
        for name, pairs in (("against_their_photograph", scored.source), ("against_another", scored.other))
    }


def by_similarity(scored: Scored, bootstrap: Bootstrap, threshold: float) -> list[dict[str, Any]]:
    """The share of look-alikes that is let in, for each bin of the generator's similarity that holds any."""
    rows = []
    bins = round(1 / BIN)
    for place in range(-bins, bins):  # whole numbers, so that 0 is 0
        low, high = place * BIN, (place + 1) * BIN
        row: dict[str, Any] = {"from": number(low), "to": number(high)}
        for name, pairs, alike in (
            ("against_their_photograph", scored.source, scored.source_similarity),
            ("against_another", scored.other, scored.other_similarity),
        ):
            below = (alike < high - 1e-9) | (place == bins - 1)  # the last bin has both of its ends
            inside = np.flatnonzero((alike >= low - 1e-9) & below)
            part = pairs.where(inside)
            row[name] = {**plain(bootstrap.match_rate(part, threshold)), "of": len(part)} if len(part) else None
        if row["against_their_photograph"] or row["against_another"]:
            rows.append(row)
    return rows


def by_group(
    scored: Scored, bootstrap: Bootstrap, threshold: float, groups: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """FMR within each group and its FNMR at the one threshold, and how far groups lie apart (ISO/IEC 19795-10).

    Args:
        scored: all pairs.
        bootstrap: of the people.
        threshold: of all.
        groups: by the name of a label the group of each person, empty where it is not known.
    """
    told: dict[str, Any] = {}
    for label, of in groups.items():
        names = np.array(of)
        rows = []
        for name in sorted(set(of) - {""}):
            members = names == name
            genuine = scored.genuine.where(members[scored.genuine.first])
            impostor = scored.impostor.where(members[scored.impostor.first] & members[scored.impostor.second])
            rows.append(
                {
                    "group": name,
                    "people": int(members.sum()),
                    "impostor_pairs": len(impostor),
                    "genuine_pairs": len(genuine),
                    "fmr": plain(bootstrap.match_rate(impostor, threshold)) if len(impostor) else None,
                    "fnmr": plain(_fnmr(genuine, threshold, bootstrap)) if len(genuine) else None,
                }
            )
        told[label] = {"groups": rows, "apart": {rate: _apart(rows, rate) for rate in ("fmr", "fnmr")}}
    return told


def _fnmr(genuine: Pairs, threshold: float, bootstrap: Bootstrap) -> Interval:
    value, low, high = bootstrap.match_rate(genuine, threshold)
    return Interval(1 - value, 1 - high, 1 - low)


def _apart(rows: Sequence[dict[str, Any]], rate: str) -> float | None:
    """The largest over the geometric mean, as NIST FRTE part 8 has it; None where a group has no error at all."""
    values = [row[rate]["value"] for row in rows if row[rate]]
    if len(values) < 2 or min(values) <= 0:
        return None
    return number(max(values) / math.exp(sum(map(math.log, values)) / len(values)))


def cohort_gain(raw: Scored, normalised: Scored, bootstrap: Bootstrap, rate: float) -> dict[str, Any]:
    """What a cohort brings on the pairs at hand: FNMR at one false match rate, before and after, in the same draws."""
    at = [_fnmr_draws(scored, bootstrap, rate) for scored in (raw, normalised)]
    (before, drawn_before), (after, drawn_after) = at
    difference = bootstrap.interval(after - before, list(drawn_after - drawn_before))
    verdict = (
        "fits" if difference.high < 0 else "does harm" if difference.low > 0 else "does not fit: no gain could be shown"
    )
    return {
        "fmr": rate,
        "fnmr_before": plain(bootstrap.interval(before, list(drawn_before))),
        "fnmr_after": plain(bootstrap.interval(after, list(drawn_after))),
        "difference": plain(difference),
        "equal_error_rate_before": number(equal_error_rate(raw.genuine.scores, raw.impostor.scores)),
        "equal_error_rate_after": number(equal_error_rate(normalised.genuine.scores, normalised.impostor.scores)),
        "verdict": verdict,
    }


def _fnmr_draws(scored: Scored, bootstrap: Bootstrap, rate: float) -> tuple[float, Rows]:
    """FNMR at a false match rate, and in each draw of the people."""
    order = np.argsort(scored.impostor.scores, kind="stable")[::-1]
    top = scored.impostor.where(order[: int(3 * rate * len(order)) + 50])
    drawn = []
    for times in bootstrap:
        total = float(scored.impostor.weights(times).sum())
        if not total:  # one person alone, which sets no threshold
            drawn.append(math.nan)
            continue
        out = int(np.searchsorted(np.cumsum(top.weights(times)), total * rate * (1 + 1e-12), side="right"))
        threshold = float(np.nextafter(top.scores[min(out, len(top) - 1)], np.inf))
        drawn.append(1 - match_rate(scored.genuine.scores, threshold, scored.genuine.weights(times)))
    threshold = threshold_at(scored.impostor.scores, rate)
    return 1 - match_rate(scored.genuine.scores, threshold), np.array(drawn)


def summary(scored: Scored) -> dict[str, Any]:
    """Equal error rate, and what the scores of each kind of pair are like."""
    kinds = {"genuine": scored.genuine, "impostor": scored.impostor, "look_alikes_and_their_photograph": scored.source}
    kinds["look_alikes_and_another"] = scored.other
    return {
        "equal_error_rate": number(equal_error_rate(scored.genuine.scores, scored.impostor.scores))
        if len(scored.genuine) and len(scored.impostor)
        else None,
        "scores": {
            name: {
                "pairs": len(pairs),
                "quantiles": {
                    f"{share:g}": number(float(np.quantile(pairs.scores, share)))
                    for share in (0.001, 0.05, 0.5, 0.95, 0.999)
                },
            }
            for name, pairs in kinds.items()
            if len(pairs)
        },
    }
