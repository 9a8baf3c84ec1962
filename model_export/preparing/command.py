"""Photographs -> aligned, filtered, de-duplicated, split faces in the face frame.

Two stages. Cutting reads every picture once, in chunks, and stores each face with its measures; a run that was
stopped goes on after its last whole chunk. Choosing drops, clusters and splits, in seconds, and writes the result.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import multiprocessing
import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnxruntime
import PIL
from numpy.typing import NDArray
from tqdm import tqdm

from app.core.faces import EMBEDDING_SIZE, FRAME_SIZE, Bytes, Floats
from model_export.contact_sheet import save_contact_sheet
from model_export.preparing.clusters import connected, similar_pairs, split_clusters
from model_export.preparing.cutting import Cutter, Quality, UnusablePicture
from model_export.preparing.sources import Source, SourceError

MODELS = Path(__file__).resolve().parents[2] / "app" / "models"
NETWORKS = ("face_detector_back.onnx", "face_detector_full_range.onnx", "face_recognizer.onnx")
FORMAT = 1
"""Raised whenever the same pictures and settings would give other cuts; older chunks are then thrown away."""
CHUNK = 128
LABELS = ("age", "gender", "group")
SHEET_FACES = 96
FRAME_EYES = 0.404 * FRAME_SIZE
"""Distance of the eyes in the face frame, in its pixels."""


@dataclass(frozen=True)
class Limits:
    """What a face must satisfy to be kept; see `cutting.Quality` for the measures."""

    min_score: float = 0.7
    max_turn: float = 0.35
    max_misfit: float = 0.16
    min_eye_distance: float = 40.0
    max_outside: float = 0.12
    max_padding: float = 0.02
    min_sharpness: float = 0.25
    min_brightness: float = 30.0
    max_brightness: float = 215.0
    min_contrast: float = 11.0
    min_age: float = 18.0

    def reason(self, quality: Quality, age: float) -> str:
        """Why a face is dropped, in a few words; empty where it is kept. `age` may be nan (unknown)."""
        checks = (
            ("minor", age < self.min_age),
            ("score too low", quality.score < self.min_score),
            ("profile", quality.turn > self.max_turn),
            ("points do not fit", quality.misfit > self.max_misfit),
            ("eyes too close", quality.eye_distance < self.min_eye_distance),
            ("beyond the picture", quality.outside > self.max_outside),
            ("black padding", quality.padding > self.max_padding),
            ("too dark", quality.brightness < self.min_brightness),
            ("too bright", quality.brightness > self.max_brightness),
            ("too flat", quality.contrast < self.min_contrast),
            ("blurred", quality.sharpness < self.min_sharpness),
        )
        return next((name for name, failed in checks if failed), "")


@dataclass(frozen=True)
class Duplicates:
    """What counts as a near-duplicate (one person, one side of the split) and as a copy (dropped).

    Attributes:
        same_person: cosine above which two faces are kept together.
        copy_difference: of such two, mean absolute difference of the pixels (0..255) below which they are one
            photograph. Taken at a quarter of the size, where it matters little that the two were not cut alike.
    """

    same_person: float = 0.9
    copy_difference: float = 10.0


@dataclass
class Candidate:
    """One file of the source on its way to being a face or dropped."""

    file: str
    place: tuple[int, int]
    """Chunk, and row in it."""
    quality: Quality
    labels: dict[str, str]
    reason: str = ""
    cluster: int = -1
    test: bool = False

    @property
    def age(self) -> float:
        """Labelled age in years; nan where unknown."""
        return float(self.labels["age"] or "nan")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the options of `prepare`."""
    limits, duplicates = Limits(), Duplicates()
    parser.add_argument("source", type=Path, help="folder (recursive), tar, tar.gz or zip of pictures of any size")
    parser.add_argument("out", type=Path, help="folder for the prepared set")
    parser.add_argument("--labels", type=Path, help="CSV: file and any of age, gender, group; else SOURCE's labels.csv")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the detectors and the recogniser")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes, one thread each")
    parser.add_argument("--test-faces", type=int, default=1500, help="about how many; never over a fifth of the set")
    parser.add_argument("--least-test", type=int, default=20, help="test faces of every group x gender, if it has them")
    parser.add_argument("--keep-cuts", action="store_true", help="keep the chunks, to try other limits in seconds")
    for name, value in asdict(limits).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=value, help=_LIMIT_HELP[name])
    parser.add_argument("--same-person", type=float, default=duplicates.same_person, help="cosine: kept on one side")
    parser.add_argument(
        "--copy-difference", type=float, default=duplicates.copy_difference, help="mean difference (0..255) of copies"
    )


