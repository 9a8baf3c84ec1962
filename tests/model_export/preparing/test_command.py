"""`python -m model_export prepare`, on transformed photographs of one person: stretched, she is somebody else."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps
from skimage import data, transform

from app.core.faces import Recognizer
from model_export.__main__ import main
from model_export.preparing.command import MODELS, prepare
from model_export.preparing.dataset import FaceSet
from model_export.preparing.filters import Limits
from model_export.preparing.people import Likeness
from model_export.preparing.pictures import SourceError
from model_export.preparing.sources import read_sources
from tests.patience import until

ASTRONAUT = Image.fromarray(data.astronaut())
ARRAYS = ("faces.npy", "embeddings.npy", "embeddings_mirrored.npy")
RESULTS = (*ARRAYS, "faces.csv", "dropped.csv")
CHUNK = 4
STRICT = Likeness(same_person=0.9, look_alike=0.9, copy=0.9)
"""Stretched, she is to be somebody else."""
APART = ("--same-person", "0.9", "--look-alike", "0.9", "--copy", "0.9")
"""The same for the command line."""


def encode(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, kind, **options)
    return buffer.getvalue()


def swirled(strength):
    pixels = transform.swirl(np.asarray(ASTRONAUT), center=(225, 110), strength=strength, radius=120)
    return Image.fromarray((pixels * 255).astype(np.uint8))


FILES = {
    "people/original.jpg": encode(ASTRONAUT.resize((640, 640)), quality=95),
    "people/again.jpg": encode(ASTRONAUT, quality=60),
    "people/mirrored.png": encode(ImageOps.mirror(ASTRONAUT), "PNG"),
    "people/recoloured.jpg": encode(Image.fromarray(data.astronaut()[:, :, ::-1].copy())),
    "people/wide.jpg": encode(ASTRONAUT.resize((740, 512))),
    "people/wider.jpg": encode(ASTRONAUT.resize((900, 512))),
    "people/grey.jpg": encode(ASTRONAUT.resize((512, 720)).convert("L")),
    "people/child.jpg": encode(swirled(1.2)),
    "people/far-away.jpg": encode(ASTRONAUT.resize((256, 256))),
    "people/blurred.jpg": encode(ASTRONAUT.filter(ImageFilter.GaussianBlur(2.5))),
    "people/dark.png": encode(ASTRONAUT.point(lambda value: value // 8), "PNG"),
    "other/rocket.jpg": encode(Image.fromarray(data.rocket())),
    "other/broken.jpg": encode(ASTRONAUT)[:9000],
    "other/notes.txt": b"not a picture",
    "other/empty.jpg": b"",
}
PICTURES = set(FILES) - {"other/notes.txt"}
LABELS = """file,age,gender,group
original.jpg,45,female,white
recoloured.jpg,45,female,
wide.jpg,50,female,white
wider.jpg,,male,other
child.jpg,12,female,white
"""


def write_tar(path, labels=LABELS):
    files = {**FILES, "labels.csv": labels.encode()} if labels else FILES
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def prepare_one(source, out, labels=None, **more):
    return prepare(read_sources(source, labels), out, **{"chunk": CHUNK, "likeness": STRICT, **more})


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def dropped(out):
    return {row["file"]: row["reason"] for row in table(out / "dropped.csv")}


def faces(out):
    return {row["file"]: row for row in table(out / "faces.csv")}


def contents(out):
    return {name: (out / name).read_bytes() for name in RESULTS}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_tar(tmp_path_factory.mktemp("source") / "set.tar")


@pytest.fixture(scope="module")
def prepared(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "set"
    prepare_one(source, out, workers=2, keep_cuts=True)
    return out


def test_every_file_is_either_kept_or_dropped_with_its_reason(prepared):
    assert dropped(prepared) == {
        "people/again.jpg": "copy of another",
        "people/mirrored.png": "copy of another",
        "people/child.jpg": "minor",
        "people/far-away.jpg": "eyes too close",
        "people/blurred.jpg": "blurred",
        "people/dark.png": "too dark",
        "other/rocket.jpg": "no face",
        "other/broken.jpg": "unreadable",
        "other/empty.jpg": "unreadable",
    }
    assert set(faces(prepared)) == PICTURES - set(dropped(prepared))


def test_the_arrays_hold_the_faces_of_the_table(prepared):
    rows = table(prepared / "faces.csv")
    pictures, plain, mirrored = (np.load(prepared / name, mmap_mode="r") for name in ARRAYS)
    assert [int(row["row"]) for row in rows] == list(range(len(rows)))
    assert pictures.shape == (len(rows), 128, 128, 3)
    assert pictures.dtype == np.uint8
    assert plain.shape == mirrored.shape == (len(rows), 192)
    assert plain.dtype == mirrored.dtype == np.float32
    assert np.allclose(np.linalg.norm(plain, axis=1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(mirrored, axis=1), 1, atol=1e-5)
    # The vectors stand in the order of the faces: each is what its own picture, or its mirror image, gives.
    recognize = Recognizer(MODELS, "cpu", 1)
    assert (recognize(pictures) * plain).sum(1).min() > 0.999
    assert (recognize(pictures[:, :, ::-1]) * mirrored).sum(1).min() > 0.999


def test_labels_go_with_their_faces_and_may_be_missing(prepared):
    rows = faces(prepared)
    assert [rows["people/original.jpg"][name] for name in ("age", "gender", "group")] == ["45", "female", "white"]
    assert [rows["people/wider.jpg"][name] for name in ("age", "gender", "group")] == ["", "male", "other"]
    assert [rows["people/grey.jpg"][name] for name in ("age", "gender", "group")] == ["", "", ""]


def test_grey_is_kept_and_flagged(prepared):
    assert {file for file, row in faces(prepared).items() if row["grey"] == "1"} == {"people/grey.jpg"}


def test_one_person_is_one_cluster_on_one_side(prepared):
    rows = faces(prepared)
    same, other = rows["people/original.jpg"], rows["people/recoloured.jpg"]
    assert same["cluster"] == other["cluster"]
    assert same["split"] == other["split"]
    assert len({row["cluster"] for row in rows.values()}) == len(rows) - 1


def test_both_sides_of_the_split_exist_train_first(prepared):
    sides = [row["split"] for row in table(prepared / "faces.csv")]
    assert sides == sorted(sides, reverse=True)
    assert set(sides) == {"train", "test"}


def test_the_report_counts_what_the_tables_say(prepared):
    report = json.loads((prepared / "report.json").read_text())
    assert report["files"] == len(PICTURES)
    assert report["kept"] == len(faces(prepared)) == report["train"] + report["test"]
    assert sum(report["dropped"].values()) == len(dropped(prepared))
    assert report["dropped"]["unreadable"] == 2
    assert report["clusters"] == {"of_several": 1, "faces_in_them": 2, "largest": 2}
    assert report["settings"]["choosing"]["limits"]["min_eye_distance"] == 40


def test_there_is_a_sheet_to_look_at_for_each_reason(prepared):
    sheets = {path.stem for path in (prepared / "report").glob("*.png")}
    assert {"kept", "kept-grey", "clusters", "dropped-blurred", "dropped-minor", "dropped-copies"} <= sheets
    with Image.open(prepared / "report" / "kept.png") as sheet:
        assert sheet.width == 128 * len(faces(prepared))


def test_the_same_command_again_has_nothing_to_do(source, prepared, capsys):
    before = (prepared / "report.json").stat().st_mtime_ns
    prepare_one(source, prepared, workers=2, keep_cuts=True)
    assert "nothing to do" in capsys.readouterr().out
    assert (prepared / "report.json").stat().st_mtime_ns == before


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(source, prepared, tmp_path):
    out = tmp_path / "set"
    code = (
        "import sys, pathlib, threading\n"
        "from model_export.preparing import command, cuts\n"
        "from model_export.preparing.people import Likeness\n"
        "from model_export.preparing.sources import read_sources\n"
        "genuine = cuts._bounded\n"
        "def bounded(*arguments):\n"
        "    for index in genuine(*arguments):\n"
        "        yield index\n"
        "        threading.Event().wait()\n"  # to be killed with some chunks done, and others not
        "cuts._bounded = bounded\n"
        "source, out = map(pathlib.Path, sys.argv[1:])\n"
        f"command.prepare(read_sources(source), out, workers=1, chunk={CHUNK}, keep_cuts=True, likeness={STRICT})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(source), str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    first = out / "cuts" / "faces" / "000000.json"

    def check_alive():
        assert process.poll() is None

    until(first.exists, "the first chunk was done", check_alive)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "report.json").exists()

    done_before = first.stat().st_mtime_ns
    prepare_one(source, out, workers=1, keep_cuts=True)
    assert first.stat().st_mtime_ns == done_before
    assert contents(out) == contents(prepared)


def test_other_limits_choose_anew_from_the_kept_cuts(source, prepared, tmp_path, capsys):
    out = tmp_path / "set"
    shutil.copytree(prepared, out)
    prepare_one(source, out, limits=Limits(min_eye_distance=15, min_age=0))
    assert "prepared with other settings (limits); preparing anew" in capsys.readouterr().out
    assert "people/child.jpg" in faces(out)
    assert dropped(out)["people/far-away.jpg"] == "copy of another"
    assert not (out / "cuts").exists()


def test_cuts_of_another_source_are_thrown_away(prepared, tmp_path, capsys):
    shutil.copytree(prepared / "cuts", tmp_path / "set" / "cuts")
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "one.jpg").write_bytes(FILES["people/original.jpg"])
    prepare_one(tmp_path / "photographs", tmp_path / "set", workers=1)
    assert "cut with other settings (bytes, files, source); starting anew" in capsys.readouterr().out
    assert list(faces(tmp_path / "set")) == ["one.jpg"]


def test_a_folder_without_labels_is_prepared_by_the_command_line(tmp_path, capsys):
    folder = tmp_path / "photographs" / "deep"
    folder.mkdir(parents=True)
    (folder / "one.jpg").write_bytes(FILES["people/original.jpg"])
    (folder / "two.jpg").write_bytes(FILES["people/wider.jpg"])
    assert main(["prepare", str(tmp_path / "photographs"), str(tmp_path / "set"), "--workers", "1", *APART]) == 0
    rows = faces(tmp_path / "set")
    assert list(rows) == ["deep/one.jpg", "deep/two.jpg"]
    assert {rows[name][label] for name in rows for label in ("age", "gender", "group")} == {""}
    assert "2 of 2 kept" in capsys.readouterr().out


def test_labels_may_stand_elsewhere(source, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "set")
    (tmp_path / "mine.csv").write_text("file,age\npeople/grey.jpg,77\n")
    prepare_one(source, tmp_path / "set", tmp_path / "mine.csv")
    rows = faces(tmp_path / "set")
    assert (rows["people/grey.jpg"]["age"], rows["people/original.jpg"]["age"]) == ("77", "")


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        (b"name,age\na.jpg,3\n", "no column 'file'"),
        (b"file,age\na.jpg,old\n", "age of a.jpg is not a number of years: 'old'"),
        (b"\xff\xfe\x00", "not a CSV file in UTF-8"),
        (None, "No such file"),
    ],
)
def test_labels_that_cannot_be_used_are_refused_before_any_work(source, tmp_path, labels, complaint, capsys):
    file = tmp_path / "labels.csv"
    if labels is not None:
        file.write_bytes(labels)
    assert main(["prepare", str(source), str(tmp_path / "set"), "--labels", str(file)]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_a_source_without_files_or_without_faces_is_refused(tmp_path, capsys):
    folder = tmp_path / "photographs"
    folder.mkdir()
    assert main(["prepare", str(folder), str(tmp_path / "set")]) == 2
    assert "no pictures in it" in capsys.readouterr().err
    (folder / "rocket.jpg").write_bytes(FILES["other/rocket.jpg"])
    with pytest.raises(SourceError, match=r"no usable face in it: \{'no face': 1\}"):
        prepare_one(folder, tmp_path / "set", workers=1)


@pytest.fixture(scope="module")
def of_three(tmp_path_factory):
    """A set of two sources, and a third whose person is kept away; each picture of one person's face, stretched."""
    folder = tmp_path_factory.mktemp("several")
    pictures = {
        "one": {"original.jpg": "people/original.jpg", "wide.jpg": "people/wide.jpg"},
        "other": {"F-again.jpg": "people/again.jpg", "M-wider.jpg": "people/wider.jpg"},
        "apart": {"wide.jpg": "people/wide.jpg"},
    }
    for name, files in pictures.items():
        (folder / name).mkdir()
        for file, picture in files.items():
            (folder / name / file).write_bytes(FILES[picture])
    (folder / "one.csv").write_text("file,age,gender\noriginal.jpg,30-39,Female\n")
    (folder / "faces.toml").write_text(
        """
        [[source]]
        name = "one"
        photographs = "one"
        labels = "one.csv"
        licence = "CC BY 4.0"
        test_faces = 0

        [[source]]
        name = "other"
        photographs = "other"
        pattern = "^(?P<gender>[FM])-"
        values = {F = "female", M = "male"}
        test_faces = 0

        [[source]]
        name = "apart"
        photographs = "apart"
        use = "keep away"
        """
    )
    words = ["prepare", str(folder / "faces.toml"), str(folder / "set"), "--workers", "1", "--keep-cuts", *APART]
    assert main([*words, "--keep-away", "0.95", "--pack", str(folder / "parts")]) == 0
    return folder


