"""Photographs of profiles: which are looked at, which are refused, and what is said of the redrawings of the others."""

from dataclasses import replace

import numpy as np
import pytest

from model_export.evaluation import profiles as asked
from model_export.evaluation.sample import Sample
from model_export.evaluation.settings import Settings

FEW = Settings(faces=10, wide=12, resamples=60)


def test_one_photograph_of_each_person_is_looked_at(profiles, tmp_path):
    chance = np.random.default_rng(0)
    found = asked.one_of_each(profiles, 100, chance)
    assert [path.relative_to(profiles).parts for path in found] == [
        (f"{person:03}", "profile", "01.jpg") for person in range(13)
    ]
    assert len(asked.one_of_each(profiles, 5, chance)) == 5
    for name in ("a/1.jpg", "a/2.jpg", "b/1.PNG", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    first, second = asked.one_of_each(tmp_path, 100, chance)
    assert (first.parent.name, second.name) == ("a", "1.PNG")
    with pytest.raises(ValueError, match="no photographs"):
        asked.one_of_each(tmp_path / "c", 100, chance)


def test_profiles_are_redrawn_where_the_service_would_or_counted_as_refused(prepared, models, judged_by, profiles):
    sample = Sample(prepared, models, judged_by, FEW, threads=1, profiles=profiles)
    found = asked.measure(sample)["profiles"]
    assert (found["photographs"], found["faces"], found["refused"]) == (13, 12, {"no face": 1})
    assert found["usable"]["value"] == pytest.approx(12 / 13, abs=1e-5)
    assert found["usable"]["interval"][0] < 12 / 13
    # The toy generator was made of the face that sits for the profiles; its impostors are that face as well.
    assert found["similarity_median"]["value"] > 0.9
    # Beside another's photograph, in other light, it would be 19 dB and one in six by the judge.
    assert found["psnr"]["value"] > 24
    assert found["judge_above_threshold"]["value"] == 1
    assert found["judge_above_threshold"]["aim"] == ">= 0.9"
    assert found["judge_still_recognises"]["value"] == 1


def test_without_a_judge_nothing_is_said_of_one_and_too_few_faces_are_no_kind(prepared, models, profiles):
    sample = Sample(prepared, models, None, FEW, threads=1, profiles=profiles)
    assert "judge_above_threshold" not in asked.measure(sample)["profiles"]
    sample = Sample(prepared, models, None, replace(FEW, most_people=3), threads=1, profiles=profiles)
    assert asked.measure(sample)["profiles"].keys() == {"photographs", "refused", "usable", "faces"}
