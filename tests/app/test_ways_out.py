"""No picture leaves without its marks: the ways out that `http/routes/test_detect.py` does not walk.

Those are a contact sheet of many, jobs, `augment` in every layout and format, and the replica that a Ray cluster runs.
Tensors are no pictures and carry no mark; their description says so.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.__main__ import main
from app.batch import ray as on_ray
from app.batch.job import Job
from app.core.faces import Detector
from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from app.core.origin import Examination, Origin
from app.core.parameters import VariantsParameters
from app.core.provenance import SYNTHETIC
from app.runtime.manifest import parse_manifest, read_manifest
from app.settings import Settings
from tests.patience import until

SUFFIX = {"jpeg": "jpg", "webp": "webp", "png": "png"}
Examine = Callable[[bytes], Examination]


@pytest.fixture(scope="module")
def examine() -> Examine:
    settings = Settings(device="cpu")
    manifest, detector, origin = parse_manifest(settings.models), Detector(settings.models, "cpu", 1), Origin(settings)
    return lambda picture: origin.examine(picture, detector, (manifest.name, manifest.version))


@pytest.fixture(autouse=True)
def _on_one_cpu_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DEVICE": "cpu", "THREADS": "1", "BATCH_SIZES": "1,2"}.items():
        monkeypatch.setenv(f"LOOKALIKE_{name}", value)


@pytest.fixture(scope="module")
def people(photo: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    (folder / "alice").mkdir()
    (folder / "alice" / "1.jpg").write_bytes(photo)
    return folder


def is_marked(pictures: list[bytes], form: str, examine: Examine) -> None:
    """Each says in its metadata and its pixels that it was drawn here."""
    assert pictures
    for picture in pictures:
        assert Image.open(io.BytesIO(picture)).format == form.upper()
        found = examine(picture)
        assert (found.verdict, found.metadata.source_type) == ("drawn-by-this-model", SYNTHETIC)
        assert [mark.ours for mark in found.watermarks] == [True]


@pytest.mark.parametrize("form", SUFFIX)
@pytest.mark.parametrize("layout", ["person", "flat", "webdataset"])
def test_augment_in_every_layout(layout: str, form: str, people: Path, tmp_path: Path, examine: Examine) -> None:
    out = tmp_path / "out"
    assert main(["augment", str(people), str(out), "--count", "2", "--layout", layout, "--format", form]) == 0
    if layout == "webdataset":
        pictures = [data for name, data in packed(*out.glob("shards/*.tar")) if name.endswith(SUFFIX[form])]
    else:
        pictures = [path.read_bytes() for path in sorted(out.rglob(f"*.{SUFFIX[form]}"))]
    assert len(pictures) == 2
    is_marked(pictures, form, examine)


def packed(*archives: Path) -> list[tuple[str, bytes]]:
    files = []
    for path in archives:
        with tarfile.open(path) as archive:
            members = [member for member in archive if member.isfile()]
            files += [(member.name, archive.extractfile(member).read()) for member in members]
    return files


@pytest.mark.parametrize("form", SUFFIX)
def test_a_job_as_zip_and_as_tar(
    form: str, photo: bytes, new_client: Callable[..., TestClient], tmp_path: Path, examine: Examine
) -> None:
    client = new_client(jobs=tmp_path / "jobs")
    sent = client.post(f"/v1/jobs?count=2&format={form}", files={"image": ("alice/1.jpg", photo)})
    address = sent.headers["Location"]
    until(lambda: client.get(address).json()["state"] == "done", "the job is done")
    answer = client.get(f"{address}/result", headers={"Accept": "application/zip"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = [name for name in archive.namelist() if name.endswith(SUFFIX[form])]
        pictures = [archive.read(name) for name in names]
    assert len(pictures) == 2
    is_marked(pictures, form, examine)
    (tmp_path / "result.tar").write_bytes(
        client.get(f"{address}/result", headers={"Accept": "application/x-tar"}).content
    )
    assert [data for name, data in packed(tmp_path / "result.tar") if name.endswith(SUFFIX[form])] == pictures


@pytest.mark.parametrize("form", SUFFIX)
def test_the_replica_of_a_ray_cluster(form: str, photo: bytes, examine: Examine) -> None:
    """What a cluster writes is what its replicas give; `batch/test_ray.py` runs it all."""
    job = Job(Settings(), VariantsParameters(count=2, format=form), 5)
    replica = on_ray.Replica(job, read_manifest(job.settings.models))
    rows = {"name": [b"a.jpg"], "photo": [photo], "refusal": [b""]}
    (made,) = replica(pa.table(rows, schema=on_ray.PHOTOGRAPHS)).to_pylist()
    assert len(made["images"]) == 2
    is_marked(made["images"], form, examine)


@pytest.mark.parametrize("form", SUFFIX)
def test_the_faces_of_a_contact_sheet(form: str, client: TestClient, photo: bytes, examine: Examine) -> None:
    answer = client.post("/v1/variants?count=12&seed=1", files={"image": photo}, headers={"Accept": f"image/{form}"})
    found = examine(answer.content)
    assert (found.verdict, found.metadata.source_type) == ("drawn-by-this-model", SYNTHETIC)
    assert all(mark.ours for mark in found.watermarks)
    assert len(found.watermarks) >= 9, "each is marked by itself; the detector does not see every one of twelve faces"


def test_tensors_are_not_marked_and_say_so(client: TestClient, examine: Examine) -> None:
    (output,) = client.get("/v2/models/decoder").json()["outputs"]
    assert "without any mark of origin" in output["parameters"]["description"]
    random = np.random.default_rng(3)
    inputs = [
        {"name": "identity", "datatype": "FP32", "shape": [1, IDENTITY_SIZE]}
        | {"data": random.standard_normal(IDENTITY_SIZE).tolist()},
        {"name": "control", "datatype": "FP32", "shape": [1, CONTROL_SIZE], "data": [0.0] * CONTROL_SIZE},
    ]
    (drawn,) = client.post("/v2/models/decoder/infer", json={"inputs": inputs}).json()["outputs"]
    file = io.BytesIO()
    Image.fromarray(np.array(drawn["data"], np.uint8).reshape(drawn["shape"])[0]).save(file, "PNG")
    found = examine(file.getvalue())
    assert (found.verdict, found.watermarks) == ("no-mark-found", [])
