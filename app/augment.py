"""`python -m app augment IN OUT`: look-alikes for a folder, tar or zip of photographs.

Everything is made by the service layer that the HTTP routes call, so it is the same to the byte. A run can be killed at
any time; the same command goes on where it stopped and ends with the same bytes. OUT holds

    run.json        what the run was asked for, and the model
    images/         a folder a photograph, named like it, with 0000.jpg, 0001.jpg, ...
    manifest.jsonl  a line an image: file, source, index, control, seed, similarity, in_band, id
    skipped.jsonl   a line a photograph that could not be used: source, problem, detail
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, get_args

from pydantic import ValidationError
from tqdm import tqdm

from app import logs, settings
from app.batching import ComputationFailed, DeadlineExceeded
from app.imaging import Format, NotAnImage, TooManyPixels
from app.manifest import Manifest, ModelsInvalid
from app.metrics import Metrics
from app.photographs import Photograph, Refused, SourceUnreadable, open_source
from app.runtime import ProviderUnavailable
from app.schemas import MAX_VARIANTS, VariantsParameters
from app.service import FaceNotFound, FaceTooSmall, NoFace, Service, Variant
from app.settings import Settings

DONE, SKIPPED, FAILED, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses: all photographs were used, some were skipped, the run could not begin or go on, Ctrl-C."""

IN_FLIGHT = 4
"""Photographs on their way at once, so that reading, computing and writing overlap."""

PATIENCE = 3600.0
"""Seconds that one photograph may take: nobody waits at the other end."""

SUFFIX = {"jpeg": "jpg", "webp": "webp", "png": "png"}


class BandEmpty(ValueError):
    """The search found no variant in the band."""


UNUSABLE = (
    Refused,
    NotAnImage,
    TooManyPixels,
    NoFace,
    FaceNotFound,
    FaceTooSmall,
    BandEmpty,
    ComputationFailed,
    DeadlineExceeded,
)


class CannotRun(RuntimeError):
    """The run cannot begin or go on; the message says why and what to do."""


@dataclass
class Output:
    """The folder of a run, and what earlier runs left there.

    Attributes:
        folder: OUT.
        done: names of photographs whose images and lines are complete.
        images: how many images there are of them.
    """

    folder: Path
    done: set[str] = field(default_factory=set)
    images: int = 0

    @property
    def manifest(self) -> Path:
        """Its `manifest.jsonl`."""
        return self.folder / "manifest.jsonl"

    def claim(self, asked: dict[str, Any]) -> None:
        """Make the folder this run's, or find out how far it came before.

        Raises:
            CannotRun: it holds something else.
        """
        path = self.folder / "run.json"
        text = json.dumps(asked, indent=1) + "\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            if any(other != f"{path.name}.part" for other in os.listdir(self.folder)):
                raise CannotRun(f"{self.folder} is not empty and holds no run; name a new folder")
            part = path.with_name(path.name + ".part")
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        before = _loads(path, path.read_text(encoding="utf-8"))
        if before != json.loads(text):
            changed = sorted(name for name in before | asked if before.get(name) != json.loads(text).get(name))
            raise CannotRun(f"{self.folder} holds a run with another {', '.join(changed)}; name a new folder")
        self._take_stock()

    def _take_stock(self) -> None:
        """Read the manifest, and cut off the photograph it ends with: nothing says that its lines are complete."""
        if not self.manifest.exists():
            return
        counts: dict[str, int] = {}
        last, start, place = "", 0, 0
        with self.manifest.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    source = str(_loads(self.manifest, line.decode())["source"])
                    if source != last:
                        last, start = source, place
                    counts[source] = counts.get(source, 0) + 1
                place += len(line)
        os.truncate(self.manifest, start)
        counts.pop(last, None)
        self.done, self.images = set(counts), sum(counts.values())


