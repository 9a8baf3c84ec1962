"""`python -m benchmarks.marks`: what the mark in the pixels outlives, what it costs, and what it is mistaken for.

    python -m benchmarks.marks --drawn 1000 --photographs FOLDER FOLDER --most 10000 --write

Faces are drawn from random identities by the model that is served, marked as the service marks them, saved as JPEG at
95, and changed. Photographs are files that the mark never touched; nothing of them is kept. Everything is written to
benchmarks/results/marks.json after each handful, and a run that is broken off goes on there. Photographs come from the
folders in turn, in an order that is the same each time. `--write` puts what was measured into docs/provenance.md and
benchmarks/marks.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from app.core.faces import Detector, Face
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE, Generator
from app.core.images import read_photo
from app.core.origin import packed_version
from app.core.watermark import Message, Watermark
from app.core.watermark_search import search
from app.runtime.manifest import NETWORKS, parse_manifest
from app.settings import Settings
from benchmarks.attacks import AIMED, BEYOND, TWO, saved, two
from benchmarks.marks_written import Results, brief, section, write
from benchmarks.origin import marking

HANDFUL = 20
INSTALLATION = 4711
BEYOND_OF = 4
"""One face of so many suffers what nobody promised anything of: what is not read takes ten times as long."""
ROOT = Path(__file__).parents[1]
DECIDING = ("app/core/faces.py", "app/core/watermark.py", "app/core/watermark_search.py", "benchmarks/attacks.py")
"""What decides whether a mark is read."""
GRIDS, SQUARE = 1000, 128
"""Photographs of which it is measured whether the mark makes a grid where there is none, and their side for that."""
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class Bench:
    """The networks and the mark, and the figures so far."""

    def __init__(self, out: Path) -> None:
        models = Settings().models
        manifest = parse_manifest(models)
        self.generator = Generator(models, "cpu", 1, NETWORKS["decoder"])
        self.detector = Detector(models, "cpu", 1)
        self.watermark = Watermark()
        self.message = Message(packed_version(manifest.version), INSTALLATION)
        self.out = out
        self.results: Results = {"of": measured(manifest.version), "drawn": [], "photographs": [], "grid": []}
        if out.exists():
            self.results = json.loads(out.read_text())
            if self.results.get("of") != measured(manifest.version):
                raise SystemExit(f"{out}: is of another model, mark or search; move it away, or name another --out")

    def keep(self) -> None:
        """Write what there is."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text(json.dumps(self.results) + "\n")

    def drawn(self, count: int) -> None:
        """Draw, mark, change and read; a row a face."""
        while (done := len(self.results["drawn"])) < count:
            random = np.random.default_rng(done)
            identities = random.standard_normal((HANDFUL, IDENTITY_SIZE), np.float32)
            controls = random.uniform(-1, 1, (HANDFUL, CONTROL_SIZE)).astype(np.float32)
            images, embeddings = self.generator.decode(identities, controls)
            _, references = self.generator.decode(identities, np.zeros_like(controls))
            marked = self.watermark.lay(images, self.message)
            after = self.generator.recognizer(marked)
            for index, face in enumerate(marked):
                moved = (after[index] - embeddings[index]) @ references[index]
                error = ((face.astype(np.float64) - images[index]) ** 2).mean()
                row = {
                    "psnr": round(float(10 * np.log10(255**2 / error)), 2),
                    "moved": round(float(moved), 5),
                    "steps": [steps(images[index]), steps(face)],
                    "read": self._read_after_all(face, random, beyond=index % BEYOND_OF == 0),
                }
                self.results["drawn"].append(row)
            self.keep()
            _say(f"{len(self.results['drawn'])} of {count} faces")

    def _read_after_all(self, face: np.ndarray, random: np.random.Generator, *, beyond: bool) -> dict[str, list[float]]:
        """By change: whether the message was read right, and the best score; `beyond` what was aimed at, or not."""
        left = saved("JPEG", 95)(Image.fromarray(face), random)
        changes = {name: attack for name, (attack, _) in AIMED.items()} | {TWO: two} | (BEYOND if beyond else {})
        read = {name: self._read(change(left, random)) for name, change in changes.items()}
        if not beyond:
            return read
        identity, _ = self.generator.encode(np.asarray(left)[None])
        redrawn, _ = self.generator.decode(identity, np.zeros((1, CONTROL_SIZE), np.float32))
        return read | {"drawn anew by the model itself": self._read(Image.fromarray(redrawn[0]))}

    def _read(self, picture: Image.Image) -> list[float]:
        outcome = search(picture, self._faces(picture), self.watermark, most=1)
        right = any(found.message == self.message for found in outcome.found)
        return [float(right), round(outcome.best, 2)]

    def _faces(self, picture: Image.Image) -> Iterator[Face]:
        """The faces that the service would find, the search for small ones put off until they are asked for."""
        soon = self.detector(picture, thorough=None)
        yield from soon
        known = {face.box for face in soon}
        yield from (face for face in self.detector(picture, thorough=True) if face.box not in known)

    def photographs(self, folders: list[Path], most: int) -> None:
        """Seek a mark where there is none; the best score of each picture."""
        scores: list[float] = self.results["photographs"]
        grid: list[float] = self.results["grid"]
        for index, data in enumerate(_files(folders, most)):
            if index < len(scores):
                continue
            image = read_photo(data, Settings().max_pixels, reduced=False).image
            scores.append(round(search(image, self.detector(image, thorough=True), self.watermark).best, 2))
            if len(grid) < GRIDS:
                square = np.asarray(ImageOps.fit(image, (SQUARE, SQUARE), Image.Resampling.BICUBIC))
                grid.append(steps(self.watermark.lay(square[None], self.message)[0]) / steps(square))
            if len(scores) % 100 == 0:
                self.keep()
                _say(f"{len(scores)} of {most} photographs, the best score so far is {max(scores):.2f}")
        self.keep()

    def cost(self, tries: int = 50) -> None:
        """CPU time of marking, the least of several batches of 8 and the median."""
        faces = self.generator.decode(*(np.zeros((8, size), np.float32) for size in (IDENTITY_SIZE, CONTROL_SIZE)))[0]
        self.results["ms"] = [round(milliseconds, 3) for milliseconds in marking(faces, tries)]
        self.keep()


