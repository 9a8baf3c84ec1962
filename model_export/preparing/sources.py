"""The list of sources of a set: what is taken from where, under which licence, and how its labels are to be read."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from model_export.preparing.pictures import SourceError


class Source(BaseModel):
    """One folder or archive of photographs.

    Attributes:
        name: begins the names of its faces, and is the value of the column `source`; empty for a set of one source.
        photographs: a folder (searched through), a tar (packed or not) or a zip.
        labels: CSV files with `file` and any of age, gender, group; without any, labels.csv among the photographs.
        columns: label -> its column, where that has another name.
        values: value of the labels -> value in the set. Others are lower-cased, with spaces for underscores.
        pattern: a regular expression whose named groups read labels off the file name, such as `(?P<gender>[FM])`.
        licence: what may be done with it, in a few words, for the report and the model card.
        origin: who made it, and where it was described.
        use: `keep away` for a set to test with: nothing of it is prepared, and nobody who looks like a person of it is
            in the training faces.
        test_faces: about how many are held out; never over a fifth of the source.
        held_out: a file that names pictures, one a line, which are held out in any case: those of an earlier split.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="", pattern=r"^[a-z0-9-]*$")
    photographs: Path
    labels: tuple[Path, ...] = ()
    columns: dict[Literal["age", "gender", "group"], str] = {}
    values: dict[str, str] = {}
    pattern: str | None = None
    licence: str = ""
    origin: str = ""
    use: Literal["prepare", "keep away"] = "prepare"
    test_faces: int = Field(default=1500, ge=0)
    held_out: Path | None = None

    @field_validator("labels", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str | Path) else value


class Sources(BaseModel):
    """What a set is made of.

    Attributes:
        source: the sources, in the order in which their faces stand in the set.
        estimate: whether ages, genders and groups that are not labelled are estimated from those that are; whoever is
            estimated too young is then left out.
        refine: group -> groups of the other sources it may be, of which the likeliest is taken (as an estimate).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: tuple[Source, ...] = Field(min_length=1)
    estimate: bool = False
    refine: dict[str, tuple[str, ...]] = {}

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> Sources:
        names = [source.name for source in self.source]
        if len(names) > 1 and (len(set(names)) < len(names) or "" in names):
            raise ValueError("each of several sources needs a name of its own")
        if all(source.use == "keep away" for source in self.source):
            raise ValueError("no source is to be prepared")
        return self


def read_sources(path: Path, labels: Path | None = None, test_faces: int | None = None) -> Sources:
    """The list in a .toml file, its paths relative to it, or a list of the one source at `path`.

    Raises:
        SourceError: the file cannot be read, or says what cannot be.
    """
    if path.suffix != ".toml":
        given = {} if test_faces is None else {"test_faces": test_faces}
        return Sources(source=(Source(photographs=path, labels=(labels,) if labels else (), **given),))
    if labels is not None or test_faces is not None:
        raise SourceError(f"{path}: labels and test faces of several sources are said in the list itself")
    try:
        listed = Sources.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise SourceError(f"{path}: not TOML ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise SourceError(f"{path}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
    return listed.model_copy(update={"source": tuple(_from(path.parent, source) for source in listed.source)})


def _from(folder: Path, source: Source) -> Source:
    return source.model_copy(
        update={
            "photographs": folder / source.photographs,
            "labels": tuple(folder / file for file in source.labels),
            "held_out": folder / source.held_out if source.held_out else None,
        }
    )