@dataclass
class Tally:
    """What became of the photographs of this run."""

    used: int = 0
    images: int = 0
    short: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Made:
    """What one photograph gave: its variants and their files, or why there are none."""

    name: str
    seed: int
    id: str = ""
    files: tuple[tuple[Variant, bytes], ...] = ()
    problem: Exception | None = None


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `augment` to a command line."""
    parser = commands.add_parser(
        "augment",
        help="make look-alikes for a folder, tar or zip of photographs",
        description="Make look-alikes for a folder, tar or zip of photographs. The same command goes on with a run "
        "that was stopped. Exit status: 0 every photograph was used, 1 some were skipped, 2 the run could not go on.",
    )
    parser.add_argument("source", metavar="IN", type=Path, help="folder, tar or zip of JPEG, PNG and WebP photographs")
    parser.add_argument("target", metavar="OUT", type=Path, help="folder for images/ and manifest.jsonl")
    parser.add_argument("--count", type=int, default=8, help=f"look-alikes of each, 1..{MAX_VARIANTS} (8)")
    parser.add_argument("--strength", type=float, default=1.0, help="radius of the random controls, 0..1 (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the run; each photograph's follows from its name (0)")
    parser.add_argument("--band", choices=["lookalike"], help="search inside the model's look-alike band")
    parser.add_argument("--similarity-min", type=float, help="search for look-alikes at least this similar")
    parser.add_argument("--similarity-max", type=float, help="search for look-alikes at most this similar")
    parser.add_argument("--format", choices=get_args(Format), default="jpeg", help="of the images (jpeg)")
    parser.add_argument("--quality", type=int, default=95, help="of JPEG and WebP, 1..100 (95)")
    parser.set_defaults(run=augment)


def augment(source: Path, target: Path, seed: int, **options: Any) -> int:
    """Run the command; returns the exit status."""
    try:
        chosen = Settings()
        given = {name: value for name, value in options.items() if value is not None}
        parameters = VariantsParameters.model_validate(given)
    except ValidationError as error:
        ours = error.title == Settings.__name__
        return _refuse(*(settings.sentences(error) if ours else _sentences(error)))
    logs.configure("error")
    # One run is the only client: nothing needs to be turned away, and nobody waits for an answer.
    chosen = chosen.model_copy(
        update={"deadline": PATIENCE, "queue_images": max(chosen.queue_images, IN_FLIGHT * MAX_VARIANTS)}
    )
    try:
        with open_source(source, without=target) as photographs:
            tally = asyncio.run(_run(chosen, photographs, target, parameters, seed))
    except (CannotRun, SourceUnreadable, ModelsInvalid, ProviderUnavailable) as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{error.filename or target}: {error.strerror}; the same command goes on from here")
    except KeyboardInterrupt:
        print("\nlookalike: stopped; the same command goes on from here.", file=sys.stderr)
        return INTERRUPTED
    print(
        f"{tally.used} photographs used, {tally.images} images in {target / 'images'}, {tally.skipped} skipped"
        + (f"; {tally.short} photographs gave fewer than {parameters.images} in the band" if tally.short else "")
        + (f"; see {target / 'skipped.jsonl'}" if tally.skipped else "")
    )
    return SKIPPED if tally.skipped else DONE


def seed_of(seed: int, name: str) -> int:
    """The 32-bit seed of a photograph: it follows from the run's seed and the name, not from order or number."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()[:4])


async def make(service: Service, name: str, photo: bytes, parameters: VariantsParameters, seed: int) -> Made:
    """The look-alikes of one photograph.

    Args:
        service: started.
        name: of the photograph.
        photo: its bytes.
        parameters: what is asked for each; their own seed does not count.
        seed: of the run.
    """
    own = seed_of(seed, name)
    try:
        async with service.variants(photo, parameters.model_copy(update={"seed": own})) as variants:
            files = [pair async for batch in variants.files() for pair in batch]
        if not files:
            raise BandEmpty("No variant was found inside the band.")
        return Made(name, own, variants.id, tuple(files))
    except UNUSABLE as error:
        return Made(name, own, problem=error)


