"""What is known of faces beforehand."""

import math
import re

import pytest

from model_export.preparing.labels import UNKNOWN, LabelError, Labels, names_in, parse_age, read_labels
from model_export.preparing.pictures import Pictures
from model_export.preparing.sources import Source


@pytest.mark.parametrize(
    ("text", "years", "least"),
    [
        ("31", 31, 31),
        ("64.5", 64.5, 64.5),
        ("20-29", 25, 20),
        ("16-24", 20.5, 16),
        ("0-2", 1.5, 0),
        ("70+", 75, 70),
        ("13+", 18, 13),
        ("more than 70", 75, 70),
        ("03-Sep", 6.5, 3),  # 3-9, that a spreadsheet took for a date
        ("Oct-19", 15, 10),  # 10-19, likewise
    ],
)
def test_ages_are_years_ranges_and_ranges_that_became_dates(text, years, least):
    assert parse_age(text) == (years, least)


def test_no_age_is_unknown_and_words_are_none():
    assert all(math.isnan(years) for text in ("", "nan") for years in parse_age(text))
    for text in ("old", "-4", "1900", "inf"):
        with pytest.raises(ValueError, match=text):
            parse_age(text)


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
    assert look_up("a/1.jpg") == Labels(25, "male", "latino", 20)
    assert look_up("b/2.jpg") == Labels(15, "female", "east asian", 10)
    assert b"train" not in data
    assert b"East Asian" in data


def test_tables_that_say_different_things_of_a_file_are_joined(folder, tmp_path):
    (tmp_path / "ages.csv").write_text("file,age,group\nb/2.jpg,12,asian\n")
    (tmp_path / "genders.csv").write_text("file,gender,group\nb/2.jpg,female,white\n")
    look_up, _ = reader(folder, labels=[tmp_path / "ages.csv", tmp_path / "genders.csv"])
    assert look_up("b/2.jpg") == Labels(12, "female", "white", 12)


def test_rows_that_are_cut_short_say_nothing(folder):
    (folder / "labels.csv").write_text("age,file\n30,a/1.jpg\n40\n")
    look_up, _ = reader(folder)
    assert look_up("a/1.jpg").age == 30


def test_labels_may_stand_in_the_file_name(folder):
    look_up, _ = reader(
        folder, pattern=r"^(?P<group>[AC])(?P<gender>[FM])\d", values={"A": "asian", "F": "female", "M": "male"}
    )
    known = look_up("AF12.jpg")
    assert (known.gender, known.group) == ("female", "asian")
    assert math.isnan(known.age)
    assert look_up("a/1.jpg") is UNKNOWN


def test_what_the_table_leaves_out_the_file_name_may_say(folder):
    (folder / "labels.csv").write_text("file,gender\nAF12.jpg,male\n")
    look_up, _ = reader(folder, pattern=r"^A(?P<gender>[FM])(?P<age>\d+)")
    assert look_up("AF12.jpg") == Labels(12, "male", "", 12)


def test_accents_may_be_letters_of_their_own(folder):
    (folder / "Zo\u0065\u0308.jpg").write_bytes(b"")
    (folder / "labels.csv").write_text("file,age\nZo\u00eb.jpg,9\n", encoding="utf-8")
    look_up, _ = reader(folder)
    assert look_up("Zo\u0065\u0308.jpg").age == 9


@pytest.mark.parametrize(
    ("table", "more", "complaint"),
    [
        ("name,age\n1.jpg,3\n", {}, "no column 'file'"),
        ("file,age\n1.jpg,3\n", {"columns": {"group": "race"}}, "no column 'race'"),
        ("file,age\n1.jpg,old\n", {}, "age of 1.jpg is not a number of years: 'old'"),
        ("file,age\n1.jpg,180\n", {}, "age of 1.jpg is not a number of years: '180'"),
        ("file,age\nset/b/2.jpg,3\n", {}, "no row is about a picture of .*, like 'AF12.jpg'"),
        ("file\n", {"pattern": "("}, "not a regular expression"),
        ("file,Age, gender\n1.jpg,3,male\n", {}, "none of age, gender, group, but file, Age,  gender"),
        ("file\n", {"pattern": r"(?P<years>[0-9]+)"}, "names none of age, gender, group"),
        ("file\n", {"pattern": r"^A(?P<age>F)"}, "age of AF12.jpg is not a number of years: 'F'"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(folder, tmp_path, table, more, complaint):
    (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(LabelError, match=complaint if ".*" in complaint else re.escape(complaint)):
        reader(folder, labels=tmp_path / "labels.csv", **more)


def test_names_stand_one_a_line(tmp_path):
    (tmp_path / "names.txt").write_text("a.jpg\n\n b.jpg \n", encoding="utf-8-sig")
    assert names_in(tmp_path / "names.txt") == {"a.jpg", "b.jpg"}
    assert names_in(None) == frozenset()
    with pytest.raises(LabelError, match="No such file"):
        names_in(tmp_path / "none.txt")
