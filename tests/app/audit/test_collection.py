"""How photographs are read and cut, and how long what is known of them and of their look-alikes holds."""

from __future__ import annotations

import copy
import hashlib
import tarfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.audit.cache import Cache
from app.audit.collection import Collection, Item, Skipped, Studio, marks
from app.audit.pairing import Scorer, plan
from app.audit.recognisers import Recogniser
from app.batch.archives import open_source
from app.core.located import Source, locate
from app.runtime.manifest import Role
from app.settings import Settings
from tests.conftest import encoded

NOBODY = Recogniser("nobody", "nobody", "frame")


def told(_: int) -> None:
    """Nobody looks at how far it is."""


def changed(studio: Studio, *roles: Role) -> Studio:
    """The same networks, some of them under another digest."""
    files = dict(studio.manifest.files)
    for role in roles:
        files[role] = files[role].model_copy(update={"sha256": "0" * 64})
    other = copy.copy(studio)
    other.manifest = studio.manifest.model_copy(update={"files": files})
    return other


def in_the_other_precision(studio: Studio) -> Studio:
    other = copy.copy(studio)
    other.decoder = "decoder" if studio.decoder == "decoder_int8" else "decoder_int8"
    return other


def items(source: Path, studio: Studio, recogniser: Recogniser, cache: Cache) -> tuple[Collection, list[Item]]:
    """The photographs of a source, and a look-alike of the first."""
    with open_source(source) as photographs:
        collection = Collection(photographs, studio, recogniser, cache)
        found = collection.gather(told)
        return collection, [*found, *collection.look_alikes(found[:1], 1, 0, told)]


CHANGES = [
    pytest.param(lambda studio: studio, 0, id="none"),
    pytest.param(in_the_other_precision, 1, id="precision"),
    pytest.param(lambda studio: changed(studio, studio.decoder), 1, id="decoder"),
    pytest.param(lambda studio: changed(studio, "encoder"), 1, id="encoder"),
    pytest.param(lambda studio: changed(studio, "detector_far"), 2, id="detector"),
    pytest.param(lambda studio: changed(studio, "recognizer"), 0, id="recognizer"),
]
"""Of a model, and how many of a photograph and a look-alike of it are then other pictures."""


@pytest.fixture
def face(people: Path, tmp_path: Path) -> Path:
    """A folder with one photograph."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "ada.png").write_bytes((people / "p00" / "0.png").read_bytes())
    return folder


@pytest.mark.parametrize(("change", "anew"), CHANGES)
def test_what_a_recogniser_said_holds_for_pictures_of_the_same_model(
    face: Path, studio: Studio, tmp_path: Path, change: Callable[[Studio], Studio], anew: int
) -> None:
    shown: list[np.ndarray] = []

    def embed(pictures: list[np.ndarray]) -> np.ndarray:
        shown.extend(pictures)
        return np.ones((len(pictures), 2))

    recogniser = Recogniser("mine", "mine", "frame", embed=embed)
    with Cache(tmp_path) as cache:
        items(face, studio, recogniser, cache)
        assert len(shown) == 2
        items(face, change(studio), recogniser, cache)
    assert len(shown) == 2 + anew


def test_so_do_scores(face: Path, studio: Studio, tmp_path: Path) -> None:
    scored: list[int] = []

    def score(first: list[np.ndarray], _: list[np.ndarray]) -> list[float]:
        scored.append(len(first))
        return [0.5] * len(first)

    recogniser = Recogniser("mine", "mine", "frame", score=score)
    with Cache(tmp_path) as cache:
        for now in (studio, studio, changed(studio, studio.decoder)):
            collection, every = items(face, now, recogniser, cache)
            Scorer(every, [], recogniser, collection, cache)(plan(every, 1, 0).source, told)
    assert scored == [1, 1]


def test_a_face_that_was_too_small_is_looked_at_again_where_smaller_ones_will_do(
    face: Path, studio: Studio, tmp_path: Path
) -> None:
    strict = copy.copy(studio)
    strict.settings = Settings(device="cpu", threads=1, min_eye_distance=100)
    with Cache(tmp_path) as cache, open_source(face) as photographs:
        assert Collection(photographs, strict, NOBODY, cache).gather(told) == []
        assert len(Collection(photographs, studio, NOBODY, cache).gather(told)) == 1


@pytest.mark.parametrize("name", ["frame", "image", "crop"])
def test_nothing_is_known_in_another_size_but_what_does_not_have_it(studio: Studio, name: str) -> None:
    other = copy.copy(studio)
    other.sizes = studio.sizes._replace(**{name: 96})
    same = {"frame": set(), "image": {"cut", "face"}, "crop": {"cut", "picture"}}[name]
    before, after = vars(marks(studio)), vars(marks(other))
    assert {mark for mark in before if before[mark] == after[mark]} == same


def test_of_two_entries_with_one_name_the_first_is_used(people: Path, studio: Studio, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        for person in ("p00", "p02"):
            archive.add(people / person / "0.png", "ada/0.png")
    with Cache(tmp_path) as cache, open_source(tmp_path / "in.tar") as photographs:
        Collection(photographs, studio, NOBODY, cache).gather(told)
        collection = Collection(photographs, studio, NOBODY, cache)  # has no faces at hand: all of them are known
        (item,) = collection.gather(told)
        first = (people / "p00" / "0.png").read_bytes()
        assert item.digest == hashlib.sha256(first).hexdigest()
        assert np.array_equal(collection.frame(item), studio.cut(first))
    assert collection.skipped == [Skipped("ada/0.png", "Its name is there twice; the first counts.")]


def test_a_small_face_in_a_large_photograph_is_cut_as_the_service_cuts_it(
    studio: Studio, portrait: Image.Image
) -> None:
    large = Image.new("RGB", (3200, 2400), "grey")
    large.paste(portrait, (900, 700))
    data = encoded(large)
    engine = SimpleNamespace(sizes=studio.sizes, detector=studio.detector)
    request: Any = SimpleNamespace(engine=engine, settings=studio.settings, stage=lambda _: nullcontext())
    (located,) = locate(request, Source(data, studio.settings.max_pixels), "largest").aligned
    assert np.array_equal(studio.cut(data), located.pixels)
