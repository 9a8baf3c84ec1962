"""`python -m app detect PICTURES...`: which of these pictures say that they were drawn."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app import settings
from app.core.faces import Detector
from app.core.origin import NO_PROOF, Examination, Origin
from app.core.watermark import THRESHOLD
from app.errors import CannotStart, PhotographUnusable
from app.runtime.manifest import read_manifest
from app.settings import Settings
from app.telemetry.terminal import printable, refuse

DONE, SKIPPED, FAILED = 0, 1, 2
"""Exit statuses: all pictures were looked at, some could not be, or none could."""


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `detect` to a command line."""
    parser = commands.add_parser(
        "detect",
        help="find out which pictures say that they were drawn",
        description="Find out which pictures say that they were drawn, by this model or another installation of it. "
        f"{NO_PROOF} Exit status: 0 all were looked at, 1 some could not be read, 2 none could, or it could not begin.",
    )
    parser.add_argument("pictures", metavar="PICTURE", type=Path, nargs="+", help="a JPEG, PNG or WebP file")
    parser.add_argument(
        "--json", dest="as_json", action="store_true", help="a line of JSON a picture, as `/v1/detect` answers"
    )
    parser.set_defaults(run=detect)


def detect(pictures: list[Path], as_json: bool) -> int:
    """Run the command; returns the exit status."""
    try:
        chosen = Settings()
        manifest = read_manifest(chosen.models)
        origin, detector = Origin(chosen), Detector(chosen.models, chosen.device)
    except (ValidationError, CannotStart) as error:
        refuse(*settings.reasons(error))
        return FAILED
    width = max(len(printable(str(path))) for path in pictures)
    if not as_json:
        print(f"{'picture':{width}}  {'verdict':29}  {'pixels':6}  {'credentials':11}  metadata")
    unread = 0
    for path in pictures:
        try:
            examined = origin.examine(_read(path, chosen.max_bytes), detector, (manifest.name, manifest.version))
        except (PhotographUnusable, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            refuse(f"{path}: {reason}")
            unread += 1
            continue
        print(_line(path, examined) if as_json else _row(path, examined, width))
    if not as_json:
        print(f"A score of {THRESHOLD:.1f} in the pixels is a mark. No mark is no proof of a photograph.")
    if not unread:
        return DONE
    return SKIPPED if unread < len(pictures) else FAILED


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:  # a pipe or a device says nothing of its size
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(None, f"is larger than the {most} bytes that LOOKALIKE_MAX_BYTES allows")
    return data


def _line(path: Path, examined: Examination) -> str:
    told: dict[str, Any] = {"picture": str(path), **examined.told()}
    return json.dumps(told)


def _row(path: Path, examined: Examination, width: int) -> str:
    score = f"{examined.score:.1f}" if examined.score else "-"
    system = f"{examined.metadata.system} {examined.metadata.version}".strip() or examined.metadata.software
    said = system or examined.metadata.source_type.rpartition("/")[2] or "-"
    name, credentials = printable(str(path)), examined.credentials.state
    return f"{name:{width}}  {examined.verdict:29}  {score:6}  {credentials:11}  {printable(said)}"
