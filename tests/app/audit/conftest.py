from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.__main__ import main
from app.audit import command
from app.audit.cache import Cache
from app.audit.collection import Collection, Studio
from app.audit.recognisers import Recogniser
from app.batch.archives import open_source
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from app.settings import Settings

PEOPLE, EACH, LOOK_ALIKES = 10, 3, 3


@pytest.fixture(scope="session")
def studio() -> Studio:
    return Studio(Settings(device="cpu", threads=1))


@pytest.fixture(scope="session")
def people(studio: Studio, landscape: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn people, three pictures each; one has a single picture, and one file shows no face."""
    folder = tmp_path_factory.mktemp("people")
    random = np.random.default_rng(3)
    for person in range(PEOPLE):
        identity = random.standard_normal((1, IDENTITY_SIZE)).astype(np.float32)
        controls = random.uniform(-0.4, 0.4, (EACH, CONTROL_SIZE)).astype(np.float32)
        images, _ = studio.draw(np.repeat(identity, EACH, 0), controls)
        (folder / f"p{person:02}").mkdir()
        for index, image in enumerate(images[: 1 if person == 0 else EACH]):
            Image.fromarray(image).save(folder / f"p{person:02}" / f"{index}.png")
    (folder / "p01" / "rocket.jpg").write_bytes(landscape)
    (folder / "labels.csv").write_text("person,kind\n" + "".join(f"p{n:02},{'ab'[n % 2]}\n" for n in range(PEOPLE)))
    return folder


@pytest.fixture(scope="session")
def known(people: Path, studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a report on those people was begun in: faces are found, nobody is recognised yet."""
    folder = tmp_path_factory.mktemp("known")
    nobody = Recogniser("nobody", "nobody", "frame")
    with open_source(people) as photographs, Cache(folder) as cache:
        collection = Collection(photographs, studio, nobody, cache)
        items = collection.gather(lambda _: None)
        first = list({item.person: item for item in reversed(items)}.values())
        collection.look_alikes(first, LOOK_ALIKES, 0, lambda _: None)
    return folder


@pytest.fixture
def report(
    people: Path, known: Path, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Runs the command on those people, into OUT of a folder of its own, with modules looked for in it."""
    monkeypatch.setattr(command, "Studio", lambda _: studio)  # seconds to load
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LOOKALIKE_DEVICE", "cpu")
    monkeypatch.setenv("LOOKALIKE_THREADS", "1")

    def run(*options: str, source: Path = people) -> int:
        quick = ["--look-alikes", str(LOOK_ALIKES), "--resamples", "20"]
        if source == people and not (tmp_path / "OUT").exists():
            shutil.copytree(known, tmp_path / "OUT")
        return main(["report", str(source), str(tmp_path / "OUT"), *quick, *options])

    return run
