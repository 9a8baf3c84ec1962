"""Requests and answers as data: what is valid, and what OpenAPI shows."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from app.generator import CONTROL_SIZE, IDENTITY_SIZE
from app.imaging import Format

MAX_VARIANTS = 64

Unit = Annotated[float, Field(ge=-1, le=1)]
Control = Annotated[list[Unit], Field(min_length=CONTROL_SIZE, max_length=CONTROL_SIZE)]
Controls = Annotated[list[Control], Field(min_length=1, max_length=MAX_VARIANTS)]
Identity = Annotated[
    list[Annotated[float, Field(ge=-100, le=100)]], Field(min_length=IDENTITY_SIZE, max_length=IDENTITY_SIZE)
]


def _plain(value: Any) -> Any:
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        raise ValueError("must be a whole number in plain digits")
    return value


FaceIndex = Annotated[int, BeforeValidator(_plain), Field(ge=0)]


def _from_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("must be a JSON list of lists of numbers") from None


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class PictureParameters(_Parameters):
    """How images are written."""

    format: Format = "jpeg"
    """File format of the images."""

    quality: int = Field(95, ge=1, le=100)
    """Quality of JPEG and WebP; 100 makes WebP lossless; PNG always is."""


class SamplingParameters(PictureParameters):
    """Which controls to draw variants for."""

    count: int = Field(8, ge=1, le=MAX_VARIANTS)
    """How many random controls."""

    controls: Annotated[Controls | None, BeforeValidator(_from_json)] = None
    """The controls themselves, instead of `count`: a JSON list of lists of 10 numbers in [-1, 1]."""

    seed: int | None = Field(None, ge=0, lt=2**32)
    """Same photograph, seed, parameters and model version: same bytes. Random unless given, and returned."""

    strength: float = Field(1.0, ge=0, le=1)
    """Random controls are uniform in the cube [-strength, strength]^10: 0 redraws the person, 1 is a look-alike."""

    similarity_min: Unit | None = None
    """Search for variants at least this similar to the source."""

    similarity_max: Unit | None = None
    """Search for variants at most this similar to the source."""

    band: Literal["lookalike"] | None = None
    """Search inside the model's calibrated band instead of two numbers."""

    @model_validator(mode="after")
    def _one_way_to_choose(self) -> SamplingParameters:
        if self.controls is not None:
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
        return self.count if self.controls is None else len(self.controls)


class VariantsParameters(SamplingParameters):
    """Parameters of `/v1/variants`."""

    face: Literal["largest"] | FaceIndex = "largest"
    """Which face of the photograph: the largest, or the index of one, largest first."""


class SweepParameters(PictureParameters):
    """Parameters of `/v1/sweep`."""

    control: Annotated[int, Field(ge=0, lt=CONTROL_SIZE)] | str = Field(0, union_mode="left_to_right")
    """Which control to walk: its index, 0..9, or its name from `/v1/model`."""

    steps: int = Field(9, ge=2, le=MAX_VARIANTS)
    """How many images, evenly from -1 to 1."""

    face: Literal["largest"] | FaceIndex = "largest"
    """Which face of the photograph: the largest, or the index of one, largest first."""


class IdentitiesParameters(_Parameters):
    """Parameters of `/v1/identities`."""

    face: Literal["largest", "all"] | FaceIndex = "largest"
    """Which face: the largest, the index of one, largest first, or all of them."""


class CompareParameters(_Parameters):
    """Parameters of `/v1/compare`."""

    reference_face: Literal["largest"] | FaceIndex = "largest"
    """Which face of the reference."""

    probe_face: Literal["largest"] | FaceIndex = "largest"
    """Which face of the probe."""


class RenderRequest(SamplingParameters):
    """An identity, and which variants of it to draw."""

    # JSON has numbers: `true` is none, nor is "5", as text is where parameters stand in a form or query.
    model_config = ConfigDict(strict=True)

    identity: Identity
    """The identity latent of a face, as `/v1/identities` gives it."""

    @field_validator("controls", mode="before")
    @classmethod
    def _no_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError("must be a list of lists of numbers")
        return value


class _Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class ModelName(_Answer):
    """The model that answered."""

    name: str
    version: str


