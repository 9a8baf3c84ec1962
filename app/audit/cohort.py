"""`python -m app cohort OUT`: people to normalise scores by, drawn or from the operator's own photographs.

OUT holds `cohort.npz`, for the setting `cohort` of the service, and, where they are drawn, a picture of each, for
`python -m app report --normalise OUT` with any recogniser. The same command makes the same again.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydantic import ValidationError

from app import settings
from app.audit import recognisers
from app.audit.cache import Cache
from app.audit.collection import BATCH, Collection, Studio
from app.audit.command import DONE, FAILED, INTERRUPTED, progress, whole
from app.batch.archives import open_source
from app.core.cohort import FILE, Cohort
from app.core.faces import Floats
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from app.core.normalisation import LEAST
from app.core.origin import Origin
from app.core.provenance import Provenance
from app.errors import CannotRun, CannotStart, CohortInvalid
from app.settings import Settings
from app.telemetry.terminal import printable, refuse

QUALITY = 95


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `cohort` to a command line."""
    parser = commands.add_parser(
        "cohort",
        help="make a cohort to normalise scores by",
        description="Make a cohort to normalise scores by: people who do not exist, drawn, or those of a folder of "
        "photographs. Exit status: 0 it is there, 2 it is not.",
    )
    parser.add_argument("target", metavar="OUT", type=Path, help=f"folder for {FILE}, and for pictures that are drawn")
    parser.add_argument("--count", type=whole(LEAST), default=2000, metavar="N", help="people to draw (2000)")
    parser.add_argument("--seed", type=whole(0), default=0, help="of the people (0)")
    parser.add_argument("--photographs", type=Path, metavar="IN", help="a folder of photographs instead, a person each")
    parser.set_defaults(run=cohort)


def cohort(target: Path, count: int, seed: int, photographs: Path | None) -> int:
    """Run the command; returns the exit status."""
    try:
        studio = Studio(Settings())
        target.mkdir(parents=True, exist_ok=True)
        vectors = _photographed(photographs, studio) if photographs else _drawn(target, count, seed, studio)
        network = studio.manifest.files["recognizer"].sha256
        Cohort(vectors, network).write(target / FILE)
    except (ValidationError, CannotStart) as error:
        refuse(*settings.reasons(error))
        return FAILED
    except OSError as error:
        refuse(f"{error.filename or target}: {error.strerror}")
        return FAILED
    except KeyboardInterrupt:
        print("\nlookalike: stopped; the same command begins anew.", file=sys.stderr)
        return INTERRUPTED
    print(printable(f"{len(vectors)} {'photographs' if photographs else 'people'}; see {target / FILE}"))
    return DONE


def _photographed(source: Path, studio: Studio) -> Floats:
    """Embeddings [n, 192] of the faces in photographs; of the photographs nothing is kept.

    Raises:
        SourceUnreadable, CohortInvalid: there are too few.
    """
    own = recognisers.own(studio.settings)
    with ExitStack() as stack:
        found = stack.enter_context(open_source(source))
        cache = stack.enter_context(Cache(Path(stack.enter_context(TemporaryDirectory()))))
        told = stack.enter_context(progress("photographs", len(found)))
        items = Collection(found, studio, own, cache).gather(told)
    if len(items) < LEAST:
        raise CohortInvalid(f"{source}: {len(items)} of {len(found)} photographs can be used, which is too few")
    return np.stack([item.own for item in items])


def _drawn(target: Path, count: int, seed: int, studio: Studio) -> Floats:
    """Embeddings [n, 192] of people who do not exist, and a picture of each in the folder.

    Raises:
        CannotRun: the folder holds something else.
    """
    names = [f"{index:05}.jpg" for index in range(count)]
    # A run that was killed may have left the file half written.
    if strangers := set(os.listdir(target)) - {*names, FILE, f"{FILE}.part"}:
        raise CannotRun(f"{target} holds {min(strangers)}, which is none of this cohort; name a new folder")
    identities = np.random.default_rng(seed).standard_normal((count, IDENTITY_SIZE)).astype(np.float32)
    origin = Origin(studio.settings)
    vectors = []
    with progress("people drawn", count) as told:
        for start in range(0, count, BATCH):
            part = identities[start : start + BATCH]
            images, own = studio.draw(part, np.zeros((len(part), CONTROL_SIZE), np.float32))
            vectors.append(own)
            for index, image in enumerate(images, start):
                provenance = Provenance(studio.manifest.name, studio.manifest.version, f"cohort-{seed}-{index}")
                (data,) = origin.files([image], "jpeg", QUALITY, provenance)
                (target / names[index]).write_bytes(data)
            told(len(part))
    return np.concatenate(vectors)
