"""From a folder of photographs to the figures of an audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from app.audit import figures
from app.audit.cache import Cache
from app.audit.collection import Collection, Item, Studio, Told
from app.audit.figures import Scored
from app.audit.pairing import Plan, Scorer, normalised, plan
from app.audit.rates import Bootstrap
from app.audit.recognisers import OWN_NAME, Recogniser
from app.batch.archives import Photograph
from app.core.faces import Floats
from app.core.normalisation import LEAST, statistics
from app.errors import CannotRun, CohortInvalid

Progress = Callable[[str, int], AbstractContextManager[Told]]


@dataclass(frozen=True)
class Asked:
    """What a report is asked for.

    Attributes:
        look_alikes: of each person.
        seed: of controls, pairs and draws.
        pairs: most impostor pairs.
        resamples: of the people.
        top: members of the cohort that each photograph is held against.
        pictures: of the worst pairs.
    """

    look_alikes: int = 8
    seed: int = 0
    pairs: int = 1_000_000
    resamples: int = 500
    top: int = 200
    pictures: int = 20


@dataclass(frozen=True)
class Audit:
    """An audit that was made: what its JSON holds, its scored pairs, its look-alikes, and the worst pairs."""

    report: dict[str, Any]
    scored: Scored
    look_alikes: list[dict[str, Any]]
    worst: list[dict[str, Any]]


def audit(
    photographs: Sequence[Photograph],
    cohort: Sequence[Photograph],
    labels: Mapping[str, Mapping[str, str]],
    recogniser: Recogniser,
    studio: Studio,
    cache: Cache,
    asked: Asked,
    progress: Progress,
) -> Audit:
    """Make an audit.

    Args:
        photographs: of the people, a folder each.
        cohort: of other people, to normalise by; none without.
        labels: by the name of a label the groups of people by their names.
        recogniser: to audit.
        studio: the service's networks.
        cache: what is known already.
        asked: the rest.
        progress: shows how far it is.

    Raises:
        CannotRun: there are fewer than two people.
        CohortInvalid: the cohort cannot be used.
        RecogniserFailed: the recogniser failed; the message names the file.
    """
    collection = Collection(photographs, studio, recogniser, cache)
    with progress("photographs", len(photographs)) as told:
        items = collection.gather(told)
    people = collection.people
    _check_enough(collection)
    first = list({item.person: item for item in reversed(items)}.values())[::-1]
    with progress("people's look-alikes", len(first)) as told:
        drawn = collection.look_alikes(first, asked.look_alikes, asked.seed, told) if asked.look_alikes else []
    every = [*items, *drawn]
    vectors: list[Floats | None] = []
    if recogniser.embed:
        with progress("pictures recognised", len(every)) as told:
            vectors = collection.embed(every, told)
    pairs = plan(every, asked.pairs, asked.seed)
    scorer = Scorer(every, vectors, recogniser, collection, cache)
    raw = _scores(pairs, scorer, progress)
    scored = _scored(pairs, raw, scorer, every, len(people))
    if not len(scored.impostor):
        raise CannotRun("the recogniser found no face in the photographs of two people, so there is nothing to compare")
    bootstrap = Bootstrap(len(people), asked.resamples, asked.seed)
    with progress("measurements", 1) as told:
        report = _report(collection, recogniser, studio, items, drawn, vectors, scored, bootstrap, labels, asked)
        told(1)
    report["cohort"] = None
    if cohort:
        with progress("the cohort", len(cohort)) as told:
            normed = _by_cohort(cohort, recogniser, studio, cache, vectors, pairs, raw, asked, told)
        after = _scored(pairs, normed[0], scorer, every, len(people))
        report["cohort"] = _gain(scored, after, bootstrap, report["reference_fmr"]) | normed[1]
    report["conclusions"] = conclusions(report, studio.sizes.image)
    rows = _look_alikes(every, pairs, raw, people)
    return Audit(report, scored, rows, _worst(collection, every, pairs, raw, asked.pictures))


def _check_enough(collection: Collection) -> None:
    found = len(collection.people)
    if found < 2:
        why = f": {collection.skipped[0].name}: {collection.skipped[0].reason}" if collection.skipped else ""
        raise CannotRun(
            f"at least two people are needed, a folder each with photographs in it, and {found} could be used{why}"
        )


def _scores(pairs: Plan, scorer: Scorer, progress: Progress) -> dict[str, Any]:
    rows = vars(pairs)
    with progress("pairs", sum(map(len, rows.values()))) as told:
        return {name: scorer(of, told) for name, of in rows.items()}


def _scored(pairs: Plan, found: dict[str, Any], scorer: Scorer, items: Sequence[Item], people: int) -> Scored:
    alike = np.array([item.similarity for item in items])
    made: dict[str, Any] = {}
    for name, rows in vars(pairs).items():
        made[name], kept = scorer.pairs(rows, found[name])
        if name in ("source", "other"):
            made[f"{name}_similarity"] = alike[rows[kept][:, 1]]
    return Scored(people=people, **made)


def _report(
    collection: Collection,
    recogniser: Recogniser,
    studio: Studio,
    items: Sequence[Item],
    drawn: Sequence[Item],
    vectors: Sequence[Floats | None],
    scored: Scored,
    bootstrap: Bootstrap,
    labels: Mapping[str, Mapping[str, str]],
    asked: Asked,
) -> dict[str, Any]:
    of_person = np.bincount([item.person for item in items], minlength=len(collection.people))
    failed = [vector is None for vector in vectors] or [False] * (len(items) + len(drawn))
    points = figures.operating_points(scored, bootstrap)
    rate = figures.reference_rate(len(scored.impostor))
    threshold = next((p["threshold"]["value"] for p in points if p["can_be_had"] and p["fmr_asked"] == rate), None)
    groups = {label: [of.get(person, "") for person in collection.people] for label, of in labels.items()}
    return {
        "recogniser": recogniser.name,
        "crop": recogniser.crop,
        "model": f"{studio.manifest.name} {studio.manifest.version}",
        "seed": asked.seed,
        "resamples": asked.resamples,
        "photographs": {
            "used": len(items),
            "people": int((of_person > 0).sum()),
            "people_with_one": int((of_person == 1).sum()),
            "skipped": len(collection.skipped),
            "failures_to_extract": sum(failed[: len(items)]),
        },
        "look_alikes": {"made": len(drawn), "each": asked.look_alikes, "failures": sum(failed[len(items) :])},
        "pairs": {name: len(getattr(scored, name)) for name in ("genuine", "impostor", "source", "other")},
        "summary": figures.summary(scored),
        "operating_points": points,
        "reference_fmr": rate,
        "by_similarity": figures.by_similarity(scored, bootstrap, threshold) if threshold is not None else [],
        "groups": figures.by_group(scored, bootstrap, threshold, groups) if threshold is not None else {},
        "skipped": [{"photograph": one.name, "reason": one.reason} for one in collection.skipped],
    }


def _by_cohort(
    photographs: Sequence[Photograph],
    recogniser: Recogniser,
    studio: Studio,
    cache: Cache,
    vectors: Sequence[Floats | None],
    pairs: Plan,
    raw: dict[str, Any],
    asked: Asked,
    told: Told,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every score normalised by a cohort, and what there is to say of the cohort."""
    if not vectors:
        raise CohortInvalid("--normalise: needs a recogniser that gives embeddings; this one scores pairs")
    collection = Collection(photographs, studio, recogniser, cache)
    members = collection.gather(told)
    found = [one for one in collection.embed(members, lambda _: None) if one is not None]
    if len(found) < LEAST:
        raise CohortInvalid(f"--normalise: {len(found)} of {len(photographs)} pictures can be used, which is too few")
    cohort = np.stack(found)
    gap = np.full(cohort.shape[1], np.nan, np.float32)
    every = np.stack([gap if one is None else one for one in vectors])
    parts = [statistics(part @ cohort.T, asked.top) for part in np.array_split(every, max(1, len(every) // 512))]
    of = type(parts[0])(*(np.concatenate([part[field] for part in parts]) for field in (0, 1)))
    about = {"members": len(found), "top": min(asked.top, len(found)), "skipped": len(collection.skipped)}
    return {name: normalised(rows, raw[name], of) for name, rows in vars(pairs).items()}, about


def _gain(before: Scored, after: Scored, bootstrap: Bootstrap, rate: float | None) -> dict[str, Any]:
    if rate is None or not len(before.genuine):
        return {"why": "There are too few pairs to say what the cohort brings."}
    gain = figures.cohort_gain(before, after, bootstrap, rate)
    points = figures.operating_points(replace(after), bootstrap)
    return {**gain, "operating_points": points}


def _look_alikes(
    items: Sequence[Item], pairs: Plan, raw: dict[str, Any], people: Sequence[str]
) -> list[dict[str, Any]]:
    """A row a look-alike."""
    other = dict(zip(pairs.other[:, 1].tolist(), raw["other"].tolist(), strict=True))
    return [
        {
            "person": people[items[place].person],
            "photograph": items[place].name,
            "reach": round(items[place].reach, 4),
            "similarity": items[place].similarity,
            "score": figures.number(score),
            "score_against_another": figures.number(other.get(place, float("nan"))),
        }
        for (_, place), score in zip(pairs.source.tolist(), raw["source"].tolist(), strict=True)
    ]


def _worst(
    collection: Collection, items: Sequence[Item], pairs: Plan, raw: dict[str, Any], count: int
) -> list[dict[str, Any]]:
    """The impostors most alike and the genuine pairs least alike, about as many of each."""
    told: list[dict[str, Any]] = []
    order = {name: np.argsort(raw[name], kind="stable") for name in ("genuine", "impostor")}
    finite = {name: rows[np.isfinite(raw[name][rows])] for name, rows in order.items()}
    fewest = min(count // 2, len(finite["genuine"]))
    for name, title, rows in (
        ("impostor", "two people", finite["impostor"][::-1][: count - fewest]),
        ("genuine", "one person", finite["genuine"][:fewest]),
    ):
        for row in rows:
            first, second = (items[place] for place in getattr(pairs, name)[row])
            text = f"score {raw[name][row]:.4f}: {first.name} and {second.name}"
            faces = [collection.frame(first), collection.frame(second)]
            told.append({"title": title, "text": text, "faces": faces})
    return told


def conclusions(report: dict[str, Any], side: int) -> dict[str, list[str]]:
    """What a stranger may conclude from a report, and what not, in words.

    Args:
        report: without them.
        side: of the look-alikes, in pixels.
    """
    of = report["photographs"]
    can = [
        f"How often this recogniser confuses people like these {of['people']}, in photographs like these {of['used']}, "
        "with the intervals that so few people leave.",
        "Which scores its false matches and false non-matches have, and which pairs they are.",
    ]
    if report["by_similarity"]:
        can.append("From which similarity on, as the generator's recogniser has it, drawn look-alikes are let in.")
    cannot = [
        "Rates for other people, cameras, ages or origins than those in the photographs.",
        f"How real doubles, twins or relatives fare: look-alikes are drawn by one generator, {side} pixels wide, and "
        "no attack that somebody carried out.",
        "Anything on presentation attacks or injected pictures, which are other tests (ISO/IEC 30107-3).",
        "That enrolling look-alikes, or training on them, would make this recogniser better.",
    ]
    missing = [f"{p['fmr_asked']:g}" for p in report["operating_points"] if not p["can_be_had"]]
    if missing:
        cannot.append(f"Thresholds at FMR {', '.join(missing)}: there are too few impostor pairs.")
    if not report["pairs"]["genuine"]:
        cannot.append("FNMR: nobody has two photographs.")
    if not report["recogniser"].startswith(OWN_NAME):
        cannot.append(
            "The rates of the recogniser in its own pipeline: here it was shown faces cut as the report says."
        )
    return {"can": can, "cannot": cannot}
