"""A run over photographs, whoever makes the look-alikes, and whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing
from typing import Any, TypeVar

from app.batch.archives import Photograph
from app.batch.job import SUFFIX, Job, Made, changed
from app.batch.output import Output, Tally, Writer
from app.runtime.manifest import Manifest

T = TypeVar("T")
Engine = tuple[Manifest, Callable[[list[Photograph], set[str]], AsyncGenerator[Made]]]
"""The models in use, and what makes of the photographs that are not done what each gives, in their order."""

CHANGED = "It has changed since its look-alikes were made, and a shard cannot be amended. Name a new folder."
GONE = "It is not there any more, and its look-alikes still are. For a data set without them name a new folder."


async def fill(
    job: Job, engine: Engine, photographs: list[Photograph], output: Output, told: Callable[[Made], None]
) -> Tally:
    """Make what is still missing of a data set; returns what became of all photographs.

    Args:
        job: what is asked of each.
        engine: who makes it.
        photographs: all that there are.
        output: where it goes; its lock is held.
        told: called with what each gave, also where that is nothing.

    Raises:
        CannotRun: the folder holds something else, or cannot be gone on with.
    """
    manifest, made_by = engine
    # What lasts goes on with other models too; each line says which.
    await _to_the_end(output.claim, job.asked(None if output.lasting else manifest))
    unused: list[Made] = []
    if not output.lasting:
        others = await asyncio.to_thread(lambda: list(changed(photographs, output.done, job.settings.max_bytes)))
        gone = sorted(output.done.keys() - {photograph.name for photograph in photographs})
        unused += [Made(name, problem="gone", detail=GONE) for name in gone]
        if job.layout.kind == "webdataset":
            unused += [Made(name, problem="changed", detail=CHANGED) for name in others]
        else:
            await _to_the_end(output.forget, others)
    try:
        with ExitStack() as stack:
            # In a thread, as the rest: all lines of a large data set, and its shards, are read.
            opened = output.opened(job.parameters.images, SUFFIX[job.parameters.format])
            writer: Writer = await _to_the_end(stack.enter_context, opened)
            for made in unused:
                writer.skip(made)
                told(made)
            async with aclosing(made_by(photographs, output.passed | set(output.done))) as results:
                async for made in results:
                    await _to_the_end(writer.write, made)
                    told(made)
            return writer.tally
    finally:
        await _to_the_end(output.describe)


async def _to_the_end(work: Callable[..., T], *given: Any) -> T:
    """Do something in a thread; a run that is cancelled meanwhile ends after it.

    Else the thread would still write into the folder when its lock is free, and another process at work in it.
    """
    task = asyncio.create_task(asyncio.to_thread(work, *given))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
