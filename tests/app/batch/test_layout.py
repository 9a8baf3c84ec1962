"""A data set loads as it is: by Hugging Face's `datasets`, torchvision's ImageFolder, and tar files for webdataset."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.__main__ import main
from app.batch import shards
from app.batch.job import Made
from app.batch.layout import NAME_BYTES, Labels, Layout
from app.batch.output import Output

PEOPLE = {"alice": ["1.jpg", "2.jpg"], "bob_": ["train.jpg"], "": ["alone.jpg"]}


@pytest.fixture(autouse=True)
def _without_a_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def people(portrait: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a person, and a photograph that lies in none."""
    folder = tmp_path_factory.mktemp("people")
    number = 0
    for person, names in PEOPLE.items():
        (folder / person).mkdir(exist_ok=True)
        for name in names:
            number += 1
            portrait.crop((100, 0, 400, 300 + number)).save(folder / person / name)
    return folder


def run(source: Path, target: Path, *options: str) -> Path:
    assert main(["augment", str(source), str(target), "--count", "2", *options]) == 0
    return target


def rows(target: Path) -> list[dict]:
    return [json.loads(line) for line in (target / "manifest.jsonl").read_text().splitlines()]


def image_folder(root: Path) -> list[tuple[str, str]]:
    """Path and class of each image, as torchvision's ImageFolder has them.

    torchvision itself where it can be imported. Else its documented rule: the folders in the root are the classes, and
    whatever lies in one, however deep, with the suffix of an image is of that class; a class without any is an error.
    """
    try:
        from torchvision.datasets import ImageFolder
    except (ImportError, RuntimeError):
        classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        suffixes = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
        found = [
            (str(path), name)
            for name in classes
            for path in sorted((root / name).rglob("*"))
            if path.name.lower().endswith(suffixes)
        ]
        assert {name for _, name in found} == set(classes)
        return found
    loaded = ImageFolder(str(root))
    return [(path, loaded.classes[number]) for path, number in loaded.samples]