def test_several_sources_become_one_set_chosen_over_all_of_them(of_three):
    rows = faces(of_three / "set")
    assert {(name, row["source"], row["gender"]) for name, row in rows.items()} == {
        ("one/original.jpg", "one", "female"),
        ("other/M-wider.jpg", "other", "male"),
    }
    assert rows["one/original.jpg"]["age"] == "35"
    assert {(row["source"], row["file"], row["reason"]) for row in table(of_three / "set" / "dropped.csv")} == {
        ("one", "wide.jpg", "looks like a person who is kept away"),
        ("other", "F-again.jpg", "copy of another"),
    }


def test_the_report_says_what_was_used_under_which_licence(of_three):
    report = json.loads((of_three / "set" / "report.json").read_text())
    assert [(source["name"], source["licence"]) for source in report["sources"]] == [
        ("one", "CC BY 4.0"),
        ("other", ""),
        ("apart", ""),
    ]
    assert report["kept_by_source"] == {"one": 1, "other": 1}
    assert sum(report["drawn_share_by_source"].values()) == pytest.approx(1, abs=1e-3)


def test_the_command_packs_the_set_as_well(of_three):
    packed, whole = FaceSet.open(of_three / "parts"), FaceSet.open(of_three / "set")
    assert packed.names == whole.names
    assert (packed.embeddings * whole.embeddings).sum(1) == pytest.approx(1, abs=1e-3)


def test_each_source_has_its_own_cuts_and_one_that_changed_is_cut_anew(of_three, tmp_path, capsys):
    shutil.copytree(of_three, tmp_path, dirs_exist_ok=True)
    cut = [tmp_path / "set" / "cuts" / name / "000000.json" for name in ("one", "other")]
    before = [path.stat().st_mtime_ns for path in cut]
    (tmp_path / "other" / "new.jpg").write_bytes(FILES["people/grey.jpg"])
    manifest = tmp_path / "set" / "cuts" / "one" / "settings.json"
    manifest.write_text(manifest.read_text().replace(str(of_three), str(tmp_path)))
    words = ["prepare", str(tmp_path / "faces.toml"), str(tmp_path / "set"), "--workers", "1", "--keep-cuts", *APART]
    assert main([*words, "--keep-away", "0.95"]) == 0
    assert cut[0].stat().st_mtime_ns == before[0]
    assert cut[1].stat().st_mtime_ns > before[1]
    assert "other/new.jpg" in faces(tmp_path / "set")


def test_preparing_needs_no_pytorch():
    code = (
        "import sys; sys.modules['torch'] = None; from model_export.__main__ import main; main(['prepare', '--help'])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "--min-eye-distance" in shown.stdout
