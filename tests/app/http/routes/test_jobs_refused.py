"""`/v1/jobs`: what cannot be a job, or not now, and that nothing is left of it."""

from __future__ import annotations

import errno
import gzip
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.batch.jobs import Folder, Jobs
from app.http import spool
from app.http.routes import jobs as jobs_route
from app.keys import make_key
from app.main import create_app
from app.settings import Settings
from tests.app.batch.records import record
from tests.app.http.job_bodies import SECRET, ZIP, zipped
from tests.patience import PATIENCE

KEY, ENTRY = make_key("one")
ONE = {"X-API-Key": KEY}
PACKED = ZIP | {"Content-Encoding": "gzip"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs") / "jobs"


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    settings = Settings(
        device="cpu", threads=1, batch_sizes=(1,), jobs=folder, keys=(ENTRY,), jobs_photographs=8, max_bytes=2**21,
        jobs_upload_bytes=2**22, jobs_open=2, webhook_origins=("https://hooks.example.org",), webhook_secret=SECRET,
        deadline=PATIENCE,
    )  # fmt: skip
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.mark.parametrize(
    ("content", "headers", "query", "status", "problem", "sentence"),
    [
        (b"no archive", ZIP, "", 400, "not-an-archive", "neither a tar nor a zip"),
        (b"", ZIP, "", 400, "not-an-archive", "neither a tar nor a zip"),
        (zipped({"notes.txt": b"x"}), ZIP, "", 400, "bad-request", "no photograph"),
        (b"x", {"Content-Type": "text/plain"}, "", 415, "unsupported-media-type", "'image' or 'archive'"),
        (b"x", {}, "", 415, "unsupported-media-type", "application/zip"),
        (b"x", {"Content-Type": "multipart/form-data"}, "", 400, "bad-request", "no boundary"),
        (b"--b\r\n", {"Content-Type": "multipart/form-data; boundary=b"}, "", 400, "bad-request", "cut off"),
        (b"x", ZIP, "?count=900", 422, "invalid-parameters", "count"),
        (b"x", ZIP, "?count=1&count=2", 422, "invalid-parameters", "more than once"),
        (b"x", ZIP, "?layout=pile", 422, "invalid-parameters", "layout"),
        (b"x" * (2**22 + 1), ZIP, "", 413, "too-many-bytes", "4194304"),
        (zipped({f"{number}.jpg": b"x" for number in range(9)}), ZIP, "", 413, "job-too-large", "at most 8"),
        pytest.param(
            zipped({f"{number}.txt": b"" for number in range(1081)}), ZIP, "", 413, "job-too-large", "more entries",
            id="many entries",
        ),
        pytest.param(
            gzip.compress(b"no archive"), PACKED, "", 400, "not-an-archive", "neither a tar nor a zip", id="compressed"
        ),
        pytest.param(
            gzip.compress(b"x")[:-1], PACKED, "", 400, "bad-request", "incomplete", id="compressed and cut off"
        ),
        pytest.param(
            gzip.compress(bytes(2**22 + 1)), PACKED, "", 413, "too-many-bytes", "4194304", id="compressed and too large"
        ),
        (zipped({"a.jpg": b"x"}), ZIP, "?webhook=https://example.org/", 422, "webhook-refused", "may not go"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_job(
    client: TestClient, folder: Path, content: bytes, headers: dict[str, str], query: str, status: int, problem: str,
    sentence: str,
):  # fmt: skip
    before = set(folder.iterdir())
    answer = client.post(f"/v1/jobs{query}", content=content, headers=ONE | headers)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:lookalike:problem:{problem}")
    assert sentence in answer.json()["detail"]
    assert str(folder) not in answer.text
    assert set(folder.iterdir()) <= before, "nothing is left of it"


def test_a_field_that_is_no_photograph_is_told_of(client: TestClient):
    answer = client.post("/v1/jobs", files={"picture": b"x"}, headers=ONE)
    assert answer.status_code == 422
    assert "'image' and 'archive'" in answer.json()["detail"]


@pytest.mark.parametrize("form", [False, True], ids=["an archive", "a form"])
def test_a_disk_that_is_full_is_told_of(
    client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch, form: bool
) -> None:
    class Full:
        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            """Nothing was written."""

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

    before = set(folder.iterdir())
    monkeypatch.setattr(spool, "_private", lambda _: Full())
    sent = {"files": {"image": b"x"}} if form else {"content": b"x", "headers": ZIP}
    answer = client.post("/v1/jobs", **sent | {"headers": sent.get("headers", {}) | ONE})
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (503, "jobs-full")
    assert answer.headers["retry-after"]
    assert set(folder.iterdir()) <= before


def test_uploads_that_overtake_each_other(client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Two jobs are taken on while a third is sent, which found room when it began."""
    genuine = jobs_route.unpack
    others: list[Folder] = []

    with ExitStack() as held:  # so that nobody works on them

        def unpack(*given: Any) -> tuple[int, int]:
            for _ in range(2):
                other = held.enter_context(Jobs(folder, Settings()).begun())
                other.write(record(other))
                others.append(other)
            return genuine(*given)

        monkeypatch.setattr(jobs_route, "unpack", unpack)
        answer = client.post("/v1/jobs", content=zipped({"a.jpg": b"x"}), headers=ONE | ZIP)
        assert (answer.status_code, "2 jobs wait" in answer.json()["detail"]) == (429, True)
        assert {path.name for path in folder.iterdir()} == {other.id for other in others}
        for other in others:
            assert client.delete(f"/v1/jobs/{other.id}", headers=ONE).status_code == 204
