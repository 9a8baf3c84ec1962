"""`/v1/jobs`: many photographs to come back for, whoever is killed meanwhile; and nobody else's."""

from __future__ import annotations

import asyncio
import io
import json
import stat
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.__main__ import main
from app.batch import webhooks
from app.batch.jobs import Jobs
from app.batch.worker import Worker
from app.keys import make_key
from app.main import create_app
from app.settings import Settings
from app.telemetry.metrics import Metrics
from tests.app.batch.records import record
from tests.app.http.job_bodies import SECRET, ZIP, zipped
from tests.conftest import encoded
from tests.patience import PATIENCE, until
from tests.server import Server

KEYS = dict(make_key(name) for name in ("one", "two"))
ONE, TWO = ({"X-API-Key": key} for key in KEYS)


@pytest.fixture(scope="module")
def photographs(portrait: Image.Image) -> dict[str, bytes]:
    """Two photographs of one person, one of another, and two files that will not do."""
    lit = [Image.fromarray(np.uint8(np.asarray(portrait) * light)) for light in (1, 0.9, 0.8)]
    names = ("alice/1.jpg", "alice/2.jpg", "bob.png")
    made = {name: encoded(image, name[-3:].replace("jpg", "JPEG")) for name, image in zip(names, lit, strict=True)}
    return made | {"bad.jpg": b"no picture", "../up.jpg": made["bob.png"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs") / "jobs"


@pytest.fixture(scope="module")
def hooks() -> Iterator[HTTPServer]:
    """Somebody who is told of a job's end: notes what comes, and answers as its list says."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.got.append((self.path, dict(self.headers), body))
            status = self.server.answers.pop(0) if self.server.answers else 204
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - as the server looks it up

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.answers = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def origin(hooks: HTTPServer) -> str:
    return f"http://127.0.0.1:{hooks.server_port}"


@pytest.fixture(scope="module")
def client(folder: Path, hooks: HTTPServer) -> Iterator[TestClient]:
    settings = Settings(
        device="cpu", threads=1, batch_sizes=(1,), jobs=folder, keys=tuple(KEYS.values()), jobs_photographs=8,
        jobs_disk_bytes=2**24, max_bytes=2**21, jobs_upload_bytes=2**22, jobs_open=2, webhook_origins=(origin(hooks),),
        webhook_private=True, webhook_secret=SECRET, deadline=PATIENCE,
    )  # fmt: skip
    with TestClient(create_app(settings)) as client, pytest.MonkeyPatch.context() as patch:
        patch.setattr(webhooks, "SECONDS", PATIENCE)
        yield client


def post(
    client: TestClient | httpx.Client, files: dict[str, bytes], key: dict[str, str] = ONE, **parameters: Any
) -> str:
    answer = client.post("/v1/jobs", content=zipped(files), params=parameters, headers=key | ZIP)
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "queued"
    return answer.headers["location"]


def ended(client: TestClient | httpx.Client, where: str, key: dict[str, str] = ONE) -> dict[str, Any]:
    def asked() -> dict[str, Any] | None:
        job = client.get(where, headers=key).json()
        return job if job["state"] in ("done", "failed") else None

    return until(asked, "the job had ended")


def result(client: TestClient | httpx.Client, job: dict[str, Any], key: dict[str, str] = ONE) -> dict[str, bytes]:
    answer = client.get(job["result"], headers=key)
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def everything(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")


def test_an_archive_gives_what_augment_makes_of_it(
    client: TestClient, folder: Path, photographs: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    job = ended(client, post(client, photographs, count=2, seed=5))
    told = {name: job[name] for name in ("state", "photographs", "used", "skipped", "images", "seed", "problem")}
    assert told == {
        "state": "done", "photographs": 5, "used": 3, "skipped": 2, "images": 6, "seed": 5, "problem": None,
    }  # fmt: skip
    for name, value in {"DEVICE": "cpu", "THREADS": "1", "BATCH_SIZES": "1"}.items():
        monkeypatch.setenv(f"LOOKALIKE_{name}", value)
    (tmp_path / "in.zip").write_bytes(zipped(photographs))
    assert main(["augment", str(tmp_path / "in.zip"), str(tmp_path / "out"), "--count", "2", "--seed", "5"]) == 1
    made = result(client, job)
    there = {str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in everything(tmp_path / "out")}
    assert made.keys() == there.keys()
    same = [name for name in made if name not in ("run.json", "skipped.jsonl")]
    assert {name: made[name] for name in same} == {name: there[name] for name in same}
    skipped = [{json.loads(line)["source"] for line in each["skipped.jsonl"].splitlines()} for each in (made, there)]
    assert skipped[0] == skipped[1] == {"bad.jpg", "../up.jpg"}
    assert client.get(job["result"], headers=ONE).content == client.get(job["result"], headers=ONE).content


def test_files_of_a_form_with_names_and_a_tar(client: TestClient, photographs: dict[str, bytes]):
    photo = photographs["bob.png"]
    files = [("image", (name, photo)) for name in ("alice/1.png", "alice/1.png", "../../x.png", "")]
    files.append(("archive", ("more.zip", zipped({"in/zip.png": photo}))))
    answer = client.post("/v1/jobs", files=files, data={"count": "1", "layout": "flat"}, headers=ONE)
    job = ended(client, answer.headers["location"])
    assert (job["used"], job["skipped"]) == (5, 0)
    content = client.get(job["result"], headers=ONE | {"Accept": "application/x-tar"}).content
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = archive.getnames()
        rows = [json.loads(line) for line in archive.extractfile("manifest.jsonl").read().splitlines()]
    assert {row["source"] for row in rows} == {"alice/1.png", "alice/1-2.png", "x.png", "photograph", "in/zip.png"}
    assert "images/alice__1.png-0000.jpg" in names


def test_another_key_finds_nothing(client: TestClient, photographs: dict[str, bytes]):
    where = post(client, {"a.png": photographs["bob.png"]}, count=1)
    ended(client, where)
    for answer in (client.get(where, headers=TWO), client.get(f"{where}/result", headers=TWO)):
        assert answer.status_code == 404
    assert client.delete(where, headers=TWO).status_code == 404
    mine, theirs = (client.get("/v1/jobs", headers=key).json()["jobs"] for key in (ONE, TWO))
    assert where.rpartition("/")[2] in {job["id"] for job in mine}
    assert where.rpartition("/")[2] not in {job["id"] for job in theirs}
    assert client.get(where).status_code == 401


def test_a_deleted_job_is_gone(client: TestClient, folder: Path, photographs: dict[str, bytes]):
    where = post(client, photographs, count=64)
    assert client.delete(where, headers=ONE).status_code == 204
    assert client.get(where, headers=ONE).status_code == 404
    assert client.delete(where, headers=ONE).status_code == 404
    until(lambda: not (folder / where.rpartition("/")[2]).exists(), "its folder is gone")
    for path in ("0" * 32, "x", "..%2f..", "0" * 31 + "g"):
        assert client.get(f"/v1/jobs/{path}", headers=ONE).status_code == 404


def test_a_job_deleted_before_it_was_begun_leaves_nothing(tmp_path: Path):
    jobs = Jobs(tmp_path, Settings())
    with jobs.begun() as listed:
        listed.write(record(listed))
    records = jobs.records()
    jobs.delete(listed)

    async def begin() -> None:
        worker = Worker(jobs, None, Metrics(), None)
        worker._begin(records)
        await asyncio.gather(*worker._tasks.values())

    asyncio.run(begin())
    assert list(tmp_path.iterdir()) == []


def test_jobs_are_off_without_a_folder_and_unlisted_without_keys(
    new_client: Callable[..., TestClient], tmp_path: Path, photographs: dict[str, bytes]
):
    off = new_client()
    assert off.post("/v1/jobs", content=b"x", headers=ZIP).status_code == 404
    assert "LOOKALIKE_JOBS" in off.get("/v1/jobs").json()["detail"]
    on = new_client(jobs=tmp_path / "jobs")
    job = ended(on, post(on, {"a.png": photographs["bob.png"]}, {}, count=1), {})
    assert job["images"] == 1
    assert on.get("/v1/jobs").status_code == 403


def test_metrics_count_jobs(client: TestClient, photographs: dict[str, bytes]):
    ended(client, post(client, photographs, count=1))
    text = client.get("/metrics").text
    assert 'lookalike_jobs_ended_total{state="done"}' in text
    assert 'lookalike_job_photographs_total{outcome="used"}' in text
    assert 'lookalike_job_photographs_total{outcome="not-an-image"}' in text


# A service that is killed


LIMITED = {"threads": 1, "batch_sizes": "1", "rate_limit": "64/hour", "jobs_open": 1}


def test_a_killed_service_goes_on_where_it_was(
    serve: Callable[..., Server], photographs: dict[str, bytes], tmp_path: Path
):
    """The rate limit lets two photographs of three through, so that it is known where the job stops.

    It is 64 images an hour at the least, and what is charged stays charged: 56 go to a request that draws nothing.
    """
    good = {name: photographs[name] for name in ("alice/1.jpg", "alice/2.jpg", "bob.png")} | {"a.jpg": b"no picture"}
    jobs = tmp_path / "jobs"
    first = serve(fork=True, jobs=jobs, **LIMITED).until_ready()
    with httpx.Client(base_url=first.address, timeout=PATIENCE) as client:
        assert first.post("/v1/variants?count=56", b"no picture").status_code == 400
        where = post(client, good, {}, count=4, seed=7)
        until(lambda: client.get(where).json()["used"] == 2, "two were used")
        answer = client.get(f"{where}/result")
        assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (409, "job-not-done")
        again = client.post("/v1/jobs", content=zipped(good), headers=ZIP)
        assert (again.status_code, "delete one" in again.json()["detail"]) == (429, True)
    folder = jobs / where.rpartition("/")[2]
    left = sorted(path.name for path in (folder / "photographs").iterdir())
    assert left == ["000002", "000003"], "what was used is removed"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in everything(folder)} == {0o600}
    first.stop()

    second = serve(fork=True, jobs=jobs, threads=1, batch_sizes="1").until_ready()
    with httpx.Client(base_url=second.address, timeout=PATIENCE) as client:
        stopped = ended(client, where, {})
        whole = ended(client, post(client, good, {}, count=4, seed=7), {})
        assert (stopped["used"], stopped["skipped"], stopped["images"]) == (3, 1, 12)
        assert result(client, stopped, {}) == result(client, whole, {})
    assert {path.parent.name for path in everything(jobs)}.isdisjoint({"photographs", "sent"})


# The disk


def aged(jobs: Jobs, seconds: float) -> None:
    for folder in jobs.folders():
        if record := folder.read():
            folder.write(record.model_copy(update={"ended": time.time() - seconds}))


def test_results_are_removed_after_a_time_and_so_is_what_was_cut_off(
    client: TestClient, photographs: dict[str, bytes], folder: Path
):
    where = post(client, {"a.png": photographs["bob.png"]}, count=1)
    ended(client, where)
    jobs = Jobs(folder, Settings(jobs_keep_seconds=100))
    aged(jobs, 50)
    (folder / ".gone-old").mkdir()
    (folder / ("a" * 32)).mkdir()
    with jobs.begun() as sending:
        until(lambda: jobs.tidy() or not (folder / ("a" * 32)).exists(), "one is removed")  # the service tidies as well
        assert client.get(where, headers=ONE).status_code == 200
        assert sending.path.exists(), "an upload that goes on is left alone"
        assert not (folder / ".gone-old").exists()
    assert not sending.path.exists()
    aged(jobs, 101)
    # The service may have one in its hands yet, just after its end.
    until(lambda: jobs.tidy() or not list(jobs.folders()), "all are removed")
    assert client.get(where, headers=ONE).status_code == 404


def test_the_disk_is_bounded(client: TestClient, photographs: dict[str, bytes], folder: Path):
    where = post(client, {"a.png": photographs["bob.png"]}, count=1)
    ended(client, where)
    job = Jobs(folder, Settings()).find(where.rpartition("/")[2], "one")
    job[0].write(job[1].model_copy(update={"bytes": 2**24}))
    answer = client.post("/v1/jobs", content=zipped(photographs), headers=ONE | ZIP)
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (503, "jobs-full")
    assert answer.headers["retry-after"]
    assert client.delete(where, headers=ONE).status_code == 204
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(8):
            archive.writestr(f"{number}.jpg", bytes(2**21))
        archive.writestr("9.jpg", b"")
    answer = client.post("/v1/jobs", content=bomb.getvalue(), headers=ONE | ZIP)
    assert answer.status_code == 413


# Webhooks


def test_the_end_is_told_and_signed(client: TestClient, hooks: HTTPServer, photographs: dict[str, bytes]):
    from standardwebhooks.webhooks import Webhook, WebhookVerificationError

    hooks.got.clear()
    where = post(client, {"a.png": photographs["bob.png"]}, count=1, webhook=f"{origin(hooks)}/told?from=jobs")
    ended(client, where)
    until(lambda: client.get(where, headers=ONE).json()["webhook"]["state"] == "delivered", "it was told")
    ((path, headers, body),) = hooks.got
    assert path == "/told?from=jobs"
    headers = {name.lower(): value for name, value in headers.items()}
    told = Webhook(SECRET).verify(body, headers)
    assert told["type"] == "job.done"
    assert told["data"] == {
        "id": where.rpartition("/")[2], "state": "done", "photographs": 1, "used": 1, "skipped": 0, "images": 1,
        "problem": "",
    }  # fmt: skip
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", headers)


def test_redirects_are_not_followed_and_failures_are_tried_again(
    client: TestClient, hooks: HTTPServer, photographs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(webhooks, "WAITS", (0.01, 0.01))
    for answers, state in (([302, 500], "delivered"), ([302, 503, 404], "failed")):
        hooks.got.clear()
        hooks.answers[:] = answers
        where = post(client, {"a.png": photographs["bob.png"]}, count=1, webhook=f"{origin(hooks)}/told")
        hook = until(
            lambda: (hook := client.get(where, headers=ONE).json()["webhook"])["state"] != "pending" and hook,  # noqa: B023
            "it was told or given up",
        )
        assert (hook["state"], hook["attempts"]) == (state, 3)
        assert {path for path, _, _ in hooks.got} == {"/told"}
        assert len({headers["webhook-id"] for _, headers, _ in hooks.got}) == 1
