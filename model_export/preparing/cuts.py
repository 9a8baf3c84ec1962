"""The faces that were cut out of one source, in chunks on disk: made once, gone on with after a stop, read by row.

A chunk is whole once its records are there; the arrays are written before them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from app.core.faces import FRAME_SIZE, Bytes, Floats
from model_export.preparing.cutting import Cutter, UnusablePicture
from model_export.preparing.files import replacing, write_json
from model_export.preparing.pictures import Pictures

FORMAT = 2
"""Raised whenever the same pictures and settings would give other cuts; older chunks are then thrown away."""
CHUNK = 128


class Cuts:
    """The folder of chunks.

    Args:
        folder: where they are.
        files: how many files the source has.
        chunk: files a chunk.
    """

    def __init__(self, folder: Path, files: int, chunk: int = CHUNK) -> None:
        self.folder, self.files, self.chunk = folder, files, chunk
        self.chunks = -(-files // chunk)

    def begin(self, settings: dict[str, Any]) -> None:
        """Make the folder, or take up the one that is there if it was cut with the same settings."""
        manifest = self.folder / "settings.json"
        if self.folder.exists():
            before = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
            changed = sorted(key for key in settings if before.get(key) != settings[key])
            if not changed:
                return
            print(f"{self.folder}: cut with other settings ({', '.join(changed)}); starting anew")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        write_json(manifest, settings)

    def records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Chunk and record of each file: `file`, and either `row` and `quality` or `reason`."""
        for index in range(self.chunks):
            for record in json.loads(self.records_path(index).read_text(encoding="utf-8")):
                yield index, record

    def rows(self, kind: str, index: int) -> NDArray[Any]:
        """An array of one chunk, memory-mapped."""
        array: NDArray[Any] = np.load(self.array_path(kind, index), mmap_mode="r")
        return array

    def array_path(self, kind: str, index: int) -> Path:
        """Where an array of a chunk is kept: `faces`, `embeddings`, `embeddings_mirrored`, or what was added later."""
        return self.folder / f"{index:06d}.{kind}.npy"

    def records_path(self, index: int) -> Path:
        """Where the records of a chunk are kept."""
        return self.folder / f"{index:06d}.json"


def cut_all(pictures: Path, names: Sequence[str], cuts: Cuts, models: Path, workers: int, title: str = "") -> None:
    """Cut what is not cut yet, in several processes.

    Args:
        pictures: the folder or archive.
        names: its files, in an order that does not change.
        cuts: where the faces go.
        models: folder of the detectors and the recogniser.
        workers: processes, one thread each.
        title: for the progress bar.
    """
    missing = [index for index in range(cuts.chunks) if not cuts.records_path(index).exists()]
    parts = {index: list(names[index * cuts.chunk : (index + 1) * cuts.chunk]) for index in missing}
    done = cuts.files - sum(len(part) for part in parts.values())
    with tqdm(
        total=cuts.files, initial=done, unit="file", desc=f"cutting {title}".strip(), mininterval=1.0, smoothing=0.05
    ) as progress:
        if not missing:
            return
        # Spawned, not forked: ONNX Runtime's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            min(workers, len(missing)), context, initializer=_start_worker, initargs=(pictures, models, cuts)
        ) as pool:
            for index in _bounded(pool, parts.items(), 2 * workers):
                progress.update(len(parts[index]))


def _bounded(pool: ProcessPoolExecutor, tasks: Iterable[tuple[int, list[str]]], limit: int) -> Iterator[int]:
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


_pictures: Pictures
_cutter: Cutter
_cuts: Cuts


def _start_worker(pictures: Path, models: Path, cuts: Cuts) -> None:
    """Each process opens the source and the networks once."""
    global _pictures, _cutter, _cuts
    # Ctrl-C is the parent's to answer: it lets the chunks under way finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _pictures, _cutter, _cuts = Pictures(pictures), Cutter(models, "cpu", threads=1), cuts


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
            face, quality = _cutter.cut(_pictures.read(name))
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
        with replacing(_cuts.array_path(kind, index)) as path, path.open("wb") as file:
            np.save(file, array)
    write_json(_cuts.records_path(index), records)
    return index
