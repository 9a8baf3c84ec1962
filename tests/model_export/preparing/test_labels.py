"""What is known of faces beforehand."""

import math

import pytest

from model_export.preparing.labels import UNKNOWN, LabelError, Labels, names_in, parse_age, read_labels
from model_export.preparing.pictures import Pictures
from model_export.preparing.sources import Source


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("31", 31),
        ("64.5", 64.5),
        ("20-29", 25),
        ("0-2", 1.5),
        ("70+", 75),
        ("more than 70", 75),
        ("03-Sep", 6.5),  # 3-9, that a spreadsheet took for a date
        ("Oct-19", 15),  # 10-19, likewise
    ],
)
def test_ages_are_years_ranges_and_ranges_that_became_dates(text, years):
    assert parse_age(text) == years


def test_no_age_is_unknown_and_words_are_none():
    assert math.isnan(parse_age(""))
    with pytest.raises(ValueError, match="old"):
        parse_age("old")


@pytest.fixture
def folder(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg", "b/2.jpg", "AF12.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"")
    return tmp_path / "set"


def reader(folder, **more):
    source = Source(photographs=folder, **more)
    with Pictures(folder) as pictures:
        return read_labels(source, pictures)


def test_a_file_is_known_by_its_path_and_by_its_name_where_only_one_has_it(folder):
    (folder / "labels.csv").write_text("file,age\na/1.jpg,30\n1.jpg,40\n2.jpg,50\n")
    look_up, _ = reader(folder)
    assert look_up("a/1.jpg").age == 30
    assert look_up("b/1.jpg") is UNKNOWN
    assert look_up("b/2.jpg").age == 50


def test_several_tables_with_columns_and_values_of_their_own(folder, tmp_path):
    (tmp_path / "train.csv").write_text("file,age,gender,race\na/1.jpg,20-29,Male,Latino_Hispanic\n")
    (tmp_path / "val.csv").write_text("file,age,gender,race\nb/2.jpg,Oct-19,Female,East Asian\n")
    look_up, data = reader(
        folder,
        labels=[tmp_path / "train.csv", tmp_path / "val.csv"],
        columns={"group": "race"},
        values={"Latino_Hispanic": "latino"},
    )
    assert look_up("a/1.jpg") == Labels(25, "male", "latino")
    assert look_up("b/2.jpg") == Labels(15, "female", "east asian")
    assert b"train" not in data
    assert b"East Asian" in data


def test_labels_may_stand_in_the_file_name(folder):
    look_up, _ = reader(
        folder, pattern=r"^(?P<group>[AC])(?P<gender>[FM])\d", values={"A": "asian", "F": "female", "M": "male"}
    )
    known = look_up("AF12.jpg")
    assert (known.gender, known.group) == ("female", "asian")
    assert math.isnan(known.age)
    assert look_up("a/1.jpg") is UNKNOWN


@pytest.mark.parametrize(
    ("table", "more", "complaint"),
    [
        ("name,age\n1.jpg,3\n", {}, "no column 'file'"),
        ("file,age\n1.jpg,3\n", {"columns": {"group": "race"}}, "no column 'race'"),
        ("file,age\n1.jpg,old\n", {}, "age of 1.jpg is not a number: 'old'"),
        ("file\n", {"pattern": "("}, "not a regular expression"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(folder, tmp_path, table, more, complaint):
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(LabelError, match=complaint.replace("(", r"\(")):
        reader(folder, labels=tmp_path / "labels.csv", **more)


def test_names_stand_one_a_line(tmp_path):
    (tmp_path / "names.txt").write_text("a.jpg\n\n b.jpg \n")
    assert names_in(tmp_path / "names.txt") == {"a.jpg", "b.jpg"}
    assert names_in(None) == frozenset()
    with pytest.raises(LabelError, match="No such file"):
        names_in(tmp_path / "none.txt")
