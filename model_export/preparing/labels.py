"""What is known of the faces beforehand: age, gender and group, as tables and file names tell them."""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from model_export.preparing.pictures import Pictures
from model_export.preparing.sources import Source

LABELS = ("age", "gender", "group")
OLDEST = 120.0
"""Years beyond which a labelled age is a mistake."""


class LabelError(ValueError):
    """The labels cannot be used."""


@dataclass(frozen=True)
class Labels:
    """Of one face; nan and empty where unknown.

    Attributes:
        age: years; the middle of a range, where a range is labelled.
        gender, group: as the source calls them, after `Source.values`.
        least_age: years; the youngest that the labelled age may be, nan where none is labelled.
    """

    age: float = float("nan")
    gender: str = ""
    group: str = ""
    least_age: float = float("nan")


UNKNOWN = Labels()


def read_labels(source: Source, pictures: Pictures) -> tuple[Callable[[str], Labels], bytes]:
    """How to look up a file's labels, and the bytes they were read from (for a checksum).

    A table may name a file without its folder, as long as only one file has that name. Of several tables the last that
    says something of a file counts. What they do not say of it, the pattern may.

    Raises:
        LabelError: a table cannot be read, lacks its columns, says an age that is none, or is about other files; or the
            pattern cannot be read, names no label, or finds an age that is none.
    """
    tables = [(str(path), _bytes(path)) for path in source.labels]
    if not tables and (inside := pictures.table()) is not None:
        tables = [inside]
    table: dict[str, Labels] = {}
    for name, data in tables:
        for file, labels in _read_table(name, data, source).items():
            table[file] = _joined(labels, table.get(file, UNKNOWN))
    times = Counter(PurePosixPath(_composed(name)).name for name in pictures.names)
    try:
        pattern = re.compile(source.pattern) if source.pattern else None
    except re.error as error:
        raise LabelError(f"{source.name}: not a regular expression: {source.pattern!r} ({error})") from error
    if pattern is not None and not set(LABELS) & set(pattern.groupindex):
        raise LabelError(f"{source.name}: {source.pattern!r} names none of {', '.join(LABELS)}, as in (?P<age>[0-9]+)")

    def listed(file: str) -> Labels | None:
        name = _composed(file)
        short = PurePosixPath(name).name
        return table.get(name) or (table.get(short) if times[short] == 1 else None)

    def look_up(file: str) -> Labels:
        found = listed(file) or UNKNOWN
        if pattern is not None and (match := pattern.search(PurePosixPath(file).name)) is not None:
            found = _joined(found, _labels(file, match.groupdict(""), source.values, source.name))
        return found

    # Or nobody would be labelled, and whoever is labelled a minor would be kept.
    if table and pictures.names and not any(map(listed, pictures.names)):
        names = " and ".join(name for name, _ in tables)
        raise LabelError(f"{names}: no row is about a picture of {source.photographs}, like {pictures.names[0]!r}")
    if pattern is not None:
        for name in pictures.names:  # an age that is none is told before the pictures are cut, not after
            look_up(name)
    return look_up, b"\n".join(data for _, data in tables)


def _composed(name: str) -> str:
    """A file name as most systems write it: some take letters and their accents apart."""
    return unicodedata.normalize("NFC", name)


def _joined(first: Labels, second: Labels) -> Labels:
    """What the first says, and of what it does not say the second."""
    by_age = second if math.isnan(first.age) else first
    return Labels(by_age.age, first.gender or second.gender, first.group or second.group, by_age.least_age)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LabelError(f"{path}: {error.strerror}") from error


def _read_table(name: str, data: bytes, source: Source) -> dict[str, Labels]:
    columns = {label: source.columns.get(label, label) for label in LABELS}  # type: ignore[call-overload]
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        header = reader.fieldnames or ()
        if missing := [column for column in ("file", *source.columns.values()) if column not in header]:
            raise LabelError(f"{name}: no column {missing[0]!r}; it needs file and any of {', '.join(LABELS)}")
        # Or "Age" or " age" would be taken for none, and whoever is labelled a minor would be kept.
        if len(header) > 1 and not any(column in header for column in columns.values()):
            raise LabelError(f"{name}: beside file it has none of {', '.join(LABELS)}, but {', '.join(header)}")
        return {
            _composed(row["file"]): _labels(
                row["file"],
                {label: (row.get(column) or "").strip() for label, column in columns.items()},
                source.values,
                name,
            )
            for row in reader
            if row["file"]  # a row may be cut short
        }
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{name}: not a CSV file in UTF-8") from error


def _labels(file: str, said: Mapping[str, str], values: Mapping[str, str], name: str) -> Labels:
    def value(label: str) -> str:
        text = said.get(label, "")
        return values.get(text, text.lower().replace("_", " "))

    try:
        age = parse_age(said.get("age", ""))
    except ValueError:
        raise LabelError(f"{name}: the age of {file} is not a number of years: {said['age']!r}") from None
    return Labels(age.middle, value("gender"), value("group"), age.least)


class Age(NamedTuple):
    """Years; nan where unknown.

    Attributes:
        middle: of a range, or a guess where its end is open.
        least: the youngest that it may be.
    """

    middle: float
    least: float


def parse_age(text: str) -> Age:
    """The age that is a number (31), a range (20-29) or an open one (70+, more than 70).

    Ranges that went through a spreadsheet and became dates are read as what they were: 03-Sep is 3-9, Oct-19 is 10-19.

    Raises:
        ValueError: it is none of these, or nobody is that old.
    """
    age = _age(text)
    if age.least < 0 or age.middle > OLDEST:
        raise ValueError(f"no age: {text}")
    return age


def _age(text: str) -> Age:
    for pattern, years in _AGES:
        if (match := re.fullmatch(pattern, text, re.IGNORECASE)) is not None:
            numbers = [int(_NUMBERS.get(part.lower(), part)) for part in match.groups()]
            return Age(years(*numbers), float(min(numbers)))
    number = float(text or "nan")
    return Age(number, number)


_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_NUMBERS = {name: number for number, name in enumerate(_MONTHS.split("|"), start=1)}
_AGES: tuple[tuple[str, Callable[..., float]], ...] = (
    (r"(\d+)-(\d+)", lambda first, last: (first + last + 1) / 2),
    (rf"(\d+)-({_MONTHS})", lambda first, last: (first + last + 1) / 2),
    (rf"({_MONTHS})-(\d+)", lambda first, last: (first + last + 1) / 2),
    (r"more than (\d+)", lambda least: least + 5.0),
    (r"(\d+)\+", lambda least: least + 5.0),
)


def names_in(path: Path | None) -> frozenset[str]:
    """The lines of a file of picture names; none where there is no file.

    Raises:
        LabelError: it cannot be read.
    """
    if path is None:
        return frozenset()
    lines: Iterable[str] = _bytes(path).decode("utf-8-sig", "replace").splitlines()
    return frozenset(line.strip() for line in lines if line.strip())
