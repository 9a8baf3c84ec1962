"""What the probe of `app.core.quality` refuses: `python -m benchmarks.quality FOLDER...` fits it and prints a table.

Of each folder of photographs of faces so many are taken as they are, on their heads, on their sides and as negatives;
other things are parts of free pictures that scikit-image brings along, noise and shapes, put straight before the
recogniser, as if the detector had been fooled each time. The table is of photographs that the fit did not see: it is
made twice, each time on one half. With `--write` the probe of the service is replaced; then look at `git diff`.
"""

from __future__ import annotations

import argparse
import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from app.core.faces import Detector, Face, align
from app.core.generate import Generator
from app.core.quality import FILE, pose_of
from app.runtime.manifest import parse_manifest
from app.settings import Settings

Floats = NDArray[np.float64]

THINGS = """
coffee clock_motion gravel brick grass moon hubble_deep_field page text retina rocket chelsea horse coins cell
motorcycle_left ihc phantom chessboard_RGB color logo
"""
FLOORS = (-1.0, 0.0, 0.5, 1.0, 2.0)
USABLE = "facing within 30 degrees, inclined by less than 30, eyes 25 pixels apart, sure detection"


@dataclass(frozen=True)
class Found:
    """One face that the detector found: of which photograph, what was done to that, and whether it is usable."""

    photograph: str
    kind: str
    usable: bool
    frame: NDArray[np.uint8]


def look(detector: Detector, photograph: str, kind: str, image: Image.Image) -> Found | None:
    """The largest face of a picture, cut out."""
    faces = detector(image, thorough=None)
    if not faces:
        return None
    face: Face = faces[0]
    pose = pose_of(face)
    usable = abs(pose.yaw) < 30 and abs(pose.roll) < 30 and face.eye_distance >= 25 and face.score >= 0.75
    if kind == "side" and abs(pose.roll) > 35:
        return None  # found lying, and cut as if it stood: nothing is wrong with that
    return Found(photograph, kind, usable, align(image, face))


def photographs(detector: Detector, folder: Path, count: int) -> tuple[list[Found], dict[str, int]]:
    """Faces of a folder, and how many pictures of each kind were looked at."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    random.Random(0).shuffle(files)
    found: list[Found | None] = []
    looked = dict.fromkeys(("upright", "head", "side", "negative"), 0)
    for number, file in enumerate(files[:count]):
        image = Image.open(file).convert("RGB")
        tries = [("upright", image)]
        if number < count // 4:
            tries += [("head", image.rotate(180)), ("side", image.rotate(90)), ("side", image.rotate(270))]
            tries += [("negative", ImageOps.invert(image)), ("negative", ImageOps.invert(image.convert("L")))]
        for kind, picture in tries:
            looked[kind] += 1
            found.append(look(detector, str(file), kind, picture.convert("RGB")))
    return [one for one in found if one], looked


def things(count: int) -> Iterator[NDArray[np.uint8]]:
    """Frames [128, 128, 3] in which there is no face: parts of pictures, noise of any roughness, shapes."""
    chance, numbers = random.Random(5), np.random.default_rng(5)
    folder = Path(skimage.__file__).parent / "data"
    pictures = [Image.open(next(folder.glob(f"{name}.*"))).convert("RGB") for name in THINGS.split()]
    makers = (partial(part, pictures), partial(part, pictures), partial(noise, numbers), shapes)
    for number in range(count):
        yield makers[number % 4](chance)


def part(pictures: list[Image.Image], chance: random.Random) -> NDArray[np.uint8]:
    """A square of any size and place out of a picture."""
    image = chance.choice(pictures)
    side = int(np.exp(chance.uniform(np.log(40), np.log(min(image.size)))))
    left, top = chance.randrange(image.width - side + 1), chance.randrange(image.height - side + 1)
    square = image.crop((left, top, left + side, top + side)).rotate(90 * chance.randrange(4))
    return np.asarray(square.resize((128, 128), Image.Resampling.BICUBIC))


def noise(numbers: np.random.Generator, chance: random.Random) -> NDArray[np.uint8]:
    """Noise from white to cloudy, from grey to coloured."""
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128))) + 1 / 128
    rough = radius ** chance.uniform(0, 2.5)
    channels = [np.fft.ifft2(np.fft.fft2(numbers.normal(size=(128, 128))) / rough).real for _ in range(3)]
    grey = chance.random()
    waves = np.stack([channels[0] * grey + channel * (1 - grey) for channel in channels], -1)
    levels = (waves - waves.mean()) / waves.std() * chance.uniform(20, 70) + chance.uniform(70, 180)
    return np.clip(levels, 0, 255).astype(np.uint8)


def shapes(chance: random.Random) -> NDArray[np.uint8]:
    """Ellipses and rectangles in any colours, sharp or soft."""

    def colour() -> tuple[int, ...]:
        return tuple(chance.randrange(256) for _ in range(3))

    image = Image.new("RGB", (256, 256), colour())
    draw = ImageDraw.Draw(image)
    for _ in range(chance.randrange(2, 12)):
        (left, right), (top, bottom) = (sorted(chance.randrange(256) for _ in range(2)) for _ in range(2))
        chance.choice([draw.ellipse, draw.rectangle])((left, top, right + 1, bottom + 1), fill=colour())
    blurred = image.filter(ImageFilter.GaussianBlur(chance.uniform(0, 4)))
    return np.asarray(blurred.resize((128, 128), Image.Resampling.BICUBIC))


def fit(good: Floats, bad: Floats, weight: float = 30.0) -> tuple[Floats, float]:
    """Logistic regression with a quadratic penalty on standardised inputs, by Newton's method; weights and bias."""
    rows = np.concatenate([good, bad])
    mean, deviation = rows.mean(0), rows.std(0)
    rows = np.column_stack([(rows - mean) / deviation, np.ones(len(rows))])
    wanted = np.repeat([1.0, 0.0], [len(good), len(bad)])
    penalty = np.append(np.full(good.shape[1], weight), 1e-6)
    solution = np.zeros(rows.shape[1])
    for _ in range(40):
        said = 1 / (1 + np.exp(-rows @ solution))
        curvature = (rows * np.maximum(said * (1 - said), 1e-6)[:, None]).T @ rows + np.diag(penalty)
        solution -= np.linalg.solve(curvature, rows.T @ (said - wanted) + penalty * solution)
    weights = solution[:-1] / deviation
    return weights, float(solution[-1] - weights @ mean)


