"""Controls by name: the same as by number, wherever controls are taken; and a word on names that are unknown."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.batch.jobs import Folder
from app.core.controls import places, vectors
from app.errors import UnknownControl
from app.runtime.manifest import parse_manifest
from app.settings import Settings

NAMES = parse_manifest(Settings().models).control_names
FIRST, THIRD = NAMES[0], NAMES[2]
NAMED = {FIRST: 0.5, THIRD: -1}
NUMBERS = [0.5, 0.0, -1.0] + [0.0] * 7
UNKNOWN = "urn:lookalike:problem:unknown-control"


def ask(client: TestClient, photo: bytes, where: str, parameters: dict[str, Any]) -> Any:
    """The same request with its parameters in the query, in the form, or in JSON."""
    written = {name: value if isinstance(value, int) else json.dumps(value) for name, value in parameters.items()}
    if where == "query":
        return client.post("/v1/variants", params=written, files={"image": photo})
    if where == "form":
        data = {name: str(value) for name, value in written.items()}
        return client.post("/v1/variants", data=data, files={"image": photo})
    return client.post("/v1/variants", json={"image": base64.b64encode(photo).decode()} | parameters)


@pytest.fixture(scope="module")
def kept(client: TestClient, photo: bytes) -> dict[str, Any]:
    face = client.post("/v1/identities", files={"image": photo}).json()["faces"][0]
    return {"identity": face["identity"], "reference": face["reference"]}


@pytest.mark.parametrize("where", ["query", "form", "json"])
def test_names_are_another_way_to_write_numbers(client: TestClient, photo: bytes, where: str) -> None:
    by_number = ask(client, photo, where, {"controls": [NUMBERS, [0.0] * 10]}).json()
    by_name = ask(client, photo, where, {"controls": [NAMED, {}]}).json()
    assert by_name == by_number
    mixed = ask(client, photo, where, {"controls": [NUMBERS, {}]}).json()
    assert mixed == by_number
    alone = ask(client, photo, where, {"controls": NAMED}).json()
    assert [variant["control"] for variant in alone["variants"]] == [NUMBERS]
    assert alone["seed"] is None


@pytest.mark.parametrize("where", ["query", "form", "json"])
def test_with_a_count_the_rest_is_drawn_at_random(client: TestClient, photo: bytes, where: str) -> None:
    answer = ask(client, photo, where, {"controls": NAMED, "count": 3, "seed": 4}).json()
    free = ask(client, photo, where, {"count": 3, "seed": 4}).json()
    got, drawn = (np.array([variant["control"] for variant in each["variants"]]) for each in (answer, free))
    assert got[:, [0, 2]].tolist() == [[0.5, -1.0]] * 3
    assert np.array_equal(np.delete(got, [0, 2], 1), np.delete(drawn, [0, 2], 1))
    assert answer["seed"] == 4
    assert answer["id"] != free["id"]
    assert ask(client, photo, where, {"controls": NAMED, "count": 3, "seed": 4}).json() == answer


def test_a_search_keeps_them_too(client: TestClient, photo: bytes) -> None:
    search = {"controls": {FIRST: 0.25}, "count": 4, "seed": 1, "similarity_max": 0.9}
    answer = ask(client, photo, "json", search).json()
    assert answer["variants"]
    assert {variant["control"][0] for variant in answer["variants"]} == {0.25}
    assert all(variant["similarity"] <= 0.9 for variant in answer["variants"])


def test_render_takes_names(client: TestClient, kept: dict[str, Any]) -> None:
    by_name = client.post("/v1/render", json=kept | {"controls": [NAMED]}).json()
    assert by_name == client.post("/v1/render", json=kept | {"controls": [NUMBERS]}).json()
    alone = client.post("/v1/render", json=kept | {"controls": NAMED, "count": 2, "seed": 1}).json()
    assert [variant["control"][0] for variant in alone["variants"]] == [0.5, 0.5]


@pytest.mark.parametrize("where", ["query", "form", "json"])
@pytest.mark.parametrize("count", [{}, {"count": 2}])
def test_an_unknown_name_is_told_with_those_there_are(
    client: TestClient, photo: bytes, where: str, count: dict[str, int]
) -> None:
    answer = ask(client, photo, where, {"controls": {"no such control": 0.5}} | count)
    assert (answer.status_code, answer.json()["type"]) == (422, UNKNOWN)
    for name in ("no such control", *NAMES):
        assert name in answer.json()["detail"]


def test_render_and_sweep_tell_it_too(client: TestClient, photo: bytes, kept: dict[str, Any]) -> None:
    rendered = client.post("/v1/render", json=kept | {"controls": [{"no_such": 0}]})
    swept = client.post("/v1/sweep?control=no_such", files={"image": photo})
    for answer in (rendered, swept):
        assert (answer.status_code, answer.json()["type"]) == (422, UNKNOWN)
        assert NAMES[-1] in answer.json()["detail"]


@pytest.mark.parametrize(
    ("controls", "what"),
    [
        ({FIRST: 1.5}, f"'{FIRST}' must be a number from -1 to 1"),
        ({FIRST: True}, f"'{FIRST}' must be a number from -1 to 1"),
        ([[0.0] * 10, {FIRST: "0.5"}], f"controls.1: '{FIRST}' must be a number from -1 to 1"),
        ({str(place): 0.0 for place in range(11)}, "more than 10 controls"),
        (0.5, "controls: "),
    ],
)
@pytest.mark.parametrize("where", ["query", "json"])
def test_what_is_no_number_is_told_by_its_name(
    client: TestClient, photo: bytes, where: str, controls: object, what: str
) -> None:
    parameters = {"controls": controls if where == "json" else json.dumps(controls)}
    if where == "json":
        answer = ask(client, photo, where, parameters)
    else:
        answer = client.post("/v1/variants", params=parameters, files={"image": photo})
    assert answer.status_code == 422
    assert what in answer.json()["detail"]


@pytest.mark.parametrize("where", ["query", "form"])
def test_a_name_stands_once(client: TestClient, photo: bytes, where: str) -> None:
    written = {"controls": f'{{"{FIRST}": 1, "{FIRST}": 0}}'}
    given = {"params": written} if where == "query" else {"data": written}
    answer = client.post("/v1/variants", files={"image": photo}, **given)
    assert answer.status_code == 422
    assert "each once" in answer.json()["detail"]


def test_names_are_those_of_the_model_however_their_words_are_joined() -> None:
    names = ["age", "eye height", "nose_width"]
    assert vectors([{"Eye_Height": 1, "nose width": -1}], names) == [[0, 1, -1]]
    assert places({"eye-height": 0.5}, names) == {1: 0.5}
    with pytest.raises(UnknownControl, match="'eye height' is named more than once"):
        places({"eye height": 1, "eye_height": 1}, names)
    with pytest.raises(UnknownControl, match=r"age, eye height, nose_width\. Did you mean 'nose_width'\?"):
        places({"nose widht": 1}, names)


def test_jobs_take_names_and_refuse_unknown_ones_before_anything_is_kept(
    new_client: Any, photo: bytes, tmp_path: Path
) -> None:
    client = new_client(jobs=tmp_path)
    files = {"image": ("bob.jpg", photo)}
    for given in ({"params": {"controls": '{"no_such": 1}'}}, {"data": {"controls": '[{"no_such": 1}]'}}):
        answer = client.post("/v1/jobs", files=files, **given)
        assert (answer.status_code, answer.json()["type"]) == (422, UNKNOWN)
    assert list(tmp_path.iterdir()) == []
    answer = client.post("/v1/jobs", files=files, data={"controls": json.dumps([NAMED])})
    assert answer.status_code == 202
    record = Folder(tmp_path / answer.json()["id"]).read()
    assert record is not None
    assert record.parameters.controls == [NUMBERS]
    answer = client.post("/v1/jobs", files=files, data={"controls": json.dumps(NAMED), "count": "2"})
    record = Folder(tmp_path / answer.json()["id"]).read()
    assert record is not None
    assert (record.parameters.controls, record.parameters.images) == (NAMED, 2)
