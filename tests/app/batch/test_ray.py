"""`augment --engine ray`: what one machine gives, to the byte, whatever is lost on the way."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
from PIL import Image

from app.__main__ import main
from app.batch import ray as on_ray
from app.batch.job import Job, Made
from app.batch.output import Writer
from app.core.parameters import VariantsParameters
from app.errors import CannotRun
from app.runtime.manifest import read_manifest
from app.settings import Settings
from tests.patience import until
from tests.ray_cluster import TwoNodes, kill

ROOT = Path(__file__).parents[3]
OPTIONS = ["--count", "2", "--seed", "5"]
USABLE, BAD = 12, 2


@pytest.fixture(scope="module")
def folder(portrait: Image.Image, landscape: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of a face, one under a name that is not text, and two files that are none."""
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(USABLE):
        pixels = np.clip(np.asarray(portrait) * (1 - 0.02 * number), 0, 255).astype(np.uint8)
        name = b"below/\xff.jpg" if number == 3 else f"{number:02}.jpg".encode()
        path = folder / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels[: 300 + number, 100:400]).save(path)
    (folder / "05-bad.jpg").write_bytes(b"not a picture")
    (folder / "06-nobody.jpg").write_bytes(landscape)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _little_to_load() -> Iterator[None]:
    """Each of a dozen services that are started here has less to warm."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"DEVICE": "cpu", "THREADS": "1", "BATCH_SIZES": "1,2"}.items():
            patch.setenv(f"LOOKALIKE_{name}", value)
        yield


@pytest.fixture(scope="module")
def alone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one machine makes of them."""
    target = tmp_path_factory.mktemp("alone") / "out"
    assert main(["augment", str(folder), str(target), *OPTIONS]) == 1
    made = tree(target)
    assert made["manifest.jsonl"].count(b"\n") == 2 * USABLE
    assert made["skipped.jsonl"].count(b"\n") == BAD
    return made


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def command(source: Path, target: Path, cluster: TwoNodes, replicas: int = 1) -> list[str]:
    places = ["--engine", "ray", "--ray-address", cluster.address, "--ray-replicas", str(replicas)]
    return ["augment", str(source), str(target), *OPTIONS, *places]


UNENDING = """
import sys, threading
from app.__main__ import main
from app.batch.output import Writer

genuine, written = Writer.write, []

def write(self, made):
    if len(written) == 3:
        threading.Event().wait()
    genuine(self, made)
    written.append(made)

Writer.write = write
sys.exit(main(sys.argv[1:]))
"""
"""The command, which writes what three photographs gave and then waits to be killed."""


def test_an_archive_gives_what_one_machine_makes_of_the_folder(
    folder: Path, alone: dict[str, bytes], ray_cluster: TwoNodes, tmp_path: Path
):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in sorted(path for path in folder.rglob("*.jpg") if b"\xff" not in os.fsencode(path)):
            archive.write(path, path.relative_to(folder))
    assert main(command(tmp_path / "in.zip", tmp_path / "out", ray_cluster)) == 1
    made = tree(tmp_path / "out")
    assert {name for name in alone if "below" not in name} == set(made)
    assert all(made[name] == data for name, data in alone.items() if name.endswith(".jpg") and name in made)
    for name in ("manifest.jsonl", "images/metadata.jsonl"):
        lines = alone[name].splitlines()
        assert made[name].splitlines() == [line for line in lines if b"below" not in line]


