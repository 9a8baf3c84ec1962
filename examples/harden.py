"""From a few photographs to a face verifier that was hardened against look-alikes, with figures before and after.

    python examples/harden.py photographs verifier.npz      # a folder for each person, a photograph or more in it
    python examples/harden.py verifier.npz --stand-ins 5    # no photographs at hand: people that the service draws

A verifier says whether a photograph shows the person that somebody claims to be. This one enrols each person with
look-alikes beside the photographs. Its score is the similarity to the person less a share of the similarity to the
person's look-alikes, and its threshold is set on look-alikes that the gallery does not hold. A third lot of them tells
what came of it.

Everything is asked of a running service. To harden a recogniser of your own, let `Service.embed` call that one.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from app.core.faces import EMBEDDING_SIZE, FRAME_SIZE, Bytes, Face, Floats, align
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE

PICTURES = {".jpg", ".jpeg", ".png", ".webp"}
LIMITS = """\
The look-alikes come from one generator; those of another, or real ones, may fare otherwise. Where the redrawn person is
let in less often than by the threshold alone, part of the gain is that drawings are told from photographs."""
STAND_INS = """
The people are drawn by the generator: these figures show that the tool works, and say nothing about people."""
ROWS = 64
"""Faces that the service embeds in one request, and variants that it makes in one."""


class Unusable(Exception):
    """A photograph cannot be used; the message says why."""


class Service:
    """The parts of the service that enrolment needs.

    Args:
        address: like `http://127.0.0.1:8000`.
        key: an API key, where the service wants one.
    """

    def __init__(self, address: str, key: str = "") -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=address, headers=headers, timeout=120)

    def thresholds(self) -> dict[str, float]:
        """Similarities at which the recogniser takes two people for one, at stated rates."""
        return dict(self._json("GET", "/v1/model")["thresholds"])

    def face(self, photograph: bytes) -> Bytes:
        """The largest face of a photograph, brought into the face frame: [128, 128, 3].

        Raises:
            Unusable: the service finds no face that is large enough.
        """
        (found,) = self._json("POST", "/v1/identities", files={"image": photograph})["faces"]
        points = np.array(list(found["landmarks"].values()))
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(photograph))).convert("RGB")
        return align(upright, Face(tuple(found["box"]), points, found["detection_score"]))

    def look_alikes(self, photograph: bytes, count: int, seed: int) -> Bytes:
        """Variants of a photographed face under random controls [count, 128, 128, 3].

        No band is asked for: variants that were chosen above the recogniser's threshold would all be let in before, by
        construction.
        """
        parameters = {"count": count, "seed": seed, "format": "png"}
        answer = self._json("POST", "/v1/variants", params=parameters, files={"image": photograph})
        return _pictures(answer["variants"])

    def redrawing(self, photograph: bytes) -> Bytes:
        """The face as the generator redraws it most faithfully: all controls at 0 [1, 128, 128, 3]."""
        parameters = {"controls": json.dumps([[0] * CONTROL_SIZE]), "format": "png"}
        answer = self._json("POST", "/v1/variants", params=parameters, files={"image": photograph})
        return _pictures(answer["variants"])

    def render(self, identity: Sequence[float], controls: Sequence[Sequence[float]]) -> list[Image.Image]:
        """An identity under control vectors."""
        body = {"identity": list(identity), "controls": [list(control) for control in controls], "format": "png"}
        return [Image.fromarray(face) for face in _pictures(self._json("POST", "/v1/render", json=body)["variants"])]

    def embed(self, faces: Bytes) -> Floats:
        """Unit vectors [n, 192] of faces [n, 128, 128, 3], by the service's recogniser."""
        parts = [self._embed(faces[start : start + ROWS]) for start in range(0, len(faces), ROWS)]
        return np.concatenate(parts) if parts else np.empty((0, EMBEDDING_SIZE), np.float32)

    def _embed(self, faces: Bytes) -> Floats:
        # Open Inference Protocol: JSON, and after it the raw bytes of the tensors.
        tensor = {"name": "image", "datatype": "UINT8", "shape": faces.shape, "parameters": {}}
        tensor["parameters"] = {"binary_data_size": faces.nbytes}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        length = "Inference-Header-Content-Length"
        answer = self._client.post(
            "/v2/models/recognizer/infer",
            content=head + faces.tobytes(),
            headers={length: str(len(head)), "Content-Type": "application/octet-stream"},
        )
        answer.raise_for_status()
        vectors = answer.content[int(answer.headers[length]) :]
        return np.frombuffer(vectors, "<f4").reshape(len(faces), -1)

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer = self._client.request(method, path, **request)
        if answer.status_code in (400, 413, 422):
            problem = answer.json()
            raise Unusable(f"{problem['title']}: {problem['detail']}")
        answer.raise_for_status()
        content: dict[str, Any] = answer.json()
        return content


def _pictures(variants: Sequence[dict[str, Any]]) -> Bytes:
    pictures = [Image.open(io.BytesIO(base64.b64decode(variant["image"]))) for variant in variants]
    return np.array([np.asarray(picture) for picture in pictures], np.uint8).reshape(-1, FRAME_SIZE, FRAME_SIZE, 3)


