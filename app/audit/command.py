"""`python -m app report PHOTOGRAPHS OUT`: the audit of a recogniser, the user's own or the service's.

A run can be stopped at any time; the same command goes on where it stopped. OUT holds

    report.html        everything, for people; one file, printable
    report.json        its figures, for programs
    rates.csv          a line an operating point
    look-alikes.csv    a line a look-alike
    embeddings.sqlite  what was computed already: biometric templates, to be removed when the audit is over
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from tqdm import tqdm

from app import settings
from app.audit import recognisers, remote
from app.audit.cache import FILE, Cache
from app.audit.collection import Studio, Told
from app.audit.crops import CROPS, Crop
from app.audit.page import page
from app.audit.recognisers import OWN, Preprocessing, Recogniser
from app.audit.report import Asked, Audit, audit
from app.batch import layout
from app.batch.archives import Photograph, open_source
from app.batch.output import LOCK, lock_of
from app.errors import CannotRun, CannotStart, PhotographUnusable, RecogniserFailed
from app.settings import Settings
from app.telemetry.terminal import printable, refuse

DONE, FAILED, INTERRUPTED = 0, 2, 130
"""Exit statuses: the report is there, it could not be made, Ctrl-C."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a text begins with that spreadsheets compute."""


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `report` to a command line."""
    parser = commands.add_parser(
        "report",
        help="audit a face recogniser, your own or the service's",
        description="Audit a face recogniser on your photographs: thresholds, error rates with intervals, and what "
        "look-alikes do to it. The same command goes on with a run that was stopped. Exit status: 0 the report is "
        "there, 2 it is not.",
    )
    parser.add_argument("source", metavar="PHOTOGRAPHS", type=Path, help="folder, tar or zip with a folder a person")
    parser.add_argument(
        "target", metavar="OUT", type=Path, help="folder for report.html, report.json and two CSV files"
    )
    parser.add_argument(
        "--recogniser",
        default=OWN,
        metavar="WHICH",
        help="own, MODULE:FUNCTION, FILE.onnx, an address, or one after compreface:, deepface: or insightface-rest: "
        "(own)",
    )
    parser.add_argument(
        "--crop", choices=CROPS, help="what it is shown (frame; arcface for ONNX, portrait for an address)"
    )
    parser.add_argument("--allow", action="append", default=[], metavar="HOST", help="send faces to this host")
    parser.add_argument("--key-from", metavar="VARIABLE", help="environment variable with the key for an address")
    _add_preprocessing(parser)
    parser.add_argument("--labels", type=Path, metavar="CSV", help="groups: a column person, and one for each label")
    parser.add_argument("--look-alikes", type=whole(0, 64), default=8, metavar="N", help="of each person, 0..64 (8)")
    parser.add_argument(
        "--pairs", type=whole(1), metavar="N", help="most impostor pairs (1000000; 5000 where it scores pairs)"
    )
    parser.add_argument(
        "--resamples", type=whole(10), default=500, metavar="N", help="bootstrap draws of the people (500)"
    )
    parser.add_argument("--seed", type=whole(0), default=0, help="of look-alikes, pairs and draws (0)")
    parser.add_argument(
        "--normalise", type=Path, metavar="COHORT", help="folder of other people, to normalise scores by"
    )
    parser.add_argument(
        "--top", type=whole(2), default=200, metavar="N", help="of the cohort for each photograph (200)"
    )
    parser.add_argument("--pictures", type=whole(0), default=20, metavar="N", help="worst pairs that are shown (20)")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print report.json as well")
    parser.set_defaults(run=report)


def _add_preprocessing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("preprocessing of FILE.onnx")
    group.add_argument("--size", type=whole(8), metavar="PIXELS", help="side of its input (what the file says, or 112)")
    group.add_argument("--mean", type=float, default=127.5, help="a level x enters as (x - mean) / scale (127.5)")
    group.add_argument("--scale", type=float, default=127.5, help="see --mean (127.5)")
    group.add_argument("--layout", choices=["nchw", "nhwc"], help="order of its axes (what the file says)")
    group.add_argument("--colours", choices=["rgb", "bgr"], default="rgb", help="order of its channels (rgb)")


def whole(low: int, high: int | None = None) -> Any:
    """What reads a number within bounds."""

    def read(text: str) -> int:
        value = int(text)
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{value} is not in {low}..{'' if high is None else high}")
        return value

    return read


def report(
    source: Path,
    target: Path,
    labels: Path | None,
    normalise: Path | None,
    pairs: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Run the command; returns the exit status."""
    try:
        plots = _plots()
        chosen = Settings()
        recogniser = _recogniser(chosen, options)
        most = pairs or (5_000 if recogniser.score else 1_000_000)
        asked = Asked(
            pairs=most, **{name: options[name] for name in ("look_alikes", "seed", "resamples", "top", "pictures")}
        )
        with open_source(source, without=target) as photographs:
            if not photographs:
                raise CannotRun(f"{source}: holds no photograph; it is to hold a folder for each person")
            groups = read_labels(labels) if labels else {}
            with _claimed(target):
                with Cache(target) as cache:
                    made = _audited(photographs, normalise, groups, recogniser, Studio(chosen), cache, asked)
                _write(target, made, plots)
    except (ValidationError, CannotStart, PhotographUnusable) as error:
        refuse(*settings.reasons(error))
        return FAILED
    except BrokenPipeError:
        raise
    except OSError as error:
        refuse(f"{error.filename or target}: {error.strerror}; the same command goes on from here")
        return FAILED
    except KeyboardInterrupt:
        print("\nlookalike: stopped; the same command goes on from here.", file=sys.stderr)
        return INTERRUPTED
    print(json.dumps(made.report, indent=1) if as_json else printable(_summary(made.report, target)))
    return DONE