def test_the_loss_of_a_worker_and_of_a_node_loses_nothing(
    folder: Path, alone: dict[str, bytes], ray_cluster: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written: list[Made] = []

    def write(writer: Writer, made: Made) -> None:
        """Do harm between what the first photographs gave and all the others."""
        if len(written) == 1:
            kill(ray_cluster.workers("MapWorker")[0])
        elif len(written) == 6:
            ray_cluster.lose_second()
        genuine(writer, made)
        written.append(made)

    genuine = Writer.write
    monkeypatch.setattr(Writer, "write", write)
    ray_cluster.complete()
    until(lambda: not ray_cluster.workers("MapWorker"), "those of the test before had ended")
    assert main(command(folder, tmp_path / "out", ray_cluster, replicas=2)) == 1
    assert len(written) == USABLE + BAD
    assert tree(tmp_path / "out") == alone


def test_a_killed_run_goes_on_where_it_was(
    folder: Path, alone: dict[str, bytes], ray_cluster: TwoNodes, tmp_path: Path
):
    out = tmp_path / "out"
    manifest = out / "manifest.jsonl"
    process = subprocess.Popen([sys.executable, "-c", UNENDING, *command(folder, out, ray_cluster)], cwd=ROOT)

    def check_alive() -> None:
        assert process.poll() is None

    until(lambda: manifest.exists() and manifest.read_bytes().count(b"\n") == 6, "three were written", check_alive)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    times = {path: path.stat().st_mtime_ns for path in (out / "images/00.jpg").iterdir()}
    assert main(command(folder, out, ray_cluster)) == 1
    assert tree(out) == alone
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_neither_ray_nor_the_web_framework_is_imported_unless_it_is_asked_for():
    dear = {"fastapi", "pyarrow", "ray", "uvicorn"}
    said = subprocess.run(
        [sys.executable, "-c", f"import sys, app.__main__; print(sorted({dear} & set(sys.modules)))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "[]\n"


def test_a_sentence_where_ray_is_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delattr("app.batch.ray")
    monkeypatch.setitem(sys.modules, "app.batch.ray", None)
    assert main(["augment", str(folder), str(tmp_path / "out"), "--engine", "ray"]) == 2
    assert "pip install 'lookalike[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--ray-replicas", "2"], "go with --engine ray"),
        (["--engine", "ray", "--ray-address", "127.0.0.1:1"], "no cluster at 127.0.0.1:1"),
    ],
)
def test_options_that_cannot_be(folder: Path, tmp_path: Path, options: list[str], sentence: str, capsys):
    assert main(["augment", str(folder), str(tmp_path / "out"), *options]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("there", "settings", "replicas", "expected"),
    [
        ({"CPU": 8.0}, {}, None, ({"num_cpus": 1.0}, 8, "cpu")),
        ({"CPU": 8.0}, {"threads": 3}, None, ({"num_cpus": 3.0}, 2, "cpu")),
        ({"CPU": 8.0, "GPU": 4.0}, {}, None, ({"num_gpus": 1.0, "num_cpus": 1.0}, 4, "cuda")),
        ({"CPU": 8.0, "GPU": 4.0}, {"device": "cpu"}, 5, ({"num_cpus": 1.0}, 5, "cpu")),
    ],
)
def test_a_replica_has_a_gpu_or_cores_of_its_own(there, settings, replicas, expected, monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: there)
    chosen = Settings(**{"device": "auto", "threads": 0} | settings)
    manifest = read_manifest(chosen.models)
    job, resources, most = on_ray._shared_out(Job(chosen, VariantsParameters(), 0), manifest, replicas)
    assert (resources, most, job.settings.device) == expected
    assert job.settings.precision in ("float32", "int8"), "not left to each machine's taste"
    assert job.settings.threads == resources["num_cpus"] if job.settings.device == "cpu" else 1


def test_a_cluster_without_room_is_refused(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8.0})
    job = Job(Settings(device="cuda"), VariantsParameters(), 0)
    manifest = read_manifest(job.settings.models)
    with pytest.raises(CannotRun, match="no room"):
        on_ray._shared_out(job, manifest, None)


def test_a_node_with_other_models_is_refused():
    job = Job(Settings(), VariantsParameters(), 0)
    manifest = read_manifest(job.settings.models)
    replica = on_ray.Replica(job, manifest.model_copy(update={"version": "another"}))
    with pytest.raises(CannotRun, match="its models are others"):
        replica(pa.table({}))
    job = Job(Settings(models=Path("/nowhere")), VariantsParameters(), 0)
    with pytest.raises(CannotRun, match="/nowhere"):
        on_ray.Replica(job, manifest)(pa.table({}))


def test_what_an_actor_gives_reads_back_as_it_was(photo: bytes):
    job = Job(Settings(), VariantsParameters(count=1), 5)
    replica = on_ray.Replica(job, read_manifest(job.settings.models))
    rows = {"name": [b"a/\xff.jpg", b"b.jpg"], "photo": [photo, b""], "refusal": [b"", b"It is a link."]}
    first, second = replica(pa.table(rows, schema=on_ray.PHOTOGRAPHS)).to_pylist()
    (line,) = json.loads(first["record"])["lines"]
    assert os.fsencode(line["source"]) == b"a/\xff.jpg"
    assert Image.open(io.BytesIO(first["images"][0])).size == (128, 128)
    assert json.loads(second["record"])["detail"] == "It is a link."
    assert second["images"] == []