@dataclass
class Person:
    """What is known of one person, as unit vectors [n, 192] of the recogniser.

    Attributes:
        name: the name of the folder.
        enrolled: photographs in the gallery.
        probes: photographs that are kept back, to measure how often the person is refused.
        look_alikes: three lots: for the gallery, to set the threshold, to measure.
        redrawn: faithful redrawings, to find out whether the verifier only tells drawings from photographs.
    """

    name: str
    enrolled: Floats
    probes: Floats
    look_alikes: tuple[Floats, Floats, Floats]
    redrawn: Floats


def enrol(service: Service, name: str, photographs: Sequence[bytes], look_alikes: int, seed: int) -> Person:
    """Enrol a person: half of the photographs, the larger one, goes into the gallery, the others are kept back.

    Raises:
        Unusable: there is a photograph in which no face is found.
    """
    faces = np.stack([service.face(photograph) for photograph in photographs])
    vectors = service.embed(faces)
    enrolled = math.ceil(len(photographs) / 2)
    made = service.embed(service.look_alikes(photographs[0], look_alikes, seed))
    lots = made[0::3], made[1::3], made[2::3]
    return Person(name, vectors[:enrolled], vectors[enrolled:], lots, service.embed(service.redrawing(photographs[0])))


@dataclass
class Verifier:
    """A gallery and a rule; save it where you keep biometric templates, for that is what it holds.

    Attributes:
        names: of the people.
        people: mean of each one's enrolled photographs [n, 192], unit vectors.
        look_alikes: mean of each one's look-alikes [n, 192], not scaled.
        weight: share of the similarity to the look-alikes that is taken off.
        threshold: least score.
        least: least similarity to the person, whatever the score: the recogniser's own threshold.
    """

    names: list[str]
    people: Floats
    look_alikes: Floats
    weight: float
    threshold: float
    least: float

    def score(self, name: str, vectors: Floats) -> NDArray[np.float64]:
        """How much faces [n, 192] look like a person and unlike the person's look-alikes."""
        row = self.names.index(name)
        similarity = vectors.astype(float) @ self.people[row]
        score = similarity - self.weight * (vectors.astype(float) @ self.look_alikes[row])
        return np.where(similarity >= self.least, score, -np.inf)

    def accepts(self, name: str, vectors: Floats) -> NDArray[np.bool_]:
        """Whether faces [n, 192] are let in as a person."""
        return self.score(name, vectors) >= self.threshold

    def save(self, path: Path) -> None:
        """Write it to a file."""
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Verifier:
        """Read it from a file."""
        with np.load(path) as saved:
            numbers = {name: float(saved[name]) for name in ("weight", "threshold", "least")}
            return cls(saved["names"].tolist(), saved["people"], saved["look_alikes"], **numbers)


def unhardened(people: Sequence[Person], threshold: float) -> Verifier:
    """The verifier as it is bought: similarity to the enrolled photographs, and the recogniser's threshold."""
    centres = np.stack([person.enrolled.mean(0) for person in people])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return Verifier([person.name for person in people], centres, np.zeros_like(centres), 0.0, threshold, threshold)


def harden(before: Verifier, people: Sequence[Person], weight: float, rate: float) -> Verifier:
    """Add look-alikes to the gallery, and set the threshold so that at most a share of others is let in.

    Args:
        before: the verifier as it is bought.
        people: its people.
        weight: of the look-alikes in the score; 0 only sets the threshold.
        rate: share of the second lot of look-alikes that may be accepted, 0..1; below one in all of them it is none.
    """
    gallery = np.stack([person.look_alikes[0].mean(0) for person in people])
    after = Verifier(before.names, before.people, gallery, weight, -np.inf, before.least)
    scores = np.concatenate([after.score(person.name, person.look_alikes[1]) for person in people])
    after.threshold = lowest_threshold(scores, rate)
    return after


def lowest_threshold(scores: NDArray[np.float64], rate: float) -> float:
    """The lowest threshold that at most a share `rate` of the scores reaches."""
    descending = np.sort(scores)[::-1]
    first_refused = descending[min(int(rate * len(scores)), len(scores) - 1)]
    return float(np.nextafter(first_refused, np.inf))


