"""`python -m app augment IN OUT`: look-alikes for a folder, tar or zip of photographs.

Everything is made by the service layer that the HTTP routes call, so it is the same to the byte, here or on a cluster.
A run can be killed at any time; the same command goes on where it stopped and ends with the same bytes. OUT holds

    run.json        what the run was asked for, and the model
    images/         a folder a person, with PHOTOGRAPH-0000.jpg, ..., and metadata.jsonl; see `app.batch.layout`
    manifest.jsonl  a line an image: file, label, source, index, control, seed, similarity, in_band, id
    skipped.jsonl   a line a photograph that could not be used: source, problem, detail
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from tqdm import tqdm

from app import settings
from app.batch.archives import Photograph, open_source
from app.batch.job import IN_FLIGHT, Job, Made, make, read, still_to_do
from app.batch.layout import Kind, Labels, Layout
from app.batch.output import Output, Tally
from app.batch.run import Engine, fill
from app.core import formats
from app.core.controls import numbered
from app.core.images import Format
from app.core.parameters import MAX_VARIANTS, VariantsParameters
from app.core.sizes import sized
from app.errors import CannotRun, CannotStart, ModelsInvalid, UnknownControl, UnknownSize
from app.runtime.manifest import parse_manifest
from app.settings import Settings
from app.telemetry import logs
from app.telemetry.terminal import printable, refuse

DONE, SKIPPED, FAILED, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses: all photographs were used, some were skipped, the run could not begin or go on, Ctrl-C."""


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `augment` to a command line."""
    parser = commands.add_parser(
        "augment",
        help="make look-alikes for a folder, tar or zip of photographs",
        description="Make look-alikes for a folder, tar or zip of photographs. The same command goes on with a run "
        "that was stopped. Exit status: 0 every photograph was used, 1 some were skipped, 2 the run could not go on.",
    )
    parser.add_argument(
        "source", metavar="IN", type=Path, help=f"folder, tar or zip of photographs ({formats.names()})"
    )
    parser.add_argument("target", metavar="OUT", type=Path, help="folder for images/ and manifest.jsonl")
    parser.add_argument("--count", type=int, help=f"look-alikes of each, 1..{MAX_VARIANTS} (8)")
    parser.add_argument("--strength", type=float, help="radius of the random controls, 0..1 (1)")
    parser.add_argument(
        "--controls",
        metavar="JSON",
        help="the controls themselves instead of --count: a list of lists of numbers in -1..1, or of numbers by name "
        """like '[{"age": 0.5}, {"age": -0.5}]', the rest 0; '{"age": 0.5}' with --count: the rest at random""",
    )
    parser.add_argument("--face", help="which face of a photograph: largest, or 0, 1, ..., largest first (largest)")
    parser.add_argument("--seed", type=int, default=0, help="of the run; each photograph's follows from its name (0)")
    parser.add_argument("--band", choices=["lookalike"], help="search inside the model's look-alike band")
    parser.add_argument("--similarity-min", type=float, help="search for look-alikes at least this similar")
    parser.add_argument("--similarity-max", type=float, help="search for look-alikes at most this similar")
    parser.add_argument(
        "--layout",
        choices=get_args(Kind),
        default="person",
        help="a folder a person, one folder for all, or tar files for webdataset (person)",
    )
    parser.add_argument(
        "--labels",
        choices=get_args(Labels),
        default="same-person",
        help="whom a look-alike is labelled as: the person of its photograph, or a new one (same-person)",
    )
    parser.add_argument("--format", choices=get_args(Format), default="jpeg", help="of the images (jpeg)")
    parser.add_argument("--quality", type=int, default=95, help="of JPEG and WebP, 1..100 (95)")
    parser.add_argument("--size", type=int, help="side of the images in pixels (as they are drawn)")
    parser.add_argument(
        "--engine", choices=["local", "ray"], default="local", help="this machine, or a Ray cluster (local)"
    )
    parser.add_argument(
        "--ray-address",
        metavar="HOST:PORT",
        help="of the cluster; without it RAY_ADDRESS or one that runs here, else Ray starts here",
    )
    parser.add_argument(
        "--ray-replicas", metavar="N", type=int, help="copies of the service; without it one a GPU, or one a core"
    )
    parser.add_argument("--json", action="store_true", dest="as_json", help="print what came of it as JSON")
    parser.set_defaults(run=augment)


def augment(
    source: Path,
    target: Path,
    engine: str,
    ray_address: str | None,
    ray_replicas: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Run the command; returns the exit status."""
    try:
        job = _job(**options)
    except ValidationError as error:
        ours = error.title == Settings.__name__
        return _refuse(*(settings.sentences(error) if ours else _sentences(error)))
    except UnknownControl as error:
        return _refuse(f"--controls: {error}")
    except UnknownSize as error:
        return _refuse(f"--size: {error}")
    except ModelsInvalid as error:
        return _refuse(str(error))
    logs.configure("error")
    source = source.absolute()  # it may be read by a process that runs in another folder
    try:
        with open_source(source, without=target) as photographs:
            if engine == "ray":
                opened = _on_ray(job, source, target, ray_address, ray_replicas)
            elif ray_address or ray_replicas:
                raise CannotRun("--ray-address and --ray-replicas go with --engine ray")
            else:
                opened = here(job)
            tally = asyncio.run(_run(job, opened, photographs, target))
    except CannotStart as error:
        return _refuse(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        return _refuse(f"{error.filename or target}: {error.strerror}; the same command goes on from here")
    except KeyboardInterrupt:
        print("\nlookalike: stopped; the same command goes on from here.", file=sys.stderr)
        return INTERRUPTED
    print(json.dumps(asdict(tally)) if as_json else printable(_summary(tally, job, target)))
    return SKIPPED if tally.skipped else DONE


def _job(seed: int, layout: Kind, labels: Labels, **options: Any) -> Job:
    """What the options ask for.

    Raises:
        ValidationError: an option or a setting cannot be.
        ModelsInvalid: the models have no manifest that can be read.
        UnknownControl, UnknownSize: they have no such control, or no such pictures.
    """
    chosen = Settings()
    given = {name: value for name, value in options.items() if value is not None}
    parameters = VariantsParameters.model_validate(given)
    if parameters.controls is not None or parameters.size is not None:
        manifest = parse_manifest(chosen.models)
        parameters = numbered(sized(parameters, manifest.picture_sizes), manifest.control_names)
    return Job(chosen, parameters, seed, Layout(layout, labels, parameters.listed))


def _summary(tally: Tally, job: Job, target: Path) -> str:
    place = target / ("shards" if job.layout.kind == "webdataset" else "images")
    return (
        f"{tally.used} photographs used, {tally.images} images in {place}, {tally.skipped} skipped"
        + (f"; {tally.short} photographs gave fewer than {job.parameters.images} in the band" if tally.short else "")
        + (f"; see {target / 'skipped.jsonl'}" if tally.skipped else "")
    )


@asynccontextmanager
async def here(job: Job) -> AsyncIterator[Engine]:
    """This machine as an engine."""
    service = job.service(IN_FLIGHT)

    async def made(photographs: list[Photograph], done: set[str]) -> AsyncGenerator[Made]:
        tasks: deque[asyncio.Task[Made]] = deque()
        for photograph in still_to_do(photographs, done):
            # An archive is read by one at a time, in its order.
            photo = await asyncio.to_thread(read, photograph, job.settings.max_bytes)
            tasks.append(asyncio.create_task(make(service, photograph.name, photo, job)))
            if len(tasks) == IN_FLIGHT:
                yield await tasks.popleft()
        while tasks:
            yield await tasks.popleft()

    try:
        await service.start()
        yield service.engine.manifest, made
    finally:
        await service.close()


async def _run(
    job: Job, opened: AbstractAsyncContextManager[Engine], photographs: list[Photograph], target: Path
) -> Tally:
    output = Output(target, job.layout)
    with output.locked():
        async with opened as engine:
            with tqdm(total=len(photographs), unit=" photographs", disable=None) as bar:

                def told(made: Made) -> None:
                    if made.problem:
                        what = printable(f"lookalike: skipped {made.name or 'the rest'}: {made.detail}")
                        bar.write(what, file=sys.stderr)
                    bar.update()

                return await fill(job, engine, photographs, output, told)


def _on_ray(
    job: Job, source: Path, target: Path, address: str | None, replicas: int | None
) -> AbstractAsyncContextManager[Engine]:
    try:
        from app.batch import ray  # Ray is an extra, and takes a second to import
    except ImportError as error:
        raise CannotRun(f"--engine ray needs Ray ({error}): pip install 'lookalike[ray]'") from error
    return ray.cluster(job, source, target, address, replicas)


def _sentences(error: ValidationError) -> list[str]:
    """What is wrong with the options, a sentence each."""
    return [
        (f"--{str(item['loc'][0]).replace('_', '-')}: " if item["loc"] else "")
        + item["msg"].removeprefix("Value error, ").rstrip(".")
        for item in error.errors(include_url=False, include_input=False)
    ]


def _refuse(*sentences: str) -> int:
    refuse(*sentences)
    return FAILED