def measured(version: str) -> str:
    """What the figures are of: the model's version, and a digest of all that decides whether a mark is read."""
    code = b"".join((ROOT / file).read_bytes() for file in DECIDING)
    return f"{version} {hashlib.sha256(code).hexdigest()[:16]}"


def steps(face: np.ndarray) -> float:
    """Mean step from even to odd columns by that from odd to even: 1 where there is no grid."""
    columns = np.abs(np.diff(face.astype(np.float64), axis=1)).mean((0, 2))
    return round(float(columns[0::2].mean() / columns[1::2].mean()), 4)


def _files(folders: list[Path], most: int) -> Iterator[bytes]:
    """Photographs of the folders in turn, each folder's in an order drawn at random, the same each time."""
    shuffled = []
    for folder in folders:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        shuffled.append([paths[index] for index in np.random.default_rng(0).permutation(len(paths))])
    turns = (path for turn in zip_longest(*shuffled) for path in turn if path)
    for path in islice(turns, most):
        yield path.read_bytes()


def main() -> int:
    """Measure, print, write; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.marks", description=__doc__)
    parser.add_argument("--drawn", type=int, default=1000, help="faces to draw (1000)")
    parser.add_argument("--photographs", type=Path, nargs="*", default=[], help="folders of photographs")
    parser.add_argument("--most", type=int, default=10000, help="photographs to look at (10000)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/marks.json"))
    parser.add_argument("--cost", action="store_true", help="measure the cost anew, on a machine that is quiet by now")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/provenance.md as well")
    chosen = parser.parse_args()
    bench = Bench(chosen.out)
    if chosen.cost or "ms" not in bench.results:
        bench.cost()
    bench.drawn(chosen.drawn)
    bench.photographs(chosen.photographs, chosen.most)
    print(section(brief(bench.results)), end="")
    if chosen.write:
        write(bench.results)
    return 0


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
