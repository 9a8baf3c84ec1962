"""Estimates of what is not labelled, from features made up so that the truth is known."""

import numpy as np
import pytest

from model_export.preparing import estimates
from model_export.preparing.estimates import estimate
from model_export.preparing.labels import Labels
from tests.model_export.preparing.made_up import candidate

COUNT = 400
GROUPS = ("east", "north", "west")


@pytest.fixture
def crowd(monkeypatch):
    """400 faces, whose features tell age, gender and group in a mixture; truth beside the faces."""
    chance = np.random.default_rng(0)
    ages = chance.uniform(5, 80, COUNT)
    genders, groups = chance.integers(0, 2, COUNT), chance.integers(0, 3, COUNT)
    told = np.column_stack([ages / 20, genders * 2, np.eye(3)[groups] * 2, chance.normal(size=(COUNT, 3))])
    seen = (told @ chance.normal(size=(8, 12)) + chance.normal(size=(COUNT, 12)) * 0.05).astype(np.float32)
    monkeypatch.setattr(estimates, "features", lambda faces: seen[[face.place[1] for face in faces]].copy())
    truth = [
        Labels(float(age.round()), ("female", "male")[gender], GROUPS[group])
        for age, gender, group in zip(ages, genders, groups, strict=True)
    ]
    return [candidate(row=row, labels=labels) for row, labels in enumerate(truth)], truth


def test_what_is_labelled_stays_and_what_is_not_is_estimated_and_marked(crowd):
    faces, truth = crowd
    for face in faces[300:]:
        face.labels = Labels()
    faces[0].labels = Labels(age=truth[0].age, gender=truth[0].gender)
    ages, figures = estimate(faces, {})
    assert [face.labels for face in faces[1:300]] == truth[1:300]
    assert not any(face.estimated for face in faces[1:300])
    assert faces[0].estimated == ("group",)
    assert all(face.estimated == ("age", "gender", "group") for face in faces[300:])
    assert (
        np.abs([face.labels.age - label.age for face, label in zip(faces[300:], truth[300:], strict=True)]).mean() < 3
    )
    assert all(age <= face.labels.age + 0.5 for age, face in zip(ages[300:], faces[300:], strict=True))
    right = [face.labels.group == label.group for face, label in zip(faces[300:], truth[300:], strict=True)]
    assert np.mean(right) > 0.95
    assert figures["age_mean_error_years"] < 3
    assert figures["gender_accuracy"] > 0.95
    assert figures["group_accuracy"] > 0.95


def test_labelled_faces_get_an_apparent_age_as_well(crowd):
    faces, truth = crowd
    faces[7].labels = Labels(age=75, gender="male", group="east")
    ages, _ = estimate(faces, {})
    assert faces[7].labels.age == 75
    assert ages[7] == pytest.approx(truth[7].age, abs=8)


def test_a_coarse_group_gives_way_to_the_likeliest_of_those_it_may_be(crowd):
    faces, truth = crowd
    coarse = [number for number in range(COUNT) if truth[number].group != "west" and number % 2]
    for number in coarse:
        faces[number].labels = Labels(30, "female", "continent")
    estimate(faces, {"continent": ("east", "north")})
    assert all(faces[number].estimated == ("group",) for number in coarse)
    assert {faces[number].labels.group for number in coarse} == {"east", "north"}
    assert np.mean([faces[number].labels.group == truth[number].group for number in coarse]) > 0.95


def test_without_any_label_nothing_is_estimated(crowd):
    faces, _ = crowd
    for face in faces:
        face.labels = Labels()
    ages, figures = estimate(faces, {})
    assert np.isnan(ages).all()
    assert figures == {}
    assert not any(face.estimated for face in faces)
