from __future__ import annotations

import hashlib

import pytest
from fastapi.testclient import TestClient

from app.runtime.manifest import Control
from app.settings import Settings


def test_the_model_describes_itself(client: TestClient) -> None:
    model = client.get("/v1/model").json()
    assert (model["frame_size"], model["identity_size"], model["control_size"]) == (128, 70, 10)
    assert [control["index"] for control in model["controls"]] == list(range(10))
    assert len({control["name"] for control in model["controls"]}) == 10
    assert all(control["effect"] for control in model["controls"])
    assert model["thresholds"]["fmr_1e-2"] < model["thresholds"]["fmr_1e-3"] < model["thresholds"]["fmr_1e-4"]
    assert model["lookalike_band"] == [model["thresholds"]["fmr_1e-3"], model["thresholds"]["genuine_median"]]
    assert model["device"] == "cpu"
    assert model["card"].startswith("#")


def test_the_ends_of_a_control_are_told_where_the_model_names_them(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = client.app.state.service.engine.manifest
    named = Control(name="nose width", effect="wider", low="narrow", high="wide", unit="% of the frame")
    monkeypatch.setattr(manifest, "controls", [named, *manifest.controls[1:]])
    first, second, *_ = client.get("/v1/model").json()["controls"]
    assert first == {"index": 0} | named.model_dump()
    assert set(second) == set(first)


def test_its_checksums_are_those_of_the_files(client: TestClient) -> None:
    for network in client.get("/v1/model").json()["networks"].values():
        data = (Settings().models / network["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == network["sha256"]


def test_it_answers_in_json_only(client: TestClient) -> None:
    assert client.get("/v1/model", headers={"Accept": "text/html"}).status_code == 406