async def _run(
    chosen: Settings, photographs: list[Photograph], target: Path, parameters: VariantsParameters, seed: int
) -> Tally:
    service = Service(chosen, Metrics())
    try:
        await service.start()
        output = Output(target)
        output.claim(_asked(parameters, seed, chosen, service.engine.manifest))
        tally = Tally(used=len(output.done), images=output.images)
        with (
            output.manifest.open("a", encoding="utf-8") as manifest,
            (target / "skipped.jsonl").open("w", encoding="utf-8") as skipped,
            tqdm(total=len(photographs), initial=len(output.done), unit=" photographs", disable=None) as bar,
        ):
            tasks: deque[asyncio.Task[Made]] = deque()

            async def take_one() -> None:
                made = await tasks.popleft()
                await asyncio.to_thread(_write, target, made, parameters, manifest, skipped, tally)
                if made.problem:
                    bar.write(f"lookalike: skipped {made.name or 'the rest'}: {made.problem}", file=sys.stderr)
                bar.update()

            for photograph in photographs:
                if not photograph.refusal and photograph.name in output.done:
                    continue
                # An archive is read by one at a time, in its order.
                photo = await asyncio.to_thread(_read, photograph, chosen.max_bytes)
                if isinstance(photo, Refused):
                    work = _refused(photograph.name, photo, seed)
                else:
                    work = make(service, photograph.name, photo, parameters, seed)
                tasks.append(asyncio.create_task(work))
                if len(tasks) == IN_FLIGHT:
                    await take_one()
            while tasks:
                await take_one()
        return tally
    finally:
        await service.close()


def _read(photograph: Photograph, max_bytes: int) -> bytes | Refused:
    try:
        return photograph.read(max_bytes)
    except Refused as error:
        return error


async def _refused(name: str, problem: Refused, seed: int) -> Made:
    return Made(name, seed_of(seed, name), problem=problem)


def _write(
    target: Path, made: Made, parameters: VariantsParameters, manifest: IO[str], skipped: IO[str], tally: Tally
) -> None:
    """Write images first and their lines after, so that what the manifest names is there."""
    if made.problem:
        tally.skipped += 1
        slug = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(made.problem).__name__).lower()
        skipped.write(json.dumps({"source": made.name, "problem": slug, "detail": str(made.problem)}) + "\n")
        skipped.flush()
        return
    place = Path("images", *made.name.split("/"))
    (target / place).mkdir(parents=True, exist_ok=True)
    lines = []
    for variant, data in made.files:
        file = place / f"{variant.index:04d}.{SUFFIX[parameters.format]}"
        (target / file).write_bytes(data)
        line = {
            "file": file.as_posix(),
            "source": made.name,
            "index": variant.index,
            "control": variant.control,
            "seed": made.seed,
            "similarity": variant.similarity,
            "in_band": variant.in_band,
            "id": made.id,
        }
        lines.append(json.dumps(line) + "\n")
    manifest.write("".join(lines))
    manifest.flush()
    tally.used += 1
    tally.images += len(lines)
    tally.short += len(lines) < parameters.images


def _asked(parameters: VariantsParameters, seed: int, chosen: Settings, manifest: Manifest) -> dict[str, Any]:
    """Everything that the bytes of a run follow from, besides the photographs."""
    return {
        **parameters.model_dump(mode="json", exclude={"seed", "controls"}),
        "seed": seed,
        "mark": chosen.mark,
        "search_rounds": chosen.search_rounds,
        "min_eye_distance": chosen.min_eye_distance,
        "model": {"name": manifest.name, "version": manifest.version},
        "networks": {role: network.sha256 for role, network in sorted(manifest.files.items())},
    }


def _loads(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CannotRun(f"{path}: damaged; name a new folder")
    return value


def _sentences(error: ValidationError) -> list[str]:
    """What is wrong with the options, a sentence each."""
    return [
        (f"--{str(item['loc'][0]).replace('_', '-')}: " if item["loc"] else "")
        + item["msg"].removeprefix("Value error, ").rstrip(".")
        for item in error.errors(include_url=False, include_input=False)
    ]


def _refuse(*sentences: str) -> int:
    for sentence in sentences:
        print(f"lookalike: {sentence.rstrip('.')}.", file=sys.stderr)
    return FAILED
