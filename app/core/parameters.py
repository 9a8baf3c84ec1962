"""What can be asked for: parameters as data, checked once for HTTP, the command line and Ray."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from app.core.images import Format
from app.core.reference import MAX_LENGTH

MAX_VARIANTS = 64

Unit = Annotated[float, Field(strict=True, ge=-1, le=1)]
Control = Annotated[list[Unit], Field(min_length=CONTROL_SIZE, max_length=CONTROL_SIZE)]


def _named(value: Any) -> Any:
    """Numbers by name; which names there are is the model's business. In one piece: what is wrong then has a name."""
    if len(value) > CONTROL_SIZE:
        raise ValueError(f"names more than {CONTROL_SIZE} controls")
    for name, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not -1 <= number <= 1:
            raise ValueError(f"{str(name)[:64]!r} must be a number from -1 to 1")
    return {str(name): float(number) for name, number in value.items()}


def _written(value: Any) -> str:
    return "names" if isinstance(value, Mapping) else "numbers"


Named = Annotated[dict[str, float], PlainValidator(_named, json_schema_input_type=dict[str, Unit])]
# By their look, and not a choice between types: each of those would complain for itself.
AnyControl = Annotated[Annotated[Control, Tag("numbers")] | Annotated[Named, Tag("names")], Discriminator(_written)]
Controls = Annotated[list[AnyControl], Field(min_length=1, max_length=MAX_VARIANTS)]
AnyControls = Annotated[Annotated[Controls, Tag("numbers")] | Annotated[Named, Tag("names")], Discriminator(_written)]
Written = list[float] | Mapping[str, float]
Latent = Annotated[float, Field(strict=True, ge=-100, le=100)]
Identity = Annotated[list[Latent], Field(min_length=IDENTITY_SIZE, max_length=IDENTITY_SIZE)]

_WHOLE = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?([0-9]{1,32}(\.[0-9]{0,32})?|\.[0-9]{1,32})([eE][-+]?[0-9]{1,3})?")


def _whole(value: Any) -> Any:
    if isinstance(value, str) and not _WHOLE.fullmatch(value):
        raise ValueError("must be a whole number in plain digits")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError("must be a number in plain digits")
    return value


# As text, where parameters stand in a form or a query: Python itself would read 1_0 as 10.
Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
Similarity = Annotated[float, Field(ge=-1, le=1), BeforeValidator(_number)]
Seed = Annotated[int, Field(ge=0, lt=2**32), BeforeValidator(_whole)]


