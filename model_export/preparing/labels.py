"""What is known of the faces beforehand: age, gender and group, as tables and file names tell them."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from model_export.preparing.pictures import Pictures
from model_export.preparing.sources import Source

LABELS = ("age", "gender", "group")


class LabelError(ValueError):
    """The labels cannot be used."""


@dataclass(frozen=True)
class Labels:
    """Of one face; nan and empty where unknown.

    Attributes:
        age: years; the middle of a range, where a range is labelled.
        gender, group: as the source calls them, after `Source.values`.
    """

    age: float = float("nan")
    gender: str = ""
    group: str = ""


UNKNOWN = Labels()


def read_labels(source: Source, pictures: Pictures) -> tuple[Callable[[str], Labels], bytes]:
    """How to look up a file's labels, and the bytes they were read from (for a checksum).

    A table may name a file without its folder, as long as only one file has that name.

    Raises:
        LabelError: a table cannot be read, lacks its columns or says an age that is none.
    """
    tables = [(str(path), _bytes(path)) for path in source.labels]
    if not tables and (inside := pictures.table()) is not None:
        tables = [inside]
    table: dict[str, Labels] = {}
    for name, data in tables:
        table |= _read_table(name, data, source)
    times = Counter(PurePosixPath(name).name for name in pictures.names)
    try:
        pattern = re.compile(source.pattern) if source.pattern else None
    except re.error as error:
        raise LabelError(f"{source.name}: not a regular expression: {source.pattern!r} ({error})") from error

    def look_up(file: str) -> Labels:
        short = PurePosixPath(file).name
        found = table.get(file) or (table.get(short) if times[short] == 1 else None)
        if found is None and pattern is not None and (match := pattern.search(short)) is not None:
            found = _labels(file, match.groupdict(""), source.values, source.name)
        return found or UNKNOWN

    return look_up, b"\n".join(data for _, data in tables)


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
        return {
            row["file"]: _labels(
                row["file"],
                {label: (row.get(column) or "").strip() for label, column in columns.items()},
                source.values,
                name,
            )
            for row in reader
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
        raise LabelError(f"{name}: the age of {file} is not a number: {said['age']!r}") from None
    return Labels(age, value("gender"), value("group"))


def parse_age(text: str) -> float:
    """Years, of a number (31), a range (20-29, whose middle is taken) or an open one (70+, more than 70).

    Ranges that went through a spreadsheet and became dates are read as what they were: 03-Sep is 3-9, Oct-19 is 10-19.

    Raises:
        ValueError: it is none of these.
    """
    if not text:
        return float("nan")
    for pattern, years in _AGES:
        if (match := re.fullmatch(pattern, text, re.IGNORECASE)) is not None:
            return years(*(int(_NUMBERS.get(part.lower(), part)) for part in match.groups()))
    return float(text)


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
    lines: Iterable[str] = _bytes(path).decode("utf-8", "replace").splitlines()
    return frozenset(line.strip() for line in lines if line.strip())