class Sample:
    """Faces and other things, embedded.

    Args:
        folders: of photographs.
        count: photographs of each folder.
        others: pictures of other things.
    """

    def __init__(self, folders: list[Path], count: int, others: int) -> None:
        models = Settings().models
        detector, self._generator = Detector(models, "cpu", 1), Generator(models, "cpu", 1)
        self.faces: list[Found] = []
        self.looked: dict[str, int] = {}
        for folder in folders:
            found, tried = photographs(detector, folder, count)
            self.faces += found
            self.looked = {kind: self.looked.get(kind, 0) + number for kind, number in tried.items()}
        self.rows = self._embed([face.frame for face in self.faces])
        self.others = self._embed(list(things(others)))
        self.kind = np.array([face.kind for face in self.faces])
        self.usable = np.array([face.usable for face in self.faces])

    def _embed(self, frames: list[NDArray[np.uint8]]) -> Floats:
        parts = [self._generator.encode(np.stack(frames[start : start + 8]))[1] for start in range(0, len(frames), 8)]
        return np.concatenate(parts).astype(float)

    def scores(self) -> tuple[Floats, Floats]:
        """Log-odds of the faces and of the other things, each by the fit to the other half."""
        half = np.array([zlib.crc32(face.photograph.encode()) % 2 for face in self.faces])
        half_of_others = np.arange(len(self.others)) % 2
        scores, scores_of_others = np.zeros(len(self.rows)), np.zeros(len(self.others))
        for one in (0, 1):
            weights, bias = self.fitted(half == one, half_of_others == one)
            scores[half != one] = self.rows[half != one] @ weights + bias
            scores_of_others[half_of_others != one] = self.others[half_of_others != one] @ weights + bias
        return scores, scores_of_others

    def fitted(self, faces: NDArray[np.bool_], others: NDArray[np.bool_]) -> tuple[Floats, float]:
        """The probe of a part of them."""
        upright = self.kind == "upright"
        return fit(self.rows[faces & upright], np.concatenate([self.rows[faces & ~upright], self.others[others]]))


def table(sample: Sample) -> None:
    """Print which share of each kind passes which floor; of turned and negative photographs, of all that were tried."""
    scores, of_others = sample.scores()
    upright, looked = sample.kind == "upright", sample.looked
    usable = upright & sample.usable
    print(f"usable: {USABLE}; {int(usable.sum())} of {looked['upright']}")
    print("| floor | usable | found upright | other things | on their heads | negatives |\n|---|---|---|---|---|---|")
    for floor in FLOORS:
        shares = [(values >= floor).mean() for values in (scores[usable], scores[upright], of_others)]
        shares += [(scores[sample.kind == kind] >= floor).sum() / max(looked[kind], 1) for kind in ("head", "negative")]
        print(f"| {floor} | " + " | ".join(f"{100 * share:.2f} %" for share in shares) + " |")
    print(f"sure, 5 % of usable are below: {np.percentile(scores[usable], 5):.1f}")


def main() -> None:
    """Measure, print, and on request write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=600, help="photographs of each folder")
    parser.add_argument("--things", type=int, default=4000, help="pictures of other things")
    parser.add_argument("--write", action="store_true", help="replace the probe of the service")
    chosen = parser.parse_args()
    sample = Sample(chosen.folders, chosen.count, chosen.things)
    table(sample)
    if chosen.write:
        weights, bias = sample.fitted(np.ones(len(sample.rows), bool), np.ones(len(sample.others), bool))
        manifest, probe = parse_manifest(Settings().models), json.loads(FILE.read_text())
        probe |= {"recognizer": manifest.files["recognizer"].sha256, "bias": round(bias, 4)}
        probe |= {"weights": [round(float(value), 4) for value in weights]}
        FILE.write_text(json.dumps(probe))


if __name__ == "__main__":
    main()
