"""deploy/ray: serve.yaml on a Ray cluster of two nodes; what a client gets, and what is lost with a replica."""

from __future__ import annotations

import copy
import io
import json
import os
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
import yaml
from fastapi.testclient import TestClient
from pydantic import ValidationError
from ray import serve
from ray.serve.schema import ServeDeploySchema

from app.main import create_app
from app.settings import Settings
from deploy.ray.service import Arguments, Replica, build
from tests.crowd import Crowd
from tests.patience import PATIENCE, until
from tests.ports import Port
from tests.ray_cluster import TwoNodes, busiest, kill

SETTINGS = {"device": "cpu", "threads": 1, "batch_sizes": "1,2", "deadline": PATIENCE}
QUERY = {"count": 3, "seed": 7}
TRIES = 5


@pytest.fixture(scope="module")
def config(root: Path) -> dict[str, Any]:
    """serve.yaml."""
    read: dict[str, Any] = yaml.safe_load((root / "deploy/ray/serve.yaml").read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="module")
def served(
    root: Path,
    config: dict[str, Any],
    ray_cluster: TwoNodes,
    program: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[httpx.Client]:
    """serve.yaml served, with a free port, two replicas, and as little to compute as there may be."""
    config = copy.deepcopy(config)
    port = Port()
    config["http_options"] |= {"port": port.number, "request_timeout_s": 2 * PATIENCE}
    config["proxy_location"] = "HeadOnly"  # both nodes are one machine, which has this port once
    (application,) = config["applications"]
    application["args"] |= {"least_replicas": 2, "cpus": 0.5, "settings": SETTINGS}
    path = tmp_path_factory.mktemp("serve") / "serve.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    ray_cluster.complete()
    command = [program("serve"), "run", "--non-blocking", "--address", ray_cluster.address, str(path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LOOKALIKE_")}
    # Where its proxies are not up after a minute it gives up; told again it waits for the same ones.
    for _ in range(TRIES):
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    with httpx.Client(base_url=f"http://127.0.0.1:{port.number}", timeout=PATIENCE) as client:

        def ready() -> bool:
            try:
                return client.get("/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        until(ready, "it was ready")
        until(lambda: len(ray_cluster.workers("ServeReplica")) == 2, "both replicas were there")
        yield client
    ray.init(address=ray_cluster.address, log_to_driver=False, logging_level="error")
    serve.shutdown()
    ray.shutdown()
    port.release()


@pytest.fixture(scope="module")
def plain() -> Iterator[TestClient]:
    """The same without Ray."""
    with TestClient(create_app(Settings(**SETTINGS))) as client:
        yield client


def ask(client: httpx.Client, photo: bytes, accept: str, **changes: object) -> httpx.Response:
    headers = {"Accept": accept, "Content-Type": "image/jpeg"}
    return client.post("/v1/variants", params=QUERY | changes, content=photo, headers=headers)


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "application/zip", "image/png"])
def test_the_bytes_are_those_of_the_plain_application(
    served: httpx.Client, plain: TestClient, photo: bytes, accept: str
):
    ours, theirs = ask(served, photo, accept), ask(plain, photo, accept)
    assert (ours.status_code, ours.headers["content-type"]) == (200, theirs.headers["content-type"])
    if accept.endswith("zip"):
        archives = [zipfile.ZipFile(io.BytesIO(answer.content)) for answer in (ours, theirs)]
        ours_read, theirs_read = [{name: archive.read(name) for name in archive.namelist()} for archive in archives]
        assert ours_read == theirs_read
    else:
        assert ours.content == theirs.content
    for name in ("x-lookalike-id", "x-lookalike-seed", "x-lookalike-similarity", "x-content-type-options"):
        assert ours.headers.get(name) == theirs.headers.get(name)


def test_variants_stream_as_they_are_made(served: httpx.Client, photo: bytes):
    headers = {"Accept": "application/x-ndjson", "Content-Type": "image/jpeg"}

    def first_of_several() -> bool:
        """Whether the first came alone; to a client that got no core meanwhile they may all come at once."""
        with served.stream("POST", "/v1/variants?count=32&seed=1", content=photo, headers=headers) as answer:
            parts = list(answer.iter_raw())
        assert [json.loads(line)["index"] for line in b"".join(parts).splitlines()] == list(range(32))
        return parts[0].count(b"\n") < 16

    until(first_of_several, "some came before the others")


@pytest.mark.parametrize("changes", [{"count": 99}, {"face": 5}, {"nonsense": 1}])
def test_problems_are_those_of_the_plain_application(
    served: httpx.Client, plain: TestClient, photo: bytes, changes: dict[str, object]
):
    ours, theirs = (ask(client, photo, "application/json", **changes) for client in (served, plain))
    assert ours.status_code == theirs.status_code >= 400
    assert ours.headers["content-type"] == "application/problem+json"
    assert {**ours.json(), "request_id": ""} == {**theirs.json(), "request_id": ""}
    assert ours.headers.get_list("x-request-id") == [ours.json()["request_id"]]


def test_a_body_that_is_too_large_is_refused(served: httpx.Client):
    assert ask(served, bytes(17 * 2**20), "application/json").status_code == 413


def test_the_rest_comes_through(served: httpx.Client):
    metrics = served.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'lookalike_model_info{device="cpu"' in metrics.text
    assert served.get("/").headers["content-security-policy"].startswith("default-src 'none'")
    assert served.head("/v1/model").content == b""
    assert served.get("/v1/model/").status_code == 404
    assert served.get("/v1/model", headers={"X-Request-ID": "mine.1"}).headers.get_list("x-request-id") == ["mine.1"]


class Clients(Crowd):
    """Three clients, and what they got: when each was asked, its status, and its content."""

    def __init__(self, address: httpx.URL, photo: bytes) -> None:
        super().__init__([self._ask] * 3)
        self.answers: list[tuple[float, int, bytes]] = []
        self._client, self._photo = httpx.Client(base_url=address, timeout=PATIENCE), photo

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._client.close()

    def _ask(self) -> None:
        begun = time.monotonic()
        try:
            answer = ask(self._client, self._photo, "application/json", count=1)
            self.answers.append((begun, answer.status_code, answer.content))
        except httpx.TransportError as error:
            self.answers.append((begun, 0, str(error).encode()))
        time.sleep(0.2)  # or what is drawn takes the cores that what replaces a loss begins on


@pytest.mark.parametrize("loss", ["a replica", "a node"])
def test_a_loss_is_over_once_it_is_noticed(served: httpx.Client, ray_cluster: TwoNodes, photo: bytes, loss: str):
    right = ask(served, photo, "application/json", count=1).content
    before = set(until(lambda: len(found := ray_cluster.workers("ServeReplica")) == 2 and found, "both were there"))
    with Clients(served.base_url, photo) as crowd:
        until(lambda: len(crowd.answers) > 6, "requests were answered")
        if loss == "a replica":
            kill(busiest(before))
        else:
            ray_cluster.lose_second()
        until(lambda: set(ray_cluster.workers("ServeReplica")) - before, "it was replaced")
        replaced = time.monotonic()

        def noticed_since() -> float:
            """Since when none fails, once six were answered in a row: the proxy hears of a loss a little later."""
            row = sorted(crowd.answers)[-6:]
            return row[0][0] * all(begun > replaced and status == 200 for begun, status, _ in row)

        noticed = until(noticed_since, "requests were answered again")
        until(lambda: sum(begun > noticed for begun, *_ in crowd.answers) > 20, "more were answered")
    assert all(content == right for _, status, content in crowd.answers if status == 200)
    # Serve does not repeat what a replica had begun.
    failed = [(begun, status) for begun, status, _ in crowd.answers if status != 200]
    assert all(begun < noticed and status == 500 for begun, status in failed)
    if loss == "a replica":
        assert len(failed) <= 3


def test_a_replica_whose_networks_fail_is_unhealthy():
    replica = Replica(SETTINGS)
    with TestClient(replica.__serve_build_asgi_app__()) as client:
        replica.check_health()
        service = client.app.state.service
        service.engine.decoder.run = None
        client.portal.call(service.doubt)
        until(lambda: client.get("/health/ready").status_code == 503, "it was not ready")
        with pytest.raises(RuntimeError, match="networks fail"):
            client.portal.call(replica.check_health)


def test_serve_yaml_is_what_ray_and_the_application_take(config: dict[str, Any]):
    schema = ServeDeploySchema.model_validate(config)
    (application,) = schema.applications
    assert application.import_path == "deploy.ray.service:build"
    arguments = Arguments.model_validate(application.args)
    built = build(arguments)
    (deployment,) = schema.applications[0].deployments
    assert deployment.name == built._bound_deployment.name
    settings = Settings(**arguments.service())
    assert schema.http_options.request_timeout_s > settings.deadline
    assert deployment.graceful_shutdown_timeout_s > settings.deadline
    assert deployment.max_ongoing_requests >= arguments.target_requests


def test_a_replica_has_a_gpu_of_its_own():
    arguments = Arguments(gpus=1, least_replicas=2, most_replicas=8)
    deployment = build(arguments)._bound_deployment
    assert deployment.ray_actor_options["num_gpus"] == 1
    assert deployment._deployment_config.autoscaling_config.max_replicas == 8
    assert Settings(**arguments.service()).device == "cuda"
    assert Settings(**Arguments(cpus=4, settings={"threads": 2}).service()).threads == 2


@pytest.mark.parametrize("wrong", [{"replicas": 2}, {"gpus": -1}, {"settings": {"dedline": 3}}])
def test_arguments_that_cannot_be(wrong: dict[str, object]):
    with pytest.raises(ValidationError):
        build(Arguments.model_validate(wrong))
