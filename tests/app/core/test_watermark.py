"""The mark in the pixels: not to be seen, and found again after what happens to pictures."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from skimage import data

from app.core.faces import FRAME_POINTS, Detector, Face
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE, Generator
from app.core.watermark import THRESHOLD, Message, Watermark
from app.core.watermark_search import Outcome, search
from app.settings import Settings

MESSAGE = Message(0x0180, 4711)
Picture = Image.Image


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator(Settings().models, "cpu", 1)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(Settings().models, "cpu", 1)


@pytest.fixture(scope="module")
def drawn(generator: Generator) -> np.ndarray:
    """Faces of people who do not exist [6, size, size, 3]."""
    random = np.random.default_rng(7)
    identities = random.standard_normal((6, IDENTITY_SIZE), np.float32)
    return generator.decode(identities, random.uniform(-1, 1, (6, CONTROL_SIZE)).astype(np.float32))[0]


@pytest.fixture(scope="module")
def marked(drawn: np.ndarray) -> list[Picture]:
    return [Image.fromarray(face) for face in Watermark().lay(drawn, MESSAGE)]


def resaved(picture: Picture, form: str, quality: int) -> Picture:
    file = io.BytesIO()
    picture.save(file, form, quality=quality)
    return Image.open(file).convert("RGB")


def cut(picture: Picture) -> Picture:
    """80 % of each side, from no particular place."""
    width, height = picture.size
    return picture.crop((round(0.13 * width), round(0.05 * height), round(0.93 * width), round(0.85 * height)))


def shown(picture: Picture) -> Picture:
    """A screenshot of a page that shows it at 143 %."""
    screen = Image.new("RGB", (500, 400), (240, 240, 236))
    side = round(1.43 * picture.width)
    screen.paste(picture.resize((side, side), Image.Resampling.BILINEAR), (61, 37))
    return screen


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "nothing": lambda picture: picture,
    "JPEG 75": lambda picture: resaved(picture, "JPEG", 75),
    "JPEG 50": lambda picture: resaved(picture, "JPEG", 50),
    "WebP 60": lambda picture: resaved(picture, "WEBP", 60),
    "scaled to 64": lambda picture: picture.resize((64, 64), Image.Resampling.BICUBIC),
    "scaled to 512": lambda picture: picture.resize((512, 512), Image.Resampling.BICUBIC),
    "squeezed": lambda picture: picture.resize((150, 110), Image.Resampling.BICUBIC),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "less contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(0.8),
    "mirrored": ImageOps.mirror,
    "cut": cut,
    "cut, JPEG 75": lambda picture: resaved(cut(picture), "JPEG", 75),
    "screenshot": shown,
}


def found(picture: Picture, detector: Detector, watermark: Watermark | None = None) -> Outcome:
    return search(picture, detector(picture), watermark or Watermark())


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_read_after(change: str, marked: list[Picture], detector: Detector) -> None:
    for picture in marked:
        outcome = found(CHANGES[change](picture), detector)
        assert [mark.message for mark in outcome.found] == [MESSAGE], outcome.best
        assert outcome.found[0].score >= THRESHOLD
        assert outcome.found[0].mirrored == (change == "mirrored")


def test_it_is_found_where_it_lies(marked: list[Picture], detector: Detector) -> None:
    (mark,) = found(shown(marked[0]), detector).found
    side = round(1.43 * marked[0].width)
    expected = np.array([61, 37]) + np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * side
    assert np.abs(mark.frame - expected).max() < 2


def test_it_is_found_where_no_face_is_told(marked: list[Picture]) -> None:
    width, height = marked[0].size
    eyes = marked[0].crop((0, 0, width, round(0.6 * height)))
    assert [mark.message for mark in search(eyes, [], Watermark()).found] == [MESSAGE]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_it_is_found_on_its_side_and_head(degrees: int, marked: list[Picture], detector: Detector) -> None:
    """Turned, and the turn not noted in the file."""
    for picture in marked:
        turned = resaved(picture.rotate(-degrees, expand=True), "JPEG", 75)
        (mark,) = found(turned, detector).found
        assert mark.message == MESSAGE
        assert not mark.mirrored
        side = picture.width
        corners = np.array([[0, 0], [side, 0], [side, side], [0, side]])
        assert np.abs(mark.frame - np.roll(corners, -degrees // 90, axis=0)).max() < 2
        (mark,) = found(ImageOps.mirror(turned), detector).found
        assert mark.message == MESSAGE
        assert mark.mirrored


@pytest.mark.parametrize("size", [0.88, 1.15])
def test_it_is_found_though_the_points_are_told_far_off(size: float, marked: list[Picture]) -> None:
    """As the detector sees some drawn faces: their frame an eighth too large or too small."""
    picture = shown(marked[0])
    side = round(1.43 * marked[0].width)
    points = ((FRAME_POINTS - 0.5) * size + 0.5) * side + [61, 37]
    face = Face((61, 37, 61 + side, 37 + side), np.vstack([points, points[:2]]), 0.9)
    assert [mark.message for mark in search(picture, [face], Watermark()).found] == [MESSAGE]


@pytest.mark.parametrize("turn", [-1, 1])
def test_a_faint_one_is_found_between_the_sizes_and_turns_that_are_tried(turn: int, marked: list[Picture]) -> None:
    picture = resaved(shown(marked[4]), "JPEG", 20)
    side = round(1.43 * marked[4].width)
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    points = ((FRAME_POINTS - 0.5) * 1.01 @ [[cosine, sine], [-sine, cosine]] + 0.5) * side + [61, 37]
    face = Face((61, 37, 61 + side, 37 + side), np.vstack([points, points[:2]]), 0.9)
    assert [mark.message for mark in search(picture, [face], Watermark()).found] == [MESSAGE]


def test_each_face_of_several_has_its_own(drawn: np.ndarray, detector: Detector) -> None:
    messages = [Message(1, 11), Message(2, 22)]
    size = drawn.shape[1]
    sheet = Image.new("RGB", (3 * size, 2 * size), "gray")
    for place, message in enumerate(messages):
        face = Image.fromarray(Watermark().lay(drawn[place : place + 1], message)[0])
        sheet.paste(face, (place * 2 * size, place * size))
    read = {mark.message for mark in found(sheet, detector).found}
    assert read == set(messages)


def test_it_cannot_be_seen(drawn: np.ndarray, generator: Generator) -> None:
    marked = Watermark().lay(drawn, MESSAGE)
    errors = ((marked.astype(float) - drawn) ** 2).mean((1, 2, 3))
    assert (10 * np.log10(255**2 / errors) >= 40).all()
    before, after = generator.recognizer(drawn), generator.recognizer(marked)
    assert ((before * after).sum(1) > 0.97).all()


def test_it_makes_no_grid(drawn: np.ndarray) -> None:
    def steps(faces: np.ndarray) -> float:
        columns = np.abs(np.diff(faces.astype(float), axis=2)).mean((0, 1, 3))
        return float(columns[0::2].mean() / columns[1::2].mean())

    assert steps(Watermark().lay(drawn, MESSAGE)) / steps(drawn) == pytest.approx(1, abs=0.03)


def test_what_was_never_marked_has_none(drawn: np.ndarray, detector: Detector) -> None:
    pictures = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket(), data.camera(), data.brick(), *drawn]
    random = np.random.default_rng(1)
    pictures += [random.integers(0, 256, (97, 141), np.uint8), np.full((64, 64), 200, np.uint8)]
    for pixels in pictures:
        outcome = found(Image.fromarray(pixels).convert("RGB"), detector)
        assert not outcome.found
        assert outcome.best < THRESHOLD


def test_another_key_reads_nothing(drawn: np.ndarray, detector: Detector) -> None:
    secret = Watermark("a secret of this test")
    picture = Image.fromarray(secret.lay(drawn[:1], MESSAGE)[0])
    assert not found(picture, detector).found
    assert [mark.message for mark in found(picture, detector, secret).found] == [MESSAGE]


def test_equal_faces_get_equal_marks_in_any_company(drawn: np.ndarray) -> None:
    together = Watermark().lay(drawn, MESSAGE)
    alone = [Watermark().lay(face[None], MESSAGE)[0] for face in drawn]
    assert np.array_equal(together, np.stack(alone))


@pytest.mark.parametrize("size", [96, 192, 256])
def test_faces_of_other_sizes(size: int, drawn: np.ndarray, detector: Detector) -> None:
    larger = Image.fromarray(drawn[0]).resize((size, size), Image.Resampling.BICUBIC)
    marked = Watermark().lay(np.asarray(larger)[None], MESSAGE)[0]
    assert 10 * np.log10(255**2 / ((marked.astype(float) - np.asarray(larger)) ** 2).mean()) >= 40
    picture = resaved(Image.fromarray(marked), "JPEG", 75)
    assert [mark.message for mark in found(picture, detector).found] == [MESSAGE]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5), (2000, 3)])
def test_pictures_of_odd_sizes(size: tuple[int, int], detector: Detector) -> None:
    random = np.random.default_rng(3)
    picture = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8))
    assert not found(picture, detector).found


@pytest.mark.parametrize("data", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x80\x12\x67"])
def test_every_message_comes_back(data: bytes, drawn: np.ndarray) -> None:
    message = Message.of(data)
    assert message.data() == data
    picture = Image.fromarray(Watermark().lay(drawn[:1], message)[0])
    assert search(picture, [], Watermark()).found[0].message == message