def test_a_folder_a_person_for_both_libraries(people: Path, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    out = run(people, tmp_path / "out")
    labels = {"alice": 4, "bob%5F": 2, "alone.jpg": 2}
    classes = image_folder(out / "images")
    assert Counter(name for _, name in classes) == labels
    by_file = {str(out / row["file"]): row for row in rows(out)}
    assert dict(classes) == {path: row["label"] for path, row in by_file.items()}
    for place in (out, out / "images"):
        loaded = datasets.load_dataset(
            "imagefolder", data_files={"train": f"{place}/**"}, split="train", cache_dir=str(tmp_path / "cache")
        )
        assert Counter(loaded["label"]) == labels
        assert loaded[0]["image"].size == (128, 128)
        assert {tuple(row["control"]) for row in loaded} == {tuple(row["control"]) for row in by_file.values()}
        assert set(loaded["source"]) == {row["source"] for row in by_file.values()}


def test_a_folder_without_split_words_loads_by_its_name_alone(people: Path, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    out = run(people / "alice", tmp_path / "out", "--layout", "flat")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache"))
    assert Counter(loaded["train"]["label"]) == {"1.jpg": 2, "2.jpg": 2}
    assert len([path for path in (out / "images").iterdir() if path.suffix == ".jpg"]) == 4


def test_names_that_are_no_text_load_as_well(people: Path, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    source = tmp_path / "in"
    source.mkdir()
    Path(os.fsdecode(os.fsencode(source) + b"/\xff.jpg")).write_bytes((people / "alone.jpg").read_bytes())
    out = run(source, tmp_path / "out")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache"), split="train")
    assert set(loaded["source"]) == {"%FF.jpg"}
    assert os.fsencode(rows(out)[0]["source"]) == b"\xff.jpg"


def test_each_look_alike_a_new_person(people: Path, tmp_path: Path):
    out = run(people, tmp_path / "out", "--labels", "look-alike-is-new-person")
    assert Counter(name for _, name in image_folder(out / "images")) == Counter(row["label"] for row in rows(out))
    assert len({row["label"] for row in rows(out)}) == 8


def test_one_control_makes_one_new_person_of_all_photographs_of_a_person(people: Path, tmp_path: Path):
    control = json.dumps([{}, [0.5] * 10])
    source = people / "alice"
    out = tmp_path / "out"
    options = ["--controls", control, "--labels", "look-alike-is-new-person", "--strength", "1"]
    assert main(["augment", str(source.parent), str(out), *options]) == 0
    found = Counter(row["label"] for row in rows(out))
    assert found == {
        "alice__0000": 2, "alice__0001": 2, "bob%5F__0000": 1, "bob%5F__0001": 1, "alone.jpg__0000": 1,
        "alone.jpg__0001": 1,
    }  # fmt: skip
    assert Counter(name for _, name in image_folder(out / "images")) == found
    assert {tuple(row["control"]) for row in rows(out)} == {(0.0,) * 10, (0.5,) * 10}


def test_shards_for_webdataset(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "SHARD_IMAGES", 4)
    out = run(people, tmp_path / "out", "--layout", "webdataset")
    assert sorted(path.name for path in (out / "shards").iterdir()) == ["000000.tar", "000001.tar"]
    samples: dict[str, dict[str, bytes]] = {}
    for path in sorted((out / "shards").iterdir()):
        with tarfile.open(path) as shard:
            for member in shard:
                # What belongs to a sample, by webdataset's rule: all up to the first dot is its key.
                key, _, kind = member.name.partition(".")
                samples.setdefault(key, {})[kind] = shard.extractfile(member).read()
    assert len(samples) == 8
    classes = {}
    for row, sample in zip(rows(out), samples.values(), strict=True):
        assert set(sample) == {"jpg", "json", "cls"}
        assert json.loads(sample["json"])["label"] == row["label"]
        assert Image.open(io.BytesIO(sample["jpg"])).size == (128, 128)
        assert (out / row["file"]).exists()
        classes[row["label"]] = int(sample["cls"])
    assert classes == {"alice": 0, "alone.jpg": 1, "bob%5F": 2}


def filled(folder: Path, names: list[str], kind: str, torn: int = 0) -> dict[str, bytes]:
    """What is there after photographs of these names were used, each in a run of its own that ended torn."""
    for number in range(len(names)):
        output = Output(folder, Layout(kind))  # type: ignore[arg-type]
        with output.locked():
            output.claim({"asked": 1})
            with output.opened(2, "jpg") as writer:
                for name in names[: number + 1]:
                    if name not in output.done:
                        lines = [
                            {"source": name, "source_sha256": "0", "index": index, "of": 2, "control": [],
                             "similarity": 0.5, "in_band": True, "id": "0"} for index in range(2)
                        ]  # fmt: skip
                        writer.write(Made(name, lines, [b"one" * 500, b"two"]))
            output.describe()
        if torn and number < len(names) - 1:
            tear(folder, kind, torn)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tear(folder: Path, kind: str, how: int) -> None:
    """Leave what a killed run may have left."""
    manifest = folder / "manifest.jsonl"
    whole = manifest.read_bytes()
    if how == 1:
        manifest.write_bytes(whole + b'{"file": "im')
    elif how == 2:
        manifest.write_bytes(whole[: whole.rstrip(b"\n").rindex(b"\n") + 1])
    if kind == "webdataset":
        shard = max((folder / "shards").iterdir())
        with shard.open("ab") as file:
            file.truncate(shard.stat().st_size - 1024)
            file.write(b"x" * 700)


@pytest.mark.parametrize("kind", ["person", "flat", "webdataset"])
@pytest.mark.parametrize("torn", [1, 2, 3])
def test_a_torn_run_goes_on_to_the_same_bytes(tmp_path: Path, kind: str, torn: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shards, "SHARD_IMAGES", 4)
    names = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "c.jpg"]
    assert filled(tmp_path / "torn", names, kind, torn) == filled(tmp_path / "whole", names[:], kind)


def test_a_shard_that_is_lost_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str], people: Path):
    out = run(people, tmp_path / "out", "--layout", "webdataset")
    before = (out / "manifest.jsonl").read_bytes()
    (out / "shards/000000.tar").write_bytes(b"")
    assert main(["augment", str(people), str(out), "--count", "2", "--layout", "webdataset"]) == 2
    assert "8 images that the manifest names are not there" in capsys.readouterr().err
    assert (out / "manifest.jsonl").read_bytes() == before


names = st.lists(
    st.text(st.sampled_from("ab_%-.0\x1b\udcff/ü"), min_size=1, max_size=8)
    .map(lambda name: "/".join(part for part in name.split("/") if part not in ("", ".", "..")))
    .filter(bool),
    min_size=2, max_size=6, unique=True,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["person", "flat", "webdataset"])
@pytest.mark.parametrize("labels", ["same-person", "look-alike-is-new-person"])
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sources=names)
def test_no_two_images_share_a_place_and_no_two_people_a_label(kind: str, labels: Labels, sources: list[str]):
    sources = [name for name in sources if not any(other.startswith(f"{name}/") for other in sources)]
    layout = Layout(kind, labels)  # type: ignore[arg-type]
    images = [(source, index) for source in sources for index in range(3)]
    places = [layout.file(source, index, "jpg") for source, index in images]
    assert len(set(places)) == len(images)
    people = {(source.rpartition("/")[0] or source) for source in sources}
    expected = len(people) if labels == "same-person" else len(images)
    assert len({layout.label(source, index) for source, index in images}) == expected
    for place in places:
        assert place.encode()
        assert place.isprintable()
        assert place.count("/") == {"person": 2, "flat": 1, "webdataset": 0}[kind]
        assert kind != "webdataset" or place.count(".") == 1


def test_long_names_stay_short_and_apart():
    layout = Layout()
    first, second = (layout.file(f"{'ü' * 120}/{'n' * 100}/{end}/x.jpg", 0, "jpg") for end in "ab")
    assert first != second
    assert max(len(part.encode()) for part in first.split("/")) <= NAME_BYTES + 10
