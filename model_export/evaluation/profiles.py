"""How are profiles redrawn? Photographs of heads turned to the side, as they are sent and not as they were prepared.

The prepared faces have no profiles, since `prepare` leaves them out. These go the way of a request instead, and are
refused where the service refuses: found and cut by `app.core.subjects`, turned if need be, one photograph a person.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from app.core.computation import Computation, ImageThreads
from app.core.faces import Bytes, Floats
from app.core.generate import DEFAULT_SIZES
from app.core.models import Engine
from app.core.origin import Origin
from app.core.parameters import PhotographParameters
from app.core.subject import Subject
from app.core.subjects import find_subject
from app.errors import PhotographUnusable
from app.runtime.manifest import NETWORKS
from app.settings import Settings
from app.telemetry.metrics import Metrics
from model_export.evaluation import difficult, likeness
from model_export.evaluation.metrics import Array, Figure, as_json
from model_export.evaluation.people import person_of
from model_export.evaluation.sample import Sample, still
from model_export.pictures import psnr, to_tensor

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
PROFILE = "profile"
"""The folder that profiles lie in where a person's other photographs are beside them."""


def measure(sample: Sample) -> dict[str, Any]:
    """How many profiles can be used, why others are refused, and whom the recognisers take the redrawings for."""
    if sample.profiles is None:
        return {}
    photographs = one_of_each(sample.profiles, sample.settings.most_people, sample.settings.chance("profiles"))
    found = asyncio.run(_found(sample, photographs))
    seen = [subject for subject in found if isinstance(subject, Subject)]
    usable = np.array([isinstance(subject, Subject) for subject in found])
    refused = Counter(reason for reason in found if isinstance(reason, str))
    entry: dict[str, Any] = {
        "photographs": len(photographs),
        "refused": dict(refused.most_common()),
        "usable": sample.intervals.mean(usable).as_json(),
        "faces": len(seen),
    }
    if len(seen) >= difficult.FEWEST:
        entry |= as_json(_redrawn(sample, seen))
    return {"profiles": entry}


def one_of_each(folder: Path, most: int, chance: np.random.Generator) -> list[Path]:
    """A photograph of each person of a folder, `most` people at most, in name order.

    Raises:
        ValueError: there is none.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    files = [path for path in files if PROFILE in path.relative_to(folder).parts] or files
    by_person: dict[str, list[Path]] = {}
    for path in files:
        by_person.setdefault(person_of(str(path.relative_to(folder))), []).append(path)
    if not by_person:
        raise ValueError(f"{folder}: no photographs of profiles")
    names = chance.permutation(sorted(by_person))[:most]
    return [by_person[name][chance.integers(len(by_person[name]))] for name in sorted(names)]


def _redrawn(sample: Sample, seen: list[Subject]) -> dict[str, Figure]:
    frames = np.stack([subject.frame for subject in seen])
    identities = np.stack([subject.identity for subject in seen])
    images, embeddings = sample.studio.decode(identities, still(len(seen)))
    similarity = (embeddings * np.stack([subject.embedding for subject in seen])).sum(1)
    signal = psnr(to_tensor(images), to_tensor(frames)).numpy()
    if sample.studio.judge is None:
        return difficult.rows(sample, similarity, signal, None)

    own = np.asarray(sample.studio.judge_faces(frames))

    def judged(pictures: Bytes) -> Array:
        return np.asarray((own * np.asarray(sample.studio.judge_faces(pictures))).sum(1))

    figures = difficult.rows(sample, similarity, signal, judged(images))
    # A recogniser that cannot tell profiles would judge the pose and not the redrawing.
    still_known = judged(likeness.degrade(frames)) >= likeness.thresholds(sample).judge_threshold
    return figures | {"judge_still_recognises": sample.intervals.mean(still_known)}


async def _found(sample: Sample, photographs: list[Path]) -> list[Subject | str]:
    """The face of each photograph, or why there is none to redraw, in the words of `app.errors`."""
    settings = Settings(device="cpu")
    threads = ImageThreads(settings)
    engine = cast(Engine, _Engine(sample))
    computation = Computation(engine, settings, Metrics(), threads, Origin(settings), math.inf)
    found: list[Subject | str] = []
    for path in photographs:
        try:
            found.append(await find_subject(computation, path.read_bytes(), "largest", PhotographParameters()))
        except PhotographUnusable as error:
            found.append(re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__).lower())
    threads.close()
    return found


class _Engine:
    """What finding a face asks of the service's engine, which itself wants the thresholds that are measured here."""

    def __init__(self, sample: Sample) -> None:
        recognizer = (sample.models / NETWORKS["recognizer"]).read_bytes()
        sha256 = hashlib.sha256(recognizer).hexdigest()
        self.manifest = SimpleNamespace(files={"recognizer": SimpleNamespace(sha256=sha256)})
        self.sizes, self.detector = DEFAULT_SIZES, sample.detector
        self.encoder, self._studio = self, sample.studio

    async def run(self, faces: Bytes, **_: float) -> tuple[Floats, Floats]:
        """Identities [n, 70] and embeddings [n, 192] of faces."""
        return self._studio.encode(faces), self._studio.recognise(faces)