def _index_or(*words: str) -> PlainValidator:
    """A word, or the index of a face. In one piece: of a choice between types each would complain for itself."""
    shown = " or ".join(f"'{word}'" for word in words)

    def check(value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        if isinstance(value, str) and (value in words or re.fullmatch("[0-9]{1,9}", value)):
            return value if value in words else int(value)
        raise ValueError(f"must be {shown}, or the index of a face in plain digits: 0 is the largest")

    return PlainValidator(check, json_schema_input_type=Literal[words] | Annotated[int, Field(ge=0)])


def _index_or_name(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < CONTROL_SIZE:
        return value
    if isinstance(value, str):
        return int(value) if re.fullmatch("[0-9]", value) else value
    raise ValueError(f"must be the index of a control, 0 to {CONTROL_SIZE - 1}, or its name")


ControlChoice = Annotated[
    int | str,
    PlainValidator(_index_or_name, json_schema_input_type=Annotated[int, Field(ge=0, lt=CONTROL_SIZE)] | str),
]
OneFace = Annotated[Literal["largest"] | int, _index_or("largest")]
Faces = Annotated[Literal["largest", "all"] | int, _index_or("largest", "all")]


def _from_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        raise ValueError(
            "must be JSON: a list of lists of numbers, or numbers by name, each once, or a list of these"
        ) from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(members := dict(pairs)) < len(pairs):
        raise ValueError
    return members


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class PictureParameters(_Parameters):
    """How images are written."""

    format: Format = "jpeg"
    """File format of the images."""

    quality: Whole = Field(95, ge=1, le=100)
    """Quality of JPEG and WebP; 100 makes WebP lossless; PNG always is."""

    size: Whole | None = Field(None, ge=32, le=2048)
    """Side of the images in pixels: one of `picture_sizes` in `/v1/model`, the first unless given. Those beyond it have
    fine detail that a network of its own adds to the drawing; similarity is the drawing's."""

    @model_serializer(mode="wrap")
    def _without_what_was_not_asked(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Answers are named by their parameters: what is drawn as it was before there were sizes keeps its name."""
        values: dict[str, Any] = dump(self)
        if self.size is None:
            values.pop("size", None)
        return values


class SamplingParameters(PictureParameters):
    """Which controls to draw variants for."""

    count: Whole = Field(8, ge=1, le=MAX_VARIANTS)
    """How many random controls."""

    controls: Annotated[AnyControls | None, BeforeValidator(_from_json)] = None
    """The controls themselves, instead of `count`: a JSON list, each a list of 10 numbers in [-1, 1] or an object of
    numbers by name, the rest 0: `{"age": 0.5}`. One such object alone is one variant; with `count` it is what all of
    them have, the rest drawn at random."""

    seed: Seed | None = None
    """Same photograph, seed, parameters and model version: same bytes. Random unless given, and returned."""

    strength: Number = Field(1.0, ge=0, le=1)
    """Random controls are uniform in the cube [-strength, strength]^10: 0 redraws the person, 1 is a look-alike."""

    similarity_min: Similarity | None = None
    """Search for variants at least this similar to the source."""

    similarity_max: Similarity | None = None
    """Search for variants at most this similar to the source."""

    band: Literal["lookalike"] | None = None
    """Search inside the model's calibrated band instead of two numbers."""

    @model_validator(mode="before")
    @classmethod
    def _one_object_is_a_list(cls, values: Any) -> Any:
        """Without `count` there is nothing to draw; from here on, what stands alone goes with `count`."""
        if not isinstance(values, dict) or values.get("count") is not None:
            return values
        controls = values.get("controls")
        if isinstance(controls, str) and controls.lstrip().startswith("{"):
            return values | {"controls": f"[{controls}]"}
        return values | {"controls": [controls]} if isinstance(controls, Mapping) else values

    @model_validator(mode="after")
    def _one_way_to_choose(self) -> SamplingParameters:
        if self.listed:
            for name in ("count", "strength", "similarity_min", "similarity_max", "band"):
                # Generated clients send every default.
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"controls are given, so {name} has nothing to choose: leave one of them out")
        if self.band is not None and (self.similarity_min is not None or self.similarity_max is not None):
            raise ValueError("give either band, or similarity_min and similarity_max")
        low = -1 if self.similarity_min is None else self.similarity_min
        high = 1 if self.similarity_max is None else self.similarity_max
        if low > high:
            raise ValueError("similarity_min is above similarity_max")
        return self

    @property
    def images(self) -> int:
        """How many variants are asked for."""
        return len(self.controls) if isinstance(self.controls, list) else self.count

    @property
    def listed(self) -> bool:
        """Whether the controls are listed one by one rather than drawn at random."""
        return isinstance(self.controls, list)


class PhotographParameters(_Parameters):
    """How a photograph is looked at."""

    rotate: Literal["auto", "none"] = "auto"
    """Whether a photograph in which no upright face is found is looked at on its sides and on its head as well."""

    unlike: Literal["refuse", "answer"] = "refuse"
    """What becomes of a face that is unlike the photograph of one, as a drawing is: refused, or answered with a word on
    it in its `face_quality`."""


class VariantsParameters(SamplingParameters, PhotographParameters):
    """Parameters of `/v1/variants`."""

    face: OneFace = "largest"
    """Which face of the photograph: the largest, or the index of one, largest first."""


class SweepParameters(PictureParameters, PhotographParameters):
    """Parameters of `/v1/sweep`."""

    control: ControlChoice = 0
    """Which control to walk: its index, 0..9, or its name from `/v1/model`."""

    steps: Whole = Field(9, ge=2, le=MAX_VARIANTS)
    """How many images, evenly from -1 to 1."""

    face: OneFace = "largest"
    """Which face of the photograph: the largest, or the index of one, largest first."""


class IdentitiesParameters(PhotographParameters):
    """Parameters of `/v1/identities`."""

    face: Faces = "largest"
    """Which face: the largest, the index of one, largest first, or all of them."""


class CompareParameters(PhotographParameters):
    """Parameters of `/v1/compare`."""

    reference_face: OneFace = "largest"
    """Which face of the reference."""

    probe_face: OneFace = "largest"
    """Which face of the probe."""

    normalise: Literal["none", "cohort"] = "none"
    """`cohort` adds the score normalised by the operator's cohort, where there is one (see docs/report.md)."""


class DetectParameters(_Parameters):
    """Parameters of `/v1/detect`: there are none, and any that is given is refused."""


class RenderRequest(SamplingParameters):
    """An identity, and which variants of it to draw."""

    # JSON has numbers: `true` is none, nor is "5", as text is where parameters stand in a form or query.
    model_config = ConfigDict(strict=True)

    identity: Identity
    """The identity latent of a face, as `/v1/identities` gives it."""

    reference: str | None = Field(None, max_length=MAX_LENGTH)
    """The photograph to measure similarity against, as `/v1/identities` and `/v1/variants` give it with the identity;
    without it similarity is to the most faithful redrawing, which is another thing."""

    @field_validator("controls", mode="before")
    @classmethod
    def _no_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError("must be a list of lists of numbers or of numbers by name, not text")
        return value
