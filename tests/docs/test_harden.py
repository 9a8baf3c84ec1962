"""examples/harden.py: what it computes, and that it computes it of what the service says."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageOps

from examples import harden
from examples.harden import Person, Service, Unusable, Verifier, accepted, interval, lowest_threshold, unhardened

LEAST = 0.4


def around(centre: np.ndarray, count: int, spread: float, random: np.random.Generator) -> np.ndarray:
    """Unit vectors near a centre."""
    vectors = centre + spread * random.standard_normal((count, len(centre))) / np.sqrt(len(centre))
    return np.float32(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def person(name: str, random: np.random.Generator) -> Person:
    """Somebody whose photographs differ, and whose look-alikes lie to one side of them."""
    photograph, aside = np.linalg.qr(random.standard_normal((192, 2)))[0].T
    twin = 0.85 * photograph + 0.53 * aside
    first, second, third = (around(twin, 40, 0.4, random) for _ in range(3))
    enrolled, probes = (around(photograph, count, 0.9, random) for count in (3, 40))
    return Person(name, enrolled, probes, (first, second, third), probes[:1])


@pytest.fixture(scope="module")
def people() -> list[Person]:
    return [person(f"person {number}", np.random.default_rng(number)) for number in range(4)]


@pytest.fixture
def service(client: TestClient) -> Service:
    service = Service("http://nowhere.invalid")
    service._client = client
    return service


def test_at_most_the_stated_share_reaches_the_threshold() -> None:
    scores = np.random.default_rng(0).standard_normal(200)
    for rate in (0.0, 0.004, 0.01, 0.1, 0.5):
        assert (scores >= lowest_threshold(scores, rate)).sum() == int(rate * 200)


def test_equal_scores_are_refused_together() -> None:
    assert (np.ones(10) >= lowest_threshold(np.ones(10), 0.2)).sum() == 0


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"), [(0, 100, 0.0, 0.037), (5, 10, 0.237, 0.763), (10, 10, 0.722, 1.0)]
)
def test_intervals_are_wilsons(hits: int, trials: int, low: float, high: float) -> None:
    assert interval(hits, trials) == pytest.approx((low, high), abs=0.001)


def test_enrolled_look_alikes_cost_the_person_less_than_a_threshold(people: list[Person]) -> None:
    before = unhardened(people, LEAST)
    figures = {
        name: accepted(verifier, people)
        for name, verifier in {
            "before": before,
            "threshold": harden.harden(before, people, 0.0, 0.01),
            "enrolled": harden.harden(before, people, 0.5, 0.01),
        }.items()
    }
    share = {name: {kind: hits / trials for kind, (hits, trials) in figure.items()} for name, figure in figures.items()}
    never, other, same = "look-alikes it never saw", "other people of the gallery", "the person, another photograph"
    assert share["before"][never] > 0.9
    assert share["enrolled"][never] < 0.06
    assert share["enrolled"][same] > share["threshold"][same] + 0.2
    assert share["enrolled"][other] <= share["before"][other]


def test_whoever_was_refused_before_is_refused_after(people: list[Person]) -> None:
    before = unhardened(people, LEAST)
    after = harden.harden(before, people, 0.5, 0.5)
    for one in people:
        probes = np.concatenate([people[0].probes, one.probes, *one.look_alikes])
        assert not (after.accepts(one.name, probes) & ~before.accepts(one.name, probes)).any()


def test_a_table_says_where_there_is_nothing_to_measure(people: list[Person]) -> None:
    alone = [Person(one.name, one.enrolled, one.probes[:0], one.look_alikes, one.redrawn) for one in people]
    table = harden.report({"before": unhardened(alone, LEAST)}, alone)
    assert "| the person, another photograph | none to measure |" in table
    assert "of 160:" in table  # look-alikes of four people


def test_a_verifier_is_the_same_after_saving(people: list[Person], tmp_path: Path) -> None:
    verifier = harden.harden(unhardened(people, LEAST), people, 0.5, 0.05)
    verifier.save(tmp_path / "verifier.npz")
    again = Verifier.load(tmp_path / "verifier.npz")
    for one in people:
        np.testing.assert_array_equal(again.accepts(one.name, one.probes), verifier.accepts(one.name, one.probes))


def test_similarities_are_those_of_the_service(service: Service, client: TestClient, portrait: Image.Image) -> None:
    pictures = []
    for picture in (portrait, ImageOps.mirror(portrait).resize((400, 400))):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=95)
        pictures.append(file.getvalue())
    one, other = service.embed(np.stack([service.face(picture) for picture in pictures]))
    answer = client.post("/v1/compare", files={"reference": pictures[0], "probe": pictures[1]}).json()
    assert float(one @ other) == pytest.approx(answer["similarity"], abs=0.01)


def test_look_alikes_are_what_the_service_makes(service: Service, client: TestClient, photo: bytes) -> None:
    faces = service.look_alikes(photo, 6, seed=3)
    parameters = {"count": 6, "seed": 3, "format": "png"}
    made = client.post("/v1/variants", params=parameters, files={"image": photo}).json()["variants"]
    similarities = service.embed(faces) @ service.embed(service.face(photo)[None])[0]
    assert similarities == pytest.approx([variant["similarity"] for variant in made], abs=0.01)


def test_a_photograph_without_a_face_is_unusable(service: Service, landscape: bytes) -> None:
    with pytest.raises(Unusable, match="No face was found"):
        service.face(landscape)


def test_folders_and_single_photographs_are_people(tmp_path: Path, photo: bytes) -> None:
    (tmp_path / "ada").mkdir()
    for name in ("ada/1.jpg", "ada/2.jpg", "ada/notes.txt", "bob.jpg"):
        (tmp_path / name).write_bytes(photo)
    assert [(name, len(files)) for name, files in harden.read_people(tmp_path)] == [("ada", 2), ("bob", 1)]


@pytest.fixture
def few(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(harden, "Service", lambda *_: service)
    return


def test_the_command_says_what_its_figures_are_worth(few: None, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "verifier.npz"
    assert harden.main([str(out), "--stand-ins", "2", "--look-alikes", "9", "--fmr", "0.2"]) == 0
    said = capsys.readouterr().out
    assert "at most\n1 of 6 look-alikes are let in; 20.00% were asked for" in said
    assert "say nothing about people" in said
    assert "come from one generator" in said
    assert Verifier.load(out).names == ["stand-in 0", "stand-in 1"]


def test_one_person_is_not_enough(few: None, tmp_path: Path, photo: bytes, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "ada.jpg").write_bytes(photo)
    assert harden.main([str(tmp_path / "photographs"), str(tmp_path / "out.npz"), "--look-alikes", "6"]) == 1
    assert "At least two people" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["out.npz"], ["in", "out.npz", "--stand-ins", "2"], ["in", "out.npz", "--fmr", "1"]])
def test_a_command_that_makes_no_sense_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        harden.parse(wrong)
