"""What `/v1/detect` answers, as data: what OpenAPI shows of it."""

from __future__ import annotations

from typing import Literal

from app.http.schemas import Answer, ModelName, Point


class MetadataLayer(Answer):
    """What the metadata of a picture say; anybody can write them, and remove them."""

    present: bool
    """Whether they say that a model drew it."""

    digital_source_type: str
    """IPTC digital source type; empty where none is given, as are the others."""

    system: str
    """What drew it."""

    version: str
    software: str
    """The Software tag, or the creator tool."""

    document: str
    """Id of the document: of a picture of this service that of its answer."""


class CredentialsLayer(Answer):
    """What the content credentials (C2PA manifest) of a picture say, and whether they hold."""

    present: bool
    valid: bool
    """Whether signature and picture belong together."""

    state: Literal["absent", "trusted", "valid", "invalid", "not-checked"]
    """`trusted`: valid, and signed by somebody this service trusts; `not-checked`: it lacks the library."""

    why: list[str]
    """What does not hold, or why it was not checked."""

    generator: str
    """What made the claim; empty where nothing does, as are the others."""

    version: str
    digital_source_type: str
    when: str
    """When the picture was drawn, by the one who signed."""

    signer: str
    """Whom the certificate names."""


class PixelMark(Answer):
    """A mark in the pixels."""

    score: float
    """Correlation with the mark in standard deviations."""

    version: str
    """Of the model that drew it; empty where it has no number."""

    installation: int
    """Number of the installation that drew it; 0 where it has none."""

    ours: bool
    """Whether key and number are those of this service."""

    mirrored: bool
    """Whether the picture shows it with left and right exchanged."""

    frame: list[Point]
    """Corners of the drawn face in pixels of the picture, from what was the upper left, clockwise."""


class PixelsLayer(Answer):
    """The imperceptible marks in the pixels of a picture."""

    present: bool
    score: float
    """The best correlation that was met anywhere; 0 where nothing looked worth reading."""

    threshold: float
    """The score from which it is a mark."""

    false_alarm_rate: float
    """At most this share of pictures without a mark reaches the threshold."""

    marks: list[PixelMark]


class OriginLayers(Answer):
    """The three layers."""

    metadata: MetadataLayer
    credentials: CredentialsLayer
    pixels: PixelsLayer


class DetectAnswer(Answer):
    """Which marks of origin a picture carries."""

    model: ModelName
    """The model in force."""

    verdict: Literal["drawn-by-this-model", "drawn-by-another-installation", "no-mark-found"]

    statement: str
    """The verdict in a sentence, with what it rests on."""

    width: int
    height: int
    faces: int
    """How many faces were found; where there is none the whole picture is searched."""

    layers: OriginLayers
