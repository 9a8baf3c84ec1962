"""What a reader of the documents is supposed to have: photographs. All but one are of people who do not exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from app.runtime.sessions import Network
from tests.docs.documents import ROOT, Reader

PEOPLE = 80
"""Of them about 65 pass the filters of `prepare`, and evaluation wants ten that are held out."""
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


@pytest.fixture
def new_reader(strangers: list[Image.Image], portrait: Image.Image, tmp_path: Path) -> Iterator[Callable[[], Reader]]:
    """Makes a reader with `face.jpg` and `other.jpg`, a folder a person in `photographs`, and `faces` to train on."""
    readers: list[Reader] = []

    def make() -> Reader:
        portrait.save(tmp_path / "face.jpg", quality=95)
        portrait.resize((400, 400)).save(tmp_path / "other.jpg", quality=80)
        (tmp_path / "faces").mkdir()
        for number, face in enumerate(strangers):
            face.save(tmp_path / "faces" / f"{number:02}.jpg", quality=95)
        for number in ENROLLED:
            folder = tmp_path / "photographs" / f"person-{number}"
            folder.mkdir(parents=True)
            for place, light in enumerate((1.0, 0.8)):
                lit = ImageEnhance.Brightness(strangers[number]).enhance(light)
                lit.save(folder / f"{place}.jpg", quality=90)
        readers.append(Reader(tmp_path))
        return readers[0]

    yield make
    for reader in readers:
        reader.close()
