"""Settings: each is documented, none is unknown, and files of older versions say what they said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from model_export.networks.generator import NetworkConfig
from model_export.training.config import (
    RECIPES,
    SHIPPED,
    LossWeights,
    RecognizerConfig,
    RecognizerWeights,
    TrainConfig,
)
from tests.model_export.conftest import MODELS
from tests.model_export.tiny import TINY

OLDER = Path(__file__).parent / "config_0.6.0.json"
"""The `config.json` that weights 0.6.0 were trained with, as the code of that time wrote it."""


@pytest.mark.parametrize("model", [TrainConfig, LossWeights, RecognizerConfig, RecognizerWeights, NetworkConfig])
def test_every_setting_says_what_it_is(model: type[BaseModel]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.json")), ids=lambda path: path.stem)
def test_a_recipe_names_every_setting(recipe: Path) -> None:
    assert json.loads(recipe.read_text()) == TrainConfig.load(recipe).model_dump(mode="json")


def test_the_shipped_recipe_is_what_the_shipped_weights_were_trained_with() -> None:
    assert TrainConfig.of_models(MODELS) == TrainConfig.load(SHIPPED)


def test_models_that_say_nothing_of_their_settings_give_the_shipped_recipe(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    assert TrainConfig.of_models(tmp_path) == TrainConfig.load(SHIPPED)


def test_older_files_had_fields_for_three_recognisers() -> None:
    older, config = json.loads(OLDER.read_text()), TrainConfig.load(OLDER)
    assert [each.name for each in config.recognizers] == ["service", "dlib", "faceplugin"]
    for recognizer, prefix in zip(config.recognizers, ("", "second_", "third_"), strict=True):
        walls = [older[f"{prefix or 'band_'}low"], older[f"{prefix or 'band_'}high"]]
        assert list(recognizer.band) == walls
        weights = recognizer.weights.model_dump()
        named = {name: older["weights"][f"{prefix}{name}"] for name in ("identity", "evenness", "band")}
        assert weights == named | {"bias": 0}  # which there was not
    assert config.focus == (3, 8, 3, 3)
    assert TrainConfig.model_validate(older | {"focus": 2}).focus == (2, 2, 2, 2)


def test_files_from_before_a_setting_was_there_go_on_without_it() -> None:
    older = json.loads(OLDER.read_text())
    later = ("focus", "mirror", "blur", "light", "reach", "matching_memory", "second_low", "second_high")
    values = {name: value for name, value in older.items() if name not in later}
    values["weights"] = {
        name: weight
        for name, weight in older["weights"].items()
        if name not in ("matching", "unlike_eyes") and not name.startswith("second_")
    }
    config = TrainConfig.model_validate(values)
    assert (config.focus, config.mirror, config.reach) == ((0, 0, 0, 0), False, 1)
    assert (config.weights.matching, config.weights.unlike_eyes) == (0, 0)
    assert [each.name for each in config.recognizers] == ["service", "faceplugin"]


def test_settings_can_be_changed_by_name() -> None:
    config = TINY.changed(
        [
            "batch=4",
            "focus=[1,2,3,4]",
            "weights.pixel=7",
            "networks.decoder=[8,8,8,8,8]",
            "recognizers.service.band=[0.1,0.2]",
            "recognizers.service.weights.identity=3",
        ]
    )
    assert (config.batch, config.focus, config.weights.pixel) == (4, (1, 2, 3, 4), 7)
    assert config.networks.decoder == (8, 8, 8, 8, 8)
    assert (config.recognizers[0].band, config.loss_weights["service_identity"]) == ((0.1, 0.2), 3)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    "wrong",
    [
        "bach=4",
        "weights.pixl=1",
        "networks.deep=3",
        "recognizers.dlib.band=[0,1]",
        "batch.size=3",
        "focus.left.eye=3",
        "recognizers.service.band.low.end=0.3",
    ],
)
def test_unknown_settings_are_refused_with_those_that_there_are(wrong: str) -> None:
    with pytest.raises(ValueError, match="no setting"):
        TINY.changed([wrong])


@pytest.mark.parametrize("wrong", ["batch=0", "warm_up=2", "weights.pixel=-1", 'mirror="maybe"', "focus=[1,2]"])
def test_impossible_values_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong.partition("=")[0].split(".")[-1]):
        TINY.changed([wrong])


@pytest.mark.parametrize("wrong", ["train=controls", "weights.pixel", "focus=[1,2"])
def test_what_is_no_json_is_told_with_its_setting(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"{wrong.partition('=')[0]}=JSON; words want quotes"):
        TINY.changed([wrong])


def test_unknown_keys_of_a_file_are_refused() -> None:
    with pytest.raises(ValidationError, match="bach"):
        TrainConfig.model_validate(TINY.model_dump() | {"bach": 4})


def test_the_service_judges_first_and_no_name_stands_twice() -> None:
    (service,) = TINY.model_dump()["recognizers"]
    for names in ([], ["dlib"], ["service", "service"]):
        recognizers = [service | {"name": name} for name in names]
        with pytest.raises(ValidationError, match="recognizers"):
            TrainConfig.model_validate(TINY.model_dump() | {"recognizers": recognizers})