def interval(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    z = 1.96
    centre = (hits + z * z / 2) / (trials + z * z)
    half = z / (trials + z * z) * math.sqrt(hits * (trials - hits) / trials + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def accepted(verifier: Verifier, people: Sequence[Person]) -> dict[str, tuple[int, int]]:
    """How many of each kind of probe a verifier lets in, and of how many."""
    lots = {
        "look-alikes it never saw": [(person.name, person.look_alikes[2]) for person in people],
        "other people of the gallery": [
            (one.name, np.concatenate([other.enrolled, other.probes]))
            for one, other in itertools.permutations(people, 2)
        ],
        "the person, another photograph": [(person.name, person.probes) for person in people],
        "the person, redrawn": [(person.name, person.redrawn) for person in people],
    }
    return {
        kind: (
            sum(int(verifier.accepts(name, vectors).sum()) for name, vectors in lot),
            sum(len(vectors) for _, vectors in lot),
        )
        for kind, lot in lots.items()
    }


def report(verifiers: dict[str, Verifier], people: Sequence[Person]) -> str:
    """A Markdown table: the share of each kind of probe that each verifier lets in, with 95 % intervals."""
    columns = {title: accepted(verifier, people) for title, verifier in verifiers.items()}
    lines = ["| let in | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for kind in next(iter(columns.values())):
        cells = []
        for column in columns.values():
            hits, trials = column[kind]
            if trials:
                low, high = interval(hits, trials)
                cells.append(f"{hits} of {trials}: {hits / trials:.1%} [{low:.1%}, {high:.1%}]")
            else:
                cells.append("none to measure")
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def read_people(folder: Path) -> Iterator[tuple[str, list[bytes]]]:
    """Names and photographs: a sub-folder is a person, and so is a photograph that lies beside them."""
    for entry in sorted(folder.iterdir()):
        files = sorted(entry.iterdir()) if entry.is_dir() else [entry]
        photographs = [file.read_bytes() for file in files if file.suffix.lower() in PICTURES]
        if photographs:
            yield entry.stem if entry.is_file() else entry.name, photographs


def draw_people(service: Service, count: int, seed: int) -> Iterator[tuple[str, list[bytes]]]:
    """Stand-ins for photographs: two pictures each of people that do not exist, in different light.

    Not every random identity becomes a face in which the detector finds one, so more are drawn than are needed.
    """
    random = np.random.default_rng(seed)
    found = 0
    for _ in range(10 * count):
        identity = random.standard_normal(IDENTITY_SIZE).tolist()
        pictures = service.render(identity, [[0.0] * CONTROL_SIZE, random.uniform(-0.3, 0.3, CONTROL_SIZE).tolist()])
        photographs = []
        for picture, light in zip(pictures, (1.0, 0.8), strict=True):
            file = io.BytesIO()
            ImageEnhance.Brightness(picture.resize((320, 320))).enhance(light).save(file, "JPEG", quality=90)
            photographs.append(file.getvalue())
        try:
            for photograph in photographs:
                service.face(photograph)
        except Unusable:
            continue
        yield f"stand-in {found}", photographs
        found += 1
        if found == count:
            return


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("photographs", nargs="?", type=Path, help="folder: a sub-folder or a photograph is a person")
    parser.add_argument("out", type=Path, help="file to write the verifier to, .npz")
    parser.add_argument("--stand-ins", type=int, default=0, metavar="N", help="draw N people instead of photographs")
    parser.add_argument("--fmr", type=float, default=0.01, help="share of look-alikes to let in (default 0.01)")
    parser.add_argument("--look-alikes", type=int, default=60, metavar="N", help="a person, 6 to 64 (default 60)")
    parser.add_argument("--weight", type=float, default=0.5, help="of the look-alikes in the score (default 0.5)")
    parser.add_argument("--service", default="http://127.0.0.1:8000", help="address of the service")
    parser.add_argument("--key", default="", help="API key, where the service wants one")
    parser.add_argument("--seed", type=int, default=0, help="same photographs and seed, same figures")
    chosen = parser.parse_args(arguments)
    if (chosen.photographs is None) == (chosen.stand_ins == 0):
        parser.error("name a folder of photographs, or use --stand-ins N")
    if not 6 <= chosen.look_alikes <= ROWS:
        parser.error(f"--look-alikes goes from 6 to {ROWS}")
    if not 0 <= chosen.fmr < 1:
        parser.error("--fmr goes from 0 to below 1")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Enrol, harden, measure; returns the exit status."""
    chosen = parse(arguments)
    service = Service(chosen.service, chosen.key)
    if chosen.stand_ins:
        source = draw_people(service, chosen.stand_ins, chosen.seed)
    else:
        source = read_people(chosen.photographs)
    people = []
    for number, (name, photographs) in enumerate(source):
        try:
            people.append(enrol(service, name, photographs, chosen.look_alikes, chosen.seed + number))
        except Unusable as error:
            print(f"{name} is left out. {error}", file=sys.stderr)
    if len(people) < 2:
        print("At least two people are needed.", file=sys.stderr)
        return 1

    before = unhardened(people, service.thresholds()["fmr_1e-3"])
    after = harden(before, people, chosen.weight, chosen.fmr)
    verifiers = {
        "before": before,
        "threshold alone": harden(before, people, 0.0, chosen.fmr),
        "look-alikes enrolled": after,
    }
    lot = sum(len(person.look_alikes[1]) for person in people)
    print(f"{len(people)} people. Threshold as bought: {before.threshold:.3f}. The others were set so that at most")
    print(f"{int(chosen.fmr * lot)} of {lot} look-alikes are let in; {chosen.fmr:.2%} were asked for.\n")
    print(report(verifiers, people))
    print(STAND_INS if chosen.stand_ins else "", LIMITS, sep="\n")
    after.save(chosen.out)
    print(f"\n{chosen.out}: the verifier. It holds biometric templates; keep it as such.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
