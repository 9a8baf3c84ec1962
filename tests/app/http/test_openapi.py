"""The description of the API: as it was, true, and good enough that a client can be generated from it."""

from __future__ import annotations

import base64
import importlib
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from app.main import create_app
from app.settings import Settings
from tests.patience import PATIENCE

SNAPSHOT = Path(__file__).with_name("openapi.json")


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    """What the command prints."""
    printed = subprocess.run(
        [sys.executable, "-m", "app", "openapi"], capture_output=True, check=True, timeout=PATIENCE
    )
    return json.loads(printed.stdout)


def test_it_is_what_it_was(description: dict[str, Any]) -> None:
    """A contract changes on purpose: `python -m app openapi > tests/app/http/openapi.json`, and look at the diff."""
    assert description == json.loads(SNAPSHOT.read_text())


def test_the_service_answers_with_the_same(client: TestClient, description: dict[str, Any]) -> None:
    assert client.get("/openapi.json").json() == description


def contents(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every body and answer: its name, media type and content."""
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
                yield f"{method} {path}", media_type, content
            for status, answer in operation["responses"].items():
                for media_type, content in answer.get("content", {}).items():
                    yield f"{method} {path} {status}", media_type, content


def test_bodies_and_answers_have_examples_that_are_valid(description: dict[str, Any]) -> None:
    count = 0
    for name, media_type, content in contents(description):
        examples = [content["example"]] if "example" in content else []
        examples += [example["value"] for example in content.get("examples", {}).values()]
        needed = media_type in ("application/problem+json", "multipart/form-data") or (
            name.startswith("post /v1/") and media_type in ("application/json", "application/x-ndjson")
        )
        assert examples or not needed, f"{name} {media_type} has no example"
        for example in examples if "json" in media_type and "ndjson" not in media_type else []:
            jsonschema.validate(example, content["schema"] | {"components": description["components"]})
            count += 1
    assert count > 50


def test_every_error_of_the_api_is_a_problem(description: dict[str, Any]) -> None:
    for path, operations in description["paths"].items():
        for operation in operations.values() if path.startswith("/v1/") else ():
            for status, answer in operation["responses"].items():
                if status >= "300":
                    assert list(answer["content"]) == ["application/problem+json"]
                    assert answer["content"]["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
                    kinds = answer["content"]["application/problem+json"]["examples"]
                    assert all(example["value"]["status"] == int(status) for example in kinds.values())


def test_what_is_described_is_what_comes(client: TestClient, description: dict[str, Any], photo: bytes) -> None:
    answer = client.post("/v1/variants?count=2&seed=1", files={"image": photo}).json()
    of_variants = description["paths"]["/v1/variants"]["post"]["responses"]["200"]["content"]["application/json"]
    jsonschema.validate(answer, of_variants["schema"] | {"components": description["components"]})
    assert answer.keys() == of_variants["example"].keys()
    assert answer["variants"][0].keys() == of_variants["example"]["variants"][0].keys()


@pytest.fixture(scope="module")
def address(running: Callable[[FastAPI], AbstractContextManager[str]]) -> Iterator[str]:
    with running(create_app(Settings(device="cpu", batch_sizes=(1, 4), deadline=PATIENCE))) as address:
        yield address


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ModuleType]]:
    """Imports modules of the client that openapi-python-client makes of the snapshot."""
    folder = tmp_path_factory.mktemp("generated")
    options = ["--path", str(SNAPSHOT), "--meta", "none", "--output-path", str(folder / "lookalike_client")]
    made = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"lookalike_client.{name}")
    sys.path.remove(str(folder))


def pixels(image: str) -> bytes:
    return Image.open(io.BytesIO(base64.b64decode(image))).tobytes()


def test_a_generated_client_works(generated: Callable[[str], ModuleType], address: str, photo: bytes) -> None:
    types, models = generated("types"), generated("models")
    client = generated("client").AuthenticatedClient(
        f"http://{address}", token="any", timeout=httpx.Timeout(PATIENCE), raise_on_unexpected_status=True
    )

    def upload() -> Any:
        return types.File(payload=photo, file_name="face.jpg", mime_type="image/jpeg")

    made = generated("api.faces.create_variants").sync(
        client=client, body=models.CreateVariantsFilesBody(image=upload()), count=2, seed=5
    )
    assert isinstance(made, models.VariantsAnswer)
    assert (len(made.variants), made.seed) == (2, 5)
    assert -1 <= made.variants[0].similarity <= 1

    request = models.RenderRequest(identity=made.source.identity, controls=[made.variants[0].control])
    again = generated("api.faces.render_identity").sync(client=client, body=request)
    assert isinstance(again, models.RenderAnswer)
    # The same picture; its metadata names another answer.
    assert pixels(again.variants[0].image) == pixels(made.variants[0].image)

    compared = generated("api.faces.compare_faces").sync(
        client=client, body=models.CompareFacesFilesBody(reference=upload(), probe=upload())
    )
    assert isinstance(compared, models.CompareAnswer)
    assert compared.similarity == pytest.approx(1, abs=1e-3)
    assert all(verdict.match for verdict in compared.verdicts)

    model = generated("api.model.get_model").sync(client=client)
    assert isinstance(model, models.ModelAnswer)
    assert len(model.controls) == 10


def test_a_generated_client_reads_problems(generated: Callable[[str], ModuleType], address: str) -> None:
    types, models = generated("types"), generated("models")
    client = generated("client").AuthenticatedClient(f"http://{address}", token="any", timeout=httpx.Timeout(PATIENCE))
    body = models.CreateVariantsFilesBody(image=types.File(payload=b"no picture", file_name="a.jpg"))
    problem = generated("api.faces.create_variants").sync(client=client, body=body)
    assert isinstance(problem, models.Problem)
    assert (problem.status, problem.type_) == (400, "urn:lookalike:problem:not-an-image")


def test_the_documentation_page_needs_nobody_else(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "http" not in page.text.replace("http-equiv", "")
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "docs.js"):
        assert f"docs/{name}" in page.text
        answer = client.get(f"/docs/{name}")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/")
        assert "'unsafe-eval'" not in answer.headers["Content-Security-Policy"]
    answer = client.get("/docs/no.js")
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")
