"""The list of sources."""

import pytest

from model_export.preparing.pictures import SourceError
from model_export.preparing.sources import read_sources

TWO = """
estimate = true
refine = {other = ["latino", "middle eastern"]}

[[source]]
name = "one"
photographs = "one.tar"
labels = "one.csv"
licence = "CC BY 4.0"
test_faces = 300

[[source]]
name = "apart"
photographs = "/elsewhere/apart"
use = "keep away"
"""


def test_paths_of_a_list_are_relative_to_it(tmp_path):
    (tmp_path / "faces.toml").write_text(TWO)
    listed = read_sources(tmp_path / "faces.toml")
    one, apart = listed.source
    assert (one.photographs, one.labels) == (tmp_path / "one.tar", (tmp_path / "one.csv",))
    assert str(apart.photographs) == "/elsewhere/apart"
    assert (one.use, apart.use, one.test_faces) == ("prepare", "keep away", 300)
    assert listed.estimate
    assert listed.refine == {"other": ("latino", "middle eastern")}


def test_anything_else_is_the_one_source(tmp_path):
    listed = read_sources(tmp_path / "photographs", tmp_path / "mine.csv", 7)
    (one,) = listed.source
    assert (one.name, one.photographs, one.labels) == ("", tmp_path / "photographs", (tmp_path / "mine.csv",))
    assert one.test_faces == 7
    assert not listed.estimate


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[source]]\nname=", "not TOML"),
        ("", "source: Field required"),
        ("[[source]]\nname='a'\n", "source.0.photographs: Field required"),
        ("[[source]]\nphotographs='a'\nlicense='x'\n", "source.0.license: Extra inputs"),
        ("[[source]]\nphotographs='a'\n[[source]]\nphotographs='b'\n", "needs a name of its own"),
        ("[[source]]\nphotographs='a'\nuse='keep away'\n", "no source is to be prepared"),
        ("[[source]]\nname='A b'\nphotographs='a'\n", "source.0.name"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(tmp_path, text, complaint):
    (tmp_path / "faces.toml").write_text(text)
    with pytest.raises(SourceError, match=complaint):
        read_sources(tmp_path / "faces.toml")


def test_a_missing_list_and_labels_beside_a_list_are_refused(tmp_path):
    with pytest.raises(SourceError, match="cannot be read"):
        read_sources(tmp_path / "faces.toml")
    with pytest.raises(SourceError, match="in the list itself"):
        read_sources(tmp_path / "faces.toml", labels=tmp_path / "mine.csv")