class ReloadAnswer(_Answer):
    """What came of a reload."""

    model: ModelName
    """The model in force now."""

    previous: ModelName
    """The model in force before."""

    changed: bool
    """Whether they differ; a version may be exported again under its old number."""


Point = tuple[float, float]


class Landmarks(_Answer):
    """Points of a face in pixels of the upright photograph; right is the person's right."""

    right_eye: Point
    left_eye: Point
    nose_tip: Point
    mouth_centre: Point
    right_ear: Point
    left_ear: Point


class FoundFace(_Answer):
    """A face, and where it was found."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the upright photograph."""

    landmarks: Landmarks

    detection_score: float
    """Confidence of the detector, 0..1."""


class Source(FoundFace):
    """The face that variants were made of."""

    identity: Identity
    """Its identity latent."""


class IdentityFace(Source):
    """One of the faces of a photograph."""

    index: int
    """Its place in the order by size, largest first."""


class Variant(_Answer):
    """One synthetic face."""

    index: int
    control: Control

    similarity: float
    """Cosine of the recogniser between source and variant, -1..1."""

    in_band: bool
    """Whether the similarity lies in the band that was asked for, else in the model's look-alike band."""

    media_type: str
    width: int
    height: int

    image: str
    """The image file in standard base64."""


class Search(_Answer):
    """How a search for a similarity band went."""

    similarity_min: float
    similarity_max: float

    wanted: int
    """Variants asked for."""

    found: int
    """Variants found inside the band; the answer holds these."""

    tries: int
    """Images that were drawn to find them."""


class RenderAnswer(_Answer):
    """Variants of an identity."""

    id: str
    """Names this answer, and stands in the metadata of its images. It is a digest of input, parameters and model."""

    model: ModelName

    seed: int | None
    """The seed of the random controls; null where controls were given."""

    search: Search | None
    """How the search went; null where no band was asked for."""

    variants: list[Variant]


class VariantsAnswer(RenderAnswer):
    """Variants of a photographed face."""

    source: Source


class SweepAnswer(_Answer):
    """Variants along one control."""

    id: str
    """Names this answer, and stands in the metadata of its images."""

    model: ModelName

    control: int
    """Index of the control that was walked."""

    source: Source
    variants: list[Variant]


class IdentitiesAnswer(_Answer):
    """The faces of a photograph."""

    id: str
    """Digest of the photograph, the parameters and the model."""

    model: ModelName
    faces: list[IdentityFace]


class Verdict(_Answer):
    """A decision at one false match rate."""

    fmr: float
    """Share of pairs of different people that this threshold takes for one."""

    threshold: float
    match: bool


class CompareAnswer(_Answer):
    """How alike two faces are."""

    id: str
    """Digest of both photographs, the parameters and the model."""

    model: ModelName

    similarity: float
    """Cosine of the recogniser, -1..1."""

    verdicts: list[Verdict]
    reference: FoundFace
    probe: FoundFace


class ControlCard(_Answer):
    """One control, and what moving it was measured to do."""

    index: int
    name: str
    effect: str


class NetworkCard(_Answer):
    """One network of the model."""

    file: str
    sha256: str


class ModelAnswer(_Answer):
    """The model in force."""

    name: str
    version: str
    created: str

    device: str
    """Where it runs: cpu or cuda."""

    precision: str
    """How the decoder computes: float32, float16 or int8."""

    frame_size: int
    """Side of every image in pixels."""

    identity_size: int
    control_size: int
    controls: list[ControlCard]

    thresholds: dict[str, float]
    """Cosine similarities: false match rates, and the median of genuine pairs."""

    lookalike_band: tuple[float, float]
    """Similarities between which a variant counts as a look-alike."""

    metrics: dict[str, Any]
    """Measured quality, as the model card explains it."""

    training: dict[str, Any]
    networks: dict[str, NetworkCard]

    card: str
    """The model card, in Markdown."""


class ParameterProblem(_Answer):
    """What is wrong with one parameter."""

    name: str
    message: str


class Problem(_Answer):
    """An error (RFC 9457)."""

    type: str
    """Stable name of the kind of problem."""

    title: str
    status: int

    detail: str
    """What to do about it."""

    request_id: str

    errors: list[ParameterProblem] | None = None
    """The parameters in question, where it is about parameters."""


class Health(_Answer):
    """Answer of the health checks."""

    status: str
