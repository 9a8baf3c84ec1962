"""Which face of a photograph is meant by its index, however the photograph and its faces lie."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from app.core.parameters import IdentitiesParameters
from app.core.service import Service
from app.core.subject import Subjects
from app.errors import FaceNotFound
from app.settings import Settings
from app.telemetry.metrics import Metrics
from tests.patience import PATIENCE

Listed = Callable[[Image.Image, list[str | int]], list[Subjects | FaceNotFound]]


@pytest.fixture(scope="module")
def listed() -> Listed:
    """The faces of a picture for each choice of them."""

    async def ask(photo: bytes, choices: list[str | int]) -> list[Subjects | FaceNotFound]:
        service = Service(Settings(device="cpu", threads=1, deadline=PATIENCE), Metrics())
        await service.start()
        found: list[Subjects | FaceNotFound] = []
        try:
            for choice in choices:
                try:
                    found.append((await service.identities(photo, IdentitiesParameters(face=choice)))[2])
                except FaceNotFound as error:
                    found.append(error)
        finally:
            await service.close()
        return found

    def run(picture: Image.Image, choices: list[str | int]) -> list[Subjects | FaceNotFound]:
        file = io.BytesIO()
        picture.save(file, "PNG", compress_level=1)
        return asyncio.run(ask(file.getvalue(), choices))

    return run


def beside(portrait: Image.Image, turn: int, size: int = 512) -> Image.Image:
    """The portrait, and beside it the same again, turned."""
    picture = Image.new("RGB", (1100, 560), "grey")
    picture.paste(portrait, (0, 0))
    picture.paste(portrait.rotate(turn).resize((size, size)), (560, 20))
    return picture


@pytest.mark.parametrize(("turn", "whole"), [(90, 0), (0, 90)])
def test_an_index_is_the_face_that_has_it_where_all_are_listed(
    listed: Listed, portrait: Image.Image, turn: int, whole: int
) -> None:
    """Also of one that lies beside one that stands, and where the photograph as a whole lies."""
    picture = beside(portrait, turn, 512 if turn else 460).rotate(whole, expand=True)
    every, *alone = listed(picture, ["all", 0, 1])
    assert isinstance(every, Subjects)
    assert [subject.index for subject in every.chosen] == [0, 1]
    for subject, own in zip(every.chosen, alone, strict=True):
        assert isinstance(own, Subjects)
        assert (own.chosen[0].rotation, own.chosen[0].face.box) == (subject.rotation, subject.face.box)


def test_where_the_photograph_stands_a_face_that_is_not_there_is_sought_in_no_other_way(
    listed: Listed, portrait: Image.Image
) -> None:
    (error,) = listed(beside(portrait, 180, 256), [2])
    assert "the last in this photograph is 1" in str(error)


def test_a_large_face_is_cut_the_same_whether_a_small_one_is_asked_for_with_it(
    listed: Listed, portrait: Image.Image
) -> None:
    picture = Image.new("RGB", (3600, 2400), "grey")
    picture.paste(portrait.resize((2000, 2000)), (100, 100))
    picture.paste(portrait.resize((700, 700)), (2500, 300))
    every, largest, small = listed(picture, ["all", "largest", 1])
    assert isinstance(every, Subjects)
    for subject, alone in zip(every.chosen, (largest, small), strict=True):
        assert isinstance(alone, Subjects)
        assert np.array_equal(subject.frame, alone.chosen[0].frame)
