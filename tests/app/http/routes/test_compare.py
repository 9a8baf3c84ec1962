from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.core.cohort import Cohort
from app.core.faces import EMBEDDING_SIZE
from app.errors import CohortInvalid
from app.main import check
from app.runtime.manifest import read_manifest
from app.settings import Settings
from tests.conftest import encoded


def compare(client: TestClient, reference: bytes, probe: bytes, **parameters: object) -> Any:
    return client.post("/v1/compare", params=parameters, files={"reference": reference, "probe": probe})


def test_a_face_is_like_itself(client: TestClient, photo: bytes) -> None:
    answer = compare(client, photo, photo).json()
    assert answer["similarity"] == 1
    assert [verdict["match"] for verdict in answer["verdicts"]] == [True] * 3
    assert [verdict["fmr"] for verdict in answer["verdicts"]] == [1e-2, 1e-3, 1e-4]


def test_verdicts_follow_the_models_thresholds(client: TestClient, photo: bytes, group: bytes) -> None:
    thresholds = client.get("/v1/model").json()["thresholds"]
    answer = compare(client, photo, group, probe_face=1).json()
    assert 0.3 < answer["similarity"] < 1, "the same woman, mirrored, brightened and smaller"
    for verdict, name in zip(answer["verdicts"], ("fmr_1e-2", "fmr_1e-3", "fmr_1e-4"), strict=True):
        assert verdict["threshold"] == thresholds[name]
        assert verdict["match"] == (answer["similarity"] >= thresholds[name])


def test_order_does_not_matter(client: TestClient, photo: bytes, group: bytes) -> None:
    there = compare(client, photo, group, probe_face=1).json()
    back = compare(client, group, photo, reference_face=1).json()
    assert there["similarity"] == back["similarity"]
    assert there["reference"] == back["probe"]


def test_both_photographs_are_needed(client: TestClient, photo: bytes) -> None:
    answer = client.post("/v1/compare", files={"reference": photo})
    assert (answer.status_code, "'probe'" in answer.json()["detail"]) == (400, True)
    raw = client.post("/v1/compare", content=photo, headers={"Content-Type": "image/jpeg"})
    assert raw.status_code == 415


def test_a_photograph_without_a_face(client: TestClient, photo: bytes, landscape: bytes) -> None:
    assert compare(client, photo, landscape).json()["type"] == "urn:lookalike:problem:no-face"


@pytest.mark.parametrize("which", ["reference", "probe"])
@pytest.mark.parametrize("kind", ["no-face", "not-an-image", "face-not-found", "face-too-small"])
def test_a_problem_says_with_which_photograph(
    client: TestClient, photo: bytes, landscape: bytes, portrait: Image.Image, which: str, kind: str
) -> None:
    bad = {
        "no-face": landscape,
        "not-an-image": b"no picture",
        "face-not-found": photo,
        "face-too-small": encoded(portrait.resize((160, 160)), "PNG"),
    }[kind]
    other = {"reference": "probe", "probe": "reference"}[which]
    parameters = {f"{which}_face": "3"} if kind == "face-not-found" else {}
    problem = client.post("/v1/compare", files={which: bad, other: photo}, data=parameters).json()
    assert problem["type"] == f"urn:lookalike:problem:{kind}"
    assert which in problem["detail"]
    assert other not in problem["detail"]


def made_up_cohort(path: Path, embeddings: np.ndarray, network: str) -> Path:
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    Cohort(unit.astype(np.float32), network).write(path)
    return path


def test_a_score_is_normalised_by_the_operators_cohort(
    new_client: Callable[..., TestClient], photo: bytes, group: bytes, tmp_path: Path
) -> None:
    network = read_manifest(Settings().models).files["recognizer"].sha256
    strangers = np.random.default_rng(0).normal(size=(300, EMBEDDING_SIZE))
    client = new_client(cohort=made_up_cohort(tmp_path / "cohort.npz", strangers, network))
    plain = compare(client, photo, group, probe_face=1).json()
    assert plain["normalised"] is None
    answer = compare(client, photo, group, probe_face=1, normalise="cohort").json()
    assert (answer["similarity"], answer["verdicts"]) == (plain["similarity"], plain["verdicts"])
    assert (answer["normalised"]["members"], answer["normalised"]["top"]) == (300, 200)
    # Strangers score about 0 with a deviation of 1 / sqrt(192); the 200 of 300 most alike a little above it.
    assert answer["normalised"]["score"] > 5
    back = compare(client, group, photo, reference_face=1, normalise="cohort").json()
    assert back["normalised"] == answer["normalised"]


def test_without_a_cohort_there_is_nothing_to_normalise_by(client: TestClient, photo: bytes) -> None:
    answer = compare(client, photo, photo, normalise="cohort")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:lookalike:problem:no-cohort")
    assert compare(client, photo, photo, normalise="znorm").status_code == 422
    assert compare(client, photo, photo, normalise="none").json()["normalised"] is None


def test_a_cohort_of_another_recogniser_is_refused(tmp_path: Path) -> None:
    path = made_up_cohort(tmp_path / "cohort.npz", np.ones((5, EMBEDDING_SIZE)), "0" * 64)
    with pytest.raises(CohortInvalid, match="another recogniser"):
        check(Settings(cohort=path))
    with pytest.raises(CohortInvalid, match="is no cohort"):
        check(Settings(cohort=tmp_path / "gone.npz"))
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(CohortInvalid, match="is no cohort"):
        check(Settings(cohort=tmp_path / "text.npz"))