_LIMIT_HELP = {
    "min_score": "detector confidence",
    "max_turn": "nose off the eyes' middle, in eye distances",
    "max_misfit": "mean distance of the points to the face frame's, in eye distances",
    "min_eye_distance": "pixels of the photograph (the 128 px frame has 51.7 between the eyes)",
    "max_outside": "share of the frame beyond the photograph",
    "max_padding": "share of the frame that is black padding, baked into the picture",
    "min_sharpness": "variance of the Laplacian per deviation of the luminance",
    "min_brightness": "mean luminance, 0..255",
    "max_brightness": "mean luminance, 0..255",
    "min_contrast": "standard deviation of the luminance",
    "min_age": "years; applies to labelled faces",
}


def run(args: argparse.Namespace) -> int:
    """Prepare a set; returns 0, 2 with a message where the source or the labels cannot be used, 130 after Ctrl-C."""
    limits = Limits(**{name: getattr(args, name) for name in asdict(Limits())})
    duplicates = Duplicates(args.same_person, args.copy_difference)
    try:
        prepare(
            args.source,
            args.out,
            labels=args.labels,
            models=args.models,
            workers=args.workers,
            test_faces=args.test_faces,
            least_test=args.least_test,
            keep_cuts=args.keep_cuts,
            limits=limits,
            duplicates=duplicates,
        )
    except (SourceError, LabelError) as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("prepare: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


class LabelError(ValueError):
    """The labels file cannot be used."""


def prepare(
    source: Path,
    out: Path,
    *,
    labels: Path | None = None,
    models: Path = MODELS,
    workers: int = 2,
    test_faces: int = 1500,
    least_test: int = 20,
    keep_cuts: bool = False,
    limits: Limits | None = None,
    duplicates: Duplicates | None = None,
    chunk: int = CHUNK,
) -> dict[str, Any]:
    """Prepare a set of faces; see the module's text and `add_arguments` for the parameters.

    Returns:
        What report.json says.

    Raises:
        SourceError: the source cannot be read, or has no usable face.
        LabelError: the labels cannot be read.
    """
    limits, duplicates = limits or Limits(), duplicates or Duplicates()
    started = time.time()
    with Source(source) as opened:
        names = opened.names
        label_bytes, label_name = _find_labels(opened, labels)
    table = _read_labels(label_bytes, str(labels or label_name)) if label_bytes is not None else {}
    names = [name for name in names if name != label_name]
    if not names:
        raise SourceError(f"{source}: no files in it")

    settings: dict[str, Any] = {
        "cutting": {
            "format": FORMAT,
            "source": str(source.resolve()),
            "files": hashlib.sha256("\n".join(names).encode()).hexdigest(),
            "bytes": source.stat().st_size if source.is_file() else None,
            "models": {name: hashlib.sha256((models / name).read_bytes()).hexdigest() for name in NETWORKS},
            "chunk": chunk,
        },
        "choosing": {
            "labels": hashlib.sha256(label_bytes).hexdigest() if label_bytes is not None else None,
            "test_faces": test_faces,
            "least_test": least_test,
            "limits": asdict(limits),
            "duplicates": asdict(duplicates),
        },
    }
    if (done := _finished(out, settings)) is not None:
        print(f"{out}: already prepared with these settings; nothing to do")
        return done

    cuts = out / "cuts"
    _begin(cuts, settings["cutting"])
    # From here to the end the folder holds no finished set.
    (out / "report.json").unlink(missing_ok=True)
    _cut_all(source, names, cuts, models, workers, chunk)
    cut_seconds = time.time() - started
    chunks = -(-len(names) // chunk)
    report = {
        **_choose(cuts, out, chunks, table, limits, duplicates, test_faces, least_test),
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
    with _replacing(out / "report.json") as path:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if not keep_cuts:
        shutil.rmtree(cuts)
    _print_summary(report, out)
    return report


# Cutting


def _begin(cuts: Path, settings: dict[str, Any]) -> None:
    """Make the folder of chunks, or take up the one that is there if it was cut with the same settings."""
    manifest = cuts / "settings.json"
    if cuts.exists():
        before = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
        changed = sorted(key for key in settings if before.get(key) != settings[key])
        if not changed:
            return
        print(f"{cuts}: cut with other settings ({', '.join(changed)}); starting anew")
        shutil.rmtree(cuts)
    cuts.mkdir(parents=True)
    with _replacing(manifest) as path:
        path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _cut_all(source: Path, names: Sequence[str], cuts: Path, models: Path, workers: int, chunk: int) -> None:
    starts = range(0, len(names), chunk)
    missing = [index for index in range(len(starts)) if not _records_path(cuts, index).exists()]
    progress = tqdm(total=len(names), unit="file", desc="cutting", mininterval=1.0, smoothing=0.05)
    progress.update(sum(len(names[start : start + chunk]) for start in starts) - _count(names, missing, chunk))
    if missing:
        # Spawned, not forked: ONNX Runtime's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            min(workers, len(missing)), context, initializer=_start_worker, initargs=(source, models, cuts)
        ) as pool:
            tasks = [(index, list(names[index * chunk : (index + 1) * chunk])) for index in missing]
            for index in _bounded(pool, tasks, 2 * workers):
                progress.update(_count(names, [index], chunk))
    progress.close()


def _count(names: Sequence[str], indices: Iterable[int], chunk: int) -> int:
    return sum(len(names[index * chunk : (index + 1) * chunk]) for index in indices)


def _bounded(pool: ProcessPoolExecutor, tasks: Sequence[tuple[int, list[str]]], limit: int) -> Iterator[int]:
    """Run chunks in order, few at a time, so that an interrupt or a failure ends the run at once."""
    waiting: set[Future[int]] = set()
    ahead = iter(tasks)
    try:
        while True:
            while len(waiting) < limit and (task := next(ahead, None)) is not None:
                waiting.add(pool.submit(_cut_chunk, *task))
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        for future in waiting:
            future.cancel()


_source: Source
_cutter: Cutter
_cuts: Path


def _start_worker(source: Path, models: Path, cuts: Path) -> None:
    """Each process opens the source and the networks once."""
    global _source, _cutter, _cuts
    # Ctrl-C is the parent's to answer: it lets the chunks under way finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _source, _cutter, _cuts = Source(source), Cutter(models, "cpu", threads=1), cuts


def _leave_with_parent() -> None:
    """A parent that was killed cannot tell its workers, and they would wait for it for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _cut_chunk(index: int, names: list[str]) -> int:
    """Cut one chunk of files and store it: the faces first, then the records, which make it whole."""
    records: list[dict[str, Any]] = []
    faces: list[Bytes] = []
    for name in names:
        try:
            face, quality = _cutter.cut(_source.read(name))
        except UnusablePicture as error:
            records.append({"file": name, "reason": str(error)})
        except Exception as error:  # noqa: BLE001 - a damaged archive or a freak picture costs one file, never the run
            records.append({"file": name, "reason": f"failed ({type(error).__name__})"})
        else:
            records.append({"file": name, "row": len(faces), "quality": asdict(quality)})
            faces.append(face)
    stack = np.stack(faces) if faces else np.empty((0, FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
    arrays: dict[str, Bytes | Floats] = {
        "faces": stack,
        "embeddings": _cutter.embed(stack),
        "embeddings_mirrored": _cutter.embed(np.ascontiguousarray(stack[:, :, ::-1])),
    }
    for kind, array in arrays.items():
        with _replacing(_array_path(_cuts, kind, index)) as path, path.open("wb") as file:
            np.save(file, array)
    with _replacing(_records_path(_cuts, index)) as path:
        path.write_text(json.dumps(records), encoding="utf-8")
    return index


def _array_path(cuts: Path, kind: str, index: int) -> Path:
    return cuts / f"{index:06d}.{kind}.npy"


def _records_path(cuts: Path, index: int) -> Path:
    return cuts / f"{index:06d}.json"


# Choosing


def _choose(
    cuts: Path,
    out: Path,
    chunks: int,
    table: dict[str, dict[str, str]],
    limits: Limits,
    duplicates: Duplicates,
    test_faces: int,
    least_test: int,
) -> dict[str, Any]:
    """Filter, cluster and split what was cut, and write the set; returns the counts for the report."""
    candidates, dropped = _gather(cuts, chunks, table)
    for candidate in candidates:
        candidate.reason = limits.reason(candidate.quality, candidate.age)
    kept = [candidate for candidate in candidates if not candidate.reason]
    copies = _cluster(kept, cuts, duplicates)
    kept = [candidate for candidate in kept if not candidate.reason]
    if not kept:
        reasons = Counter(reason for _, reason in dropped) + Counter(c.reason for c in candidates)
        raise SourceError(f"no usable face in it: {dict(reasons)}")
    strata = [(candidate.labels["group"], candidate.labels["gender"]) for candidate in kept]
    # A cluster is named by its first file, so that its side depends on the pictures and not on a number.
    first_files: dict[int, str] = {}
    clusters = [first_files.setdefault(candidate.cluster, candidate.file) for candidate in kept]
    test = split_clusters(clusters, strata, min(test_faces, len(kept) // 5), least_test)
    for candidate, is_test in zip(kept, test, strict=True):
        candidate.test = bool(is_test)
    # Train first: each side is then one slice of the arrays.
    kept.sort(key=lambda candidate: candidate.test)
    dropped += [(candidate.file, candidate.reason) for candidate in candidates if candidate.reason]
    dropped.sort()
    out.mkdir(parents=True, exist_ok=True)
    for kind in ("faces", "embeddings", "embeddings_mirrored"):
        _write_array(out / f"{kind}.npy", kind, kept, cuts)
    _write_table(out / "faces.csv", kept)
    _write_csv(out / "dropped.csv", ("file", "reason"), dropped)
    _write_sheets(out / "report", candidates, kept, copies, cuts)
    return _counts(candidates, kept, dropped)


def _gather(cuts: Path, chunks: int, table: dict[str, dict[str, str]]) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """All faces that were cut, in the order of the source, and the files that gave none with the reason."""
    unlabelled = dict.fromkeys(LABELS, "")
    records = [
        (index, record)
        for index in range(chunks)
        for record in json.loads(_records_path(cuts, index).read_text(encoding="utf-8"))
    ]
    # Labels may name a file without its folder, as long as only one file has that name.
    times = Counter(PurePosixPath(record["file"]).name for _, record in records)
    candidates, dropped = [], []
    for index, record in records:
        file = record["file"]
        if "reason" in record:
            dropped.append((file, record["reason"]))
            continue
        short = PurePosixPath(file).name
        labels = table.get(file) or (table.get(short) if times[short] == 1 else None) or unlabelled
        candidates.append(Candidate(file, (index, record["row"]), Quality(**record["quality"]), labels))
    return candidates, dropped


def _cluster(kept: list[Candidate], cuts: Path, duplicates: Duplicates) -> list[tuple[Candidate, Candidate]]:
    """Number the clusters of near-duplicates, and mark copies as dropped; returns (copy, the one that stays)."""
    embeddings, mirrored = (
        _collect(cuts, kind, kept, (EMBEDDING_SIZE,)) for kind in ("embeddings", "embeddings_mirrored")
    )
    pairs, _, flipped = similar_pairs(embeddings, mirrored, duplicates.same_person)
    roots = connected(len(kept), pairs)
    numbers = {root: number for number, root in enumerate(np.unique(roots))}
    for candidate, root in zip(kept, roots, strict=True):
        candidate.cluster = numbers[root]
    copies = []
    for (first, second), flip in zip(pairs, flipped, strict=True):
        pair = kept[first], kept[second]
        if any(candidate.reason for candidate in pair):
            continue
        one, other = (_reduced(_face(cuts, candidate)) for candidate in pair)
        if np.abs(one - (other[:, ::-1] if flip else other)).mean() < duplicates.copy_difference:
            # The one with more to see stays; beyond the frame's own resolution that is the sharper one.
            goes, stays = sorted(pair, key=lambda c: (min(c.quality.eye_distance, FRAME_EYES), c.quality.sharpness))
            goes.reason = "copy of another"
            copies.append((goes, stays))
    return copies


def _reduced(face: Bytes, factor: int = 4) -> Floats:
    """A face [128, 128, 3] averaged over squares of `factor` pixels."""
    cells = FRAME_SIZE // factor
    return face.reshape(cells, factor, cells, factor, 3).mean((1, 3), dtype=np.float32)


def _collect(cuts: Path, kind: str, candidates: Sequence[Candidate], shape: tuple[int, ...]) -> Floats:
    result = np.empty((len(candidates), *shape), np.float32)
    for rows, part in _by_chunk(cuts, kind, candidates):
        result[rows] = part
    return result


def _by_chunk(
    cuts: Path, kind: str, candidates: Sequence[Candidate]
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Where candidates of one chunk stand in the list, and their entries; chunk by chunk, to bound the memory."""
    places = np.array([candidate.place for candidate in candidates])
    for index in np.unique(places[:, 0]) if len(places) else ():
        rows = np.flatnonzero(places[:, 0] == index)
        yield rows, np.load(_array_path(cuts, kind, int(index)), mmap_mode="r")[places[rows, 1]]


def _face(cuts: Path, candidate: Candidate) -> Bytes:
    index, row = candidate.place
    face: Bytes = np.array(np.load(_array_path(cuts, "faces", index), mmap_mode="r")[row])
    return face


# Writing


def _write_array(path: Path, kind: str, kept: Sequence[Candidate], cuts: Path) -> None:
    shape = (FRAME_SIZE, FRAME_SIZE, 3) if kind == "faces" else (EMBEDDING_SIZE,)
    dtype = np.uint8 if kind == "faces" else np.float32
    with _replacing(path) as unfinished:
        array = np.lib.format.open_memmap(unfinished, mode="w+", dtype=dtype, shape=(len(kept), *shape))
        for rows, part in _by_chunk(cuts, kind, kept):
            array[rows] = part
        array.flush()


def _write_table(path: Path, kept: Sequence[Candidate]) -> None:
    measures = ("score", "eye_distance", "turn", "misfit", "outside", "padding", "sharpness", "brightness", "contrast")
    header = ("row", "file", "split", *LABELS, *measures, "grey", "cluster")
    rows = [
        (
            row,
            candidate.file,
            "test" if candidate.test else "train",
            *(candidate.labels[label] for label in LABELS),
            *(f"{getattr(candidate.quality, measure):.4f}" for measure in measures),
            int(candidate.quality.grey),
            candidate.cluster,
        )
        for row, candidate in enumerate(kept)
    ]
    _write_csv(path, header, rows)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with _replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_sheets(
    folder: Path,
    candidates: Sequence[Candidate],
    kept: Sequence[Candidate],
    copies: Sequence[tuple[Candidate, Candidate]],
    cuts: Path,
) -> None:
    """Samples of each reason and of what was kept: at random, and what came nearest to a limit; clusters; copies."""
    if folder.exists():
        shutil.rmtree(folder)
    chance = np.random.default_rng(0)

    def some(items: Sequence[Candidate]) -> list[Candidate]:
        rows = np.sort(chance.permutation(len(items))[:SHEET_FACES])
        return [items[row] for row in rows]

    def sheet(name: str, items: Sequence[Candidate], caption: str) -> None:
        captions = [caption.format(c=item, q=item.quality) for item in items]
        save_contact_sheet(folder / f"{name}.png", [_face(cuts, item) for item in items], captions)

    sheet("kept", some(kept), "{c.labels[age]} {c.labels[gender]:.1} {c.labels[group]}")
    sheet("kept-grey", some([item for item in kept if item.quality.grey]), "{q.contrast:.0f}")
    sheet("kept-least-sharp", sorted(kept, key=lambda item: item.quality.sharpness)[:SHEET_FACES], "{q.sharpness:.3f}")
    sheet("kept-lowest-score", sorted(kept, key=lambda item: item.quality.score)[:SHEET_FACES], "{q.score:.3f}")
    sheet("kept-most-misfit", sorted(kept, key=lambda item: -item.quality.misfit)[:SHEET_FACES], "{q.misfit:.3f}")
    shown = {
        "profile": "turn {q.turn:.2f}",
        "points do not fit": "misfit {q.misfit:.2f}",
        "eyes too close": "eyes {q.eye_distance:.0f} px",
        "beyond the picture": "outside {q.outside:.2f}",
        "black padding": "black {q.padding:.2f}",
        "blurred": "sharp {q.sharpness:.3f}",
        "too dark": "light {q.brightness:.0f}",
        "too bright": "light {q.brightness:.0f}",
        "too flat": "contrast {q.contrast:.0f}",
    }
    for reason in sorted({item.reason for item in candidates} - {"", "copy of another"}):
        items = some([item for item in candidates if item.reason == reason])
        sheet(f"dropped-{reason.replace(' ', '-')}", items, shown.get(reason, "score {q.score:.2f}"))
    sheet("dropped-copies", [item for pair in copies[: SHEET_FACES // 2] for item in pair], "{c.reason}")
    sizes = Counter(item.cluster for item in kept)
    together = sorted((item for item in kept if sizes[item.cluster] > 1), key=lambda item: item.cluster)
    sheet("clusters", together[: 2 * SHEET_FACES], "cluster {c.cluster}")


def _counts(
    candidates: Sequence[Candidate], kept: Sequence[Candidate], dropped: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    def by_label(items: Sequence[Candidate]) -> dict[str, int]:
        names = (" ".join(filter(None, (c.labels["group"], c.labels["gender"]))) or "unlabelled" for c in items)
        return dict(sorted(Counter(names).items()))

    test = [candidate for candidate in kept if candidate.test]
    sizes = Counter(candidate.cluster for candidate in kept)
    shares: dict[str, dict[str, float]] = {}
    for label in ("group", "gender"):
        before = Counter(candidate.labels[label] or "unlabelled" for candidate in candidates)
        after = Counter(candidate.labels[label] or "unlabelled" for candidate in kept)
        shares[label] = {name: round(after[name] / before[name], 4) for name in sorted(before)}
    return {
        "files": len(dropped) + len(kept),
        "kept": len(kept),
        "train": len(kept) - len(test),
        "test": len(test),
        "grey": sum(candidate.quality.grey for candidate in kept),
        "dropped": dict(Counter(reason for _, reason in dropped).most_common()),
        "kept_share_of_found_faces": shares,
        "kept_by_label": by_label(kept),
        "test_by_label": by_label(test),
        "clusters": {
            "of_several": sum(size > 1 for size in sizes.values()),
            "faces_in_them": sum(size for size in sizes.values() if size > 1),
            "largest": max(sizes.values()),
        },
    }


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Write beside a file and put it in its place at the end, so that a killed run leaves the old one or the new."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    yield unfinished
    os.replace(unfinished, path)


# Around


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


def _find_labels(source: Source, given: Path | None) -> tuple[bytes | None, str | None]:
    """The labels' bytes, and their name inside the source where they stand there."""
    inside = sorted((name for name in source.names if PurePosixPath(name).name == "labels.csv"), key=len)
    name = inside[0] if inside else None
    if given is not None:
        try:
            return given.read_bytes(), name
        except OSError as error:
            raise LabelError(f"{given}: {error.strerror}") from error
    return (source.read(name), name) if name else (None, None)


def _read_labels(data: bytes, name: str) -> dict[str, dict[str, str]]:
    """File name -> its age, gender and group; empty where a column or a value is missing."""
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        if "file" not in (reader.fieldnames or ()):
            raise LabelError(f"{name}: no column 'file'; it needs file and any of {', '.join(LABELS)}")
        table = {row["file"]: {label: (row.get(label) or "").strip() for label in LABELS} for row in reader}
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{name}: not a CSV file in UTF-8") from error
    for file, labels in table.items():
        try:
            float(labels["age"] or "nan")
        except ValueError as error:
            raise LabelError(f"{name}: the age of {file} is not a number: {labels['age']!r}") from error
    return table


def _print_summary(report: dict[str, Any], out: Path) -> None:
    print(f"{out}: {report['kept']} of {report['files']} kept, {report['train']} train, {report['test']} test")
    for reason, count in report["dropped"].items():
        print(f"  {count:6d} {reason}")
    print(f"look at {out / 'report'}/*.png before training")
