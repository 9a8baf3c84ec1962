"""Photographs of one or several sources -> aligned, filtered, de-duplicated, split faces in the face frame.

Two stages. Cutting reads every picture once, in chunks, and stores each face with its measures; a run that was
stopped goes on after its last whole chunk. Choosing drops, clusters, splits and weighs over all sources together, and
writes the set.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import PIL

from app.core.faces import EMBEDDING_SIZE, Floats
from app.runtime.manifest import NETWORKS
from model_export.preparing.candidates import Candidate, embeddings, gather
from model_export.preparing.choosing import Wishes, choose
from model_export.preparing.cuts import CHUNK, FORMAT, Cuts, cut_all
from model_export.preparing.files import write_json
from model_export.preparing.filters import HELP, Limits
from model_export.preparing.labels import LabelError, names_in, read_labels
from model_export.preparing.people import Likeness
from model_export.preparing.pictures import Pictures, SourceError
from model_export.preparing.report import counts, write_sheets
from model_export.preparing.sources import Source, Sources, read_sources
from model_export.preparing.writing import write_set

MODELS = Path(__file__).resolve().parents[2] / "app" / "models"
USED = [NETWORKS[role] for role in ("detector_near", "detector_far", "recognizer")]
LIKENESS_HELP = {
    "same_person": "cosine above which two faces are one person's, and stay on one side",
    "look_alike": "cosine above which a face is not trained on beside a test face",
    "keep_away": "cosine above which a face is not trained on because of a set that is kept away",
    "copy": "cosine above which two faces may be one photograph",
    "copy_difference": "mean difference (0..255) below which such two are",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of `prepare`."""
    parser.add_argument(
        "source",
        type=Path,
        help="folder (recursive), tar, tar.gz or zip of pictures of any size, or a .toml list of such",
    )
    parser.add_argument("out", type=Path, help="folder for the prepared set")
    parser.add_argument("--labels", type=Path, help="CSV: file and any of age, gender, group; else SOURCE's labels.csv")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the detectors and the recogniser")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes, one thread each")
    parser.add_argument("--test-faces", type=int, help="about how many, of one source; never over a fifth of it [1500]")
    parser.add_argument("--least-test", type=int, default=20, help="test faces of every group x gender, if it has them")
    parser.add_argument("--keep-cuts", action="store_true", help="keep the chunks, to try other limits in minutes")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="also write the set in small parts, to be carried")
    for kind, texts in ((Limits(), HELP), (Likeness(), LIKENESS_HELP)):
        for name, value in asdict(kind).items():
            parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=value, help=texts[name])


def run(args: argparse.Namespace) -> int:
    """Prepare a set; returns 0, or 130 after Ctrl-C.

    Raises:
        SourceError, LabelError: the source or the labels cannot be used.
    """
    limits = Limits(**{name: getattr(args, name) for name in asdict(Limits())})
    likeness = Likeness(**{name: getattr(args, name) for name in asdict(Likeness())})
    try:
        prepare(
            read_sources(args.source, args.labels, args.test_faces),
            args.out,
            models=args.models,
            workers=args.workers,
            least_test=args.least_test,
            keep_cuts=args.keep_cuts,
            limits=limits,
            likeness=likeness,
        )
        if args.pack:
            from model_export.preparing.packing import pack

            pack(args.out, args.pack)
    except KeyboardInterrupt:
        print("prepare: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def prepare(
    sources: Sources,
    out: Path,
    *,
    models: Path = MODELS,
    workers: int = 2,
    least_test: int = 20,
    keep_cuts: bool = False,
    limits: Limits | None = None,
    likeness: Likeness | None = None,
    chunk: int = CHUNK,
) -> dict[str, Any]:
    """Prepare a set of faces; see the module's text and `add_arguments` for the parameters.

    Returns:
        What report.json says.

    Raises:
        SourceError: a source cannot be read, or none has a usable face.
        LabelError: labels cannot be read.
    """
    started = time.time()
    test_faces = {source.name: source.test_faces for source in sources.source if source.use == "prepare"}
    wishes = Wishes(
        limits or Limits(), likeness or Likeness(), test_faces, least_test, sources.estimate, sources.refine
    )
    opened = [_Opened(source, out, models, chunk) for source in sources.source]
    settings = _settings(sources, opened, wishes)
    if (done := _finished(out, settings)) is not None:
        print(f"{out}: already prepared with these settings; nothing to do")
        return done
    # From here to the end the folder holds no finished set.
    (out / "report.json").unlink(missing_ok=True)
    for one in opened:
        one.cut(models, workers)
    cut_seconds = time.time() - started
    report = {
        **_choose(opened, out, wishes),
        "sources": [source.model_dump(mode="json", include=_TOLD) for source in sources.source],
        "settings": settings,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "onnxruntime": onnxruntime.__version__,
            "pillow": PIL.__version__,
        },
        "workers": workers,
        "seconds_of_this_run": {"cutting": round(cut_seconds, 1), "all": round(time.time() - started, 1)},
    }
    write_json(out / "report.json", report)
    if not keep_cuts:
        shutil.rmtree(out / "cuts")
    _print_summary(report, out)
    return report


