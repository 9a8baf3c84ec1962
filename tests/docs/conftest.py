"""What a reader of the documents is supposed to have: photographs. All but one are of people who do not exist."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from app.runtime.sessions import Network
from tests.docs.documents import Reader
from tests.docs.services import ROOT, Service, clone

PEOPLE = 64
"""Evaluation wants ten that are held out, and a fifth of those that pass the filters of `prepare` is."""
ENROLLED = (0, 1, 2)


@pytest.fixture(scope="session")
def strangers() -> list[Image.Image]:
    """Portraits of people that the generator made up, with room around the face as a photograph has it."""
    random = np.random.default_rng(0)
    identity = random.standard_normal((PEOPLE, IDENTITY_SIZE), np.float32)
    decode = Network(ROOT / "app" / "models" / "decoder.onnx", "cpu", threads=1)
    still = np.zeros((8, CONTROL_SIZE), np.float32)
    faces = np.concatenate([decode(identity[start : start + 8], still)[0] for start in range(0, PEOPLE, 8)])
    roomy = np.pad(faces, ((0, 0), (24, 24), (24, 24), (0, 0)), mode="edge")
    return [Image.fromarray(face).resize((400, 400), Image.Resampling.BICUBIC) for face in roomy]


@pytest.fixture(scope="session")
def brought(strangers: list[Image.Image], portrait: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `face.jpg` and `other.jpg`, a folder a person in `photographs`, and `faces` to train on."""
    here = tmp_path_factory.mktemp("brought")
    portrait.save(here / "face.jpg", quality=95)
    portrait.resize((400, 400)).save(here / "other.jpg", quality=80)
    (here / "faces").mkdir()
    for number, face in enumerate(strangers):
        face.save(here / "faces" / f"{number:02}.jpg", quality=95)
    for number in ENROLLED:
        folder = here / "photographs" / f"person-{number}"
        folder.mkdir(parents=True)
        for place, light in enumerate((1.0, 0.8)):
            ImageEnhance.Brightness(strangers[number]).enhance(light).save(folder / f"{place}.jpg", quality=90)
    return here


@pytest.fixture(scope="session")
def plain_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """What `make serve` starts, for every reader; each starts it who finds that nobody has."""
    folder = tmp_path_factory.mktemp("plain")
    clone(folder)
    service = Service(folder)
    yield service
    service.close()


@pytest.fixture
def newcomer(plain_service: Service, tmp_path: Path) -> Iterator[Reader]:
    """A reader who has nothing but the clone."""
    reader = Reader(tmp_path, plain_service)
    yield reader
    reader.close()


@pytest.fixture
def reader(newcomer: Reader, brought: Path) -> Reader:
    """One who has brought photographs, too."""
    shutil.copytree(brought, newcomer.folder, dirs_exist_ok=True)
    return newcomer
