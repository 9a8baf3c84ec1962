"""A run, beside a service that answers meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from app.batch.archives import Photograph
from app.batch.job import Job, Made
from app.batch.layout import Layout
from app.batch.output import Output, Writer
from app.batch.run import fill
from app.core.parameters import VariantsParameters
from app.settings import Settings
from tests.patience import PATIENCE


def test_whole_manifests_are_read_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    for name in ("_rows", "describe", "claim"):
        genuine = getattr(Output, name)

        def noted(self: Output, *given: Any, genuine: Any = genuine) -> Any:
            threads.append(threading.current_thread())
            return genuine(self, *given)

        monkeypatch.setattr(Output, name, noted)

    async def made(photographs: list[Photograph], done: set[str]) -> AsyncGenerator[Made]:
        for photograph in photographs:
            yield Made(photograph.name, problem="refused", detail=str(done))

    layout = Layout("webdataset")
    job = Job(Settings(), VariantsParameters(), 0, layout)
    output = Output(tmp_path / "out", layout, lasting=True)
    output.folder.mkdir()
    photographs = [Photograph("a.jpg", 0, lambda: None)]
    engine: Any = (None, made)
    tally = asyncio.run(fill(job, engine, photographs, output, lambda _: None))
    assert tally.skipped == 1
    assert len(threads) == 3
    assert threading.main_thread() not in threads


def test_a_run_that_is_cancelled_lets_go_of_its_folder_after_what_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, told_to_end = threading.Event(), threading.Event()
    genuine = Writer.write

    def write(self: Writer, made: Made) -> None:
        begun.set()
        assert told_to_end.wait(PATIENCE)
        genuine(self, made)

    monkeypatch.setattr(Writer, "write", write)

    async def made(photographs: list[Photograph], _: set[str]) -> AsyncGenerator[Made]:
        for photograph in photographs:
            yield Made(photograph.name, problem="refused", detail="why")

    output = Output(tmp_path / "out", lasting=True)
    output.folder.mkdir()
    job = Job(Settings(), VariantsParameters(), 0)
    engine: Any = (None, made)

    async def cancelled() -> None:
        run = asyncio.create_task(
            fill(job, engine, [Photograph("a.jpg", 0, lambda: None)], output, lambda _: pytest.fail("it ended before"))
        )
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        run.cancel()
        # All that the loop has to do before it would have nothing left but what is being written.
        for _ in range(20):
            await asyncio.to_thread(int)
        assert not run.done()
        told_to_end.set()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(cancelled())
    assert '"a.jpg"' in output.skipped.read_text()