_TOLD = {"name", "licence", "origin", "use"}
"""What the report repeats of a source."""


class _Opened:
    """A source with its files' names, its labels and the folder of its cuts."""

    def __init__(self, source: Source, out: Path, models: Path, chunk: int) -> None:
        self.source = source
        # Folders of it are emptied, which may be called as some of the photographs' are.
        if source.photographs.resolve() == out.resolve():
            raise SourceError(f"{out}: holds the photographs; name another folder for the set")
        with Pictures(source.photographs, without=out) as pictures:
            self.names = pictures.names
            self.look_up, labels = read_labels(source, pictures)
        if not self.names:
            raise SourceError(f"{source.photographs}: no pictures in it")
        self.held_out = self._named(names_in(source.held_out))
        self.labels = _digest(labels)
        self.cuts = Cuts(out / "cuts" / (source.name or "faces"), len(self.names), chunk)
        path = source.photographs
        self.settings: dict[str, Any] = {
            "format": FORMAT,
            "source": str(path.resolve()),
            "files": _digest("\n".join(self.names).encode()),
            "bytes": path.stat().st_size if path.is_file() else None,
            "models": {name: _digest((models / name).read_bytes()) for name in USED},
            "chunk": chunk,
        }

    def _named(self, names: frozenset[str]) -> frozenset[str]:
        """Those of these names that are pictures of this source, with its own name before them or without."""
        found = frozenset(self.names) & (names | {name.removeprefix(f"{self.source.name}/") for name in names})
        if names and not found:
            raise LabelError(f"{self.source.held_out}: names no picture of {self.source.photographs}")
        return found

    def cut(self, models: Path, workers: int) -> None:
        """Cut the faces that are not cut yet."""
        self.cuts.begin(self.settings)
        cut_all(self.source.photographs, self.names, self.cuts, models, workers, self.source.name)

    def gather(self) -> tuple[list[Candidate], list[tuple[str, str, str]]]:
        """See `candidates.gather`."""
        return gather(self.source.name, self.cuts, self.look_up, self.held_out)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _choose(opened: list[_Opened], out: Path, wishes: Wishes) -> dict[str, Any]:
    """Choose, and write the set and its sheets; returns the counts."""
    candidates: list[Candidate] = []
    dropped: list[tuple[str, str, str]] = []
    kept_away: Floats = np.empty((0, EMBEDDING_SIZE), np.float32)
    for one in opened:
        found, without = one.gather()
        if one.source.use == "keep away":
            # A profile tells the recogniser too little: half of the set would look like it.
            clear = [candidate for candidate in found if not wishes.limits.reason(candidate.quality)]
            kept_away = np.concatenate([kept_away, embeddings(clear)])
        else:
            candidates += found
            dropped += without
    if not candidates:
        raise SourceError(f"no usable face in it: {dict(Counter(reason for *_, reason in dropped))}")
    chosen = choose(candidates, kept_away, wishes)
    dropped += [(candidate.source, candidate.file, candidate.reason) for candidate in candidates if candidate.reason]
    write_set(out, chosen.kept, dropped)
    write_sheets(out / "report", chosen)
    return counts(chosen, dropped)


def _settings(sources: Sources, opened: list[_Opened], wishes: Wishes) -> dict[str, Any]:
    """All that the set depends on, as it comes back out of JSON."""
    settings = {
        "cutting": {one.source.name: one.settings for one in opened},
        "choosing": {
            "labels": {one.source.name: one.labels for one in opened},
            "held_out": {one.source.name: _digest("\n".join(sorted(one.held_out)).encode()) for one in opened},
            "sources": sources.model_dump(mode="json"),
            "least_test": wishes.least_test,
            "limits": asdict(wishes.limits),
            "likeness": asdict(wishes.likeness),
        },
    }
    return dict(json.loads(json.dumps(settings)))


def _finished(out: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The report of a set that was finished with these settings."""
    path = out / "report.json"
    if not path.exists():
        return None
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if report.get("settings") == settings:
        return report
    before = report.get("settings", {})
    changed = sorted(
        key
        for stage, values in settings.items()
        for key, value in values.items()
        if before.get(stage, {}).get(key) != value
    )
    print(f"{out}: prepared with other settings ({', '.join(changed)}); preparing anew")
    return None


def _print_summary(report: dict[str, Any], out: Path) -> None:
    print(f"{out}: {report['kept']} of {report['files']} kept, {report['train']} train, {report['test']} test")
    for reason, count in report["dropped"].items():
        print(f"  {count:6d} {reason}")
    print(f"look at {out / 'report'}/*.png before training")
