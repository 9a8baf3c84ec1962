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
from app.batch.output import Output
from app.batch.run import fill
from app.core.parameters import VariantsParameters
from app.settings import Settings


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
