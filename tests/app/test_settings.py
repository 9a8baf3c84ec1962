from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings, sentences, table

SETTINGS = Path(__file__).parents[2] / "docs" / "settings.md"


def complaint(**values: object) -> str:
    with pytest.raises(ValidationError) as error:
        Settings(**values)
    return "\n".join(sentences(error.value))


def test_a_variable_sets_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_PORT", "9000")
    monkeypatch.setenv("LOOKALIKE_BATCH_SIZES", "1, 4,16")
    monkeypatch.setenv("LOOKALIKE_CORS_ORIGINS", "https://a.example,https://b.example")
    settings = Settings()
    assert (settings.port, settings.batch_sizes) == (9000, (1, 4, 16))
    assert settings.cors_origins == ("https://a.example", "https://b.example")


def test_a_misspelled_variable_is_refused_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_MAX_PIXEL", "1")
    assert complaint() == "LOOKALIKE_MAX_PIXEL is not a setting; did you mean LOOKALIKE_MAX_PIXELS?"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"port": 70000}, "LOOKALIKE_PORT"),
        ({"batch_sizes": "4,2"}, "LOOKALIKE_BATCH_SIZES: must be positive and ascending"),
        ({"batch_sizes": "0,2"}, "LOOKALIKE_BATCH_SIZES: must be positive and ascending"),
        ({"cors_origins": "*,https://a.example"}, "either * or a list"),
        ({"queue_images": 8}, "LOOKALIKE_QUEUE_IMAGES"),
        ({"jobs_keep_seconds": "inf"}, "LOOKALIKE_JOBS_KEEP_SECONDS: Input should be less than or equal to"),
        ({"device": "tpu"}, "LOOKALIKE_DEVICE"),
        ({"precision": "int8", "device": "cuda"}, "precision int8 is for the CPU"),
        ({"precision": "float16", "device": "cpu"}, "precision float16 is for CUDA"),
    ],
)
def test_impossible_settings_are_refused_with_a_sentence(values: dict[str, object], words: str) -> None:
    assert words in complaint(**values)


def test_the_readme_carries_the_table_of_settings() -> None:
    assert table() in SETTINGS.read_text(encoding="utf-8"), "put the output of `python -m app settings` there"


def test_every_setting_is_explained() -> None:
    assert all(field.description for field in Settings.model_fields.values())