def _plots() -> Any:
    try:
        from app.audit import plots  # Matplotlib is an extra
    except ImportError as error:
        raise CannotRun(f"report needs Matplotlib ({error}): pip install 'lookalike[report]'") from error
    return plots


def _recogniser(chosen: Settings, options: Mapping[str, Any]) -> Recogniser:
    """The one that was asked for.

    Raises:
        RecogniserFailed, ModelsInvalid, ProviderUnavailable: it cannot be had.
    """
    named: str = options["recogniser"]
    crop: Crop | None = options["crop"]
    if named == OWN:
        if crop not in (None, "frame"):
            raise RecogniserFailed("--crop: the service's own recogniser takes the face frame, and no other crop")
        return recognisers.own(chosen)
    if remote.is_address(named):
        key = remote.key_from(options["key_from"]) if options["key_from"] else ""
        return remote.from_address(named, crop, options["allow"], key)
    if named.lower().endswith(".onnx"):
        how = Preprocessing(*(options[name] for name in ("size", "mean", "scale", "layout", "colours")))
        if not how.scale:
            raise RecogniserFailed("--scale: is 0, and levels are divided by it")
        return recognisers.from_onnx(Path(named), crop, how)
    if ":" not in named:
        raise RecogniserFailed(f"--recogniser {named}: is none of own, MODULE:FUNCTION, FILE.onnx and an address")
    return recognisers.from_module(named, crop)


def read_labels(path: Path) -> dict[str, dict[str, str]]:
    """By the name of a label the groups of people by their names.

    Raises:
        CannotRun: it is no CSV with a column `person` and others.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CannotRun(f"--labels {path}: cannot be read ({error})") from error
    names = [name for name in (rows[0] if rows else {}) if name and name != "person"]
    if not rows or "person" not in rows[0] or not names:
        raise CannotRun(f"--labels {path}: needs a first line like person,sex and a line for each person")
    return {name: {row["person"]: row[name] or "" for row in rows} for name in names}


@contextmanager
def _claimed(target: Path) -> Iterator[None]:
    """Make OUT, or see that it is that of an earlier report, and keep every other run out of it.

    Raises:
        CannotRun: another run is at work in it, or it holds something else.
    """
    target.mkdir(parents=True, exist_ok=True)
    there = set(os.listdir(target)) - {LOCK}
    # A report whose embeddings were removed, as they are to be, is one still.
    if there and FILE not in there and not {"report.json", "report.html"} <= there:
        raise CannotRun(f"{target} is not empty and holds no report; name a new folder")
    lock = lock_of(target, "report")
    try:
        yield
    finally:
        lock.release()


def _audited(
    photographs: Sequence[Photograph],
    normalise: Path | None,
    groups: Mapping[str, Mapping[str, str]],
    recogniser: Recogniser,
    studio: Studio,
    cache: Cache,
    asked: Asked,
) -> Audit:
    if normalise is None:
        return audit(photographs, [], groups, recogniser, studio, cache, asked, progress)
    with open_source(normalise) as cohort:
        if not cohort:
            raise CannotRun(f"{normalise}: holds no picture to normalise by")
        return audit(photographs, cohort, groups, recogniser, studio, cache, asked, progress)


@contextmanager
def progress(what: str, total: int) -> Iterator[Told]:
    """A bar with rate and time left; on a terminal only."""
    with tqdm(total=total, desc=what, unit="", unit_scale=total > 100_000, disable=None) as bar:

        def told(count: int) -> None:
            bar.update(count)

        yield told


def _write(target: Path, made: Audit, plots: Any) -> None:
    """The files of a report; each is whole, or as it was before."""
    drawn = []
    if len(made.scored.genuine):
        drawn.append(("DET curve, with and without look-alikes", plots.det(made.scored)))
    points = [point["threshold"]["value"] for point in made.report["operating_points"] if point["can_be_had"]]
    drawn.append(("Scores", plots.histograms(made.scored, points)))
    if made.report["by_similarity"]:
        title = f"Look-alikes let in at FMR {made.report['reference_fmr']:g}, against the generator's similarity"
        drawn.append((title, plots.let_in(made.report["by_similarity"])))
    _replace(target / "report.json", json.dumps(made.report, indent=1) + "\n")
    _replace(target / "rates.csv", as_csv([_flat(point) for point in made.report["operating_points"]]))
    _replace(target / "look-alikes.csv", as_csv(made.look_alikes))
    _replace(target / "report.html", page(made.report, drawn, made.worst), 0o600)  # it shows faces


def _replace(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a file, in which bytes of a name that are no text stand as %XX."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)  # it would keep its mode
    opener = partial(os.open, mode=mode)
    with open(part, "w", encoding="utf-8", newline="", opener=opener) as file:
        file.write(layout.printable(text))
    part.replace(path)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; a name that a spreadsheet would take for a formula stands behind a single quote."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _flat(point: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A nested row with one level: value, low and high of each figure."""
    row: dict[str, Any] = {}
    for name, value in point.items():
        if name == "interval":
            row |= {f"{above}low": value[0], f"{above}high": value[1]}
        elif isinstance(value, dict):
            row |= _flat(value, f"{above}{name}_")
        else:
            row[f"{above}{name}".removesuffix("_value")] = value
    return row


def _summary(report: Mapping[str, Any], target: Path) -> str:
    of = report["photographs"]
    cohort = report["cohort"]
    return (
        f"{of['used']} photographs of {of['people']} people, {of['skipped']} skipped, {report['look_alikes']['made']} "
        f"look-alikes; "
        + (f"the cohort {cohort['verdict']}; " if cohort and "verdict" in cohort else "")
        + f"see {target / 'report.html'}"
    )
