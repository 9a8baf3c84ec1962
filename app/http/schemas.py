"""Answers as data: what OpenAPI shows of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from app.core.parameters import Control, Identity
from app.core.quality import Component


class Answer(BaseModel):
    """What all of them are."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ModelName(Answer):
    """The model that answered."""

    name: str
    version: str


class ReloadAnswer(Answer):
    """What came of a reload."""

    model: ModelName
    """The model in force now."""

    previous: ModelName
    """The model in force before."""

    changed: bool
    """Whether they differ; a version may be exported again under its old number."""


Point = tuple[float, float]


class Landmarks(Answer):
    """Points of a face in pixels of the photograph as a viewer shows it; right is the person's right."""

    right_eye: Point
    left_eye: Point
    nose_tip: Point
    mouth_centre: Point
    right_ear: Point
    left_ear: Point


class Doubt(Answer):
    """One reason why look-alikes may not be like the photograph."""

    component: Component
    """What was measured, named as in ISO/IEC 29794-5 where that has it."""

    detail: str


class Quality(Answer):
    """What was measured of a face."""

    head_pose_yaw: float
    """Degrees by which the head is turned to the side, by its key points; 0 faces the camera."""
    head_pose_roll: float
    """Degrees by which the head is inclined, clockwise."""
    inter_eye_distance: float
    """In pixels of the photograph."""
    sharpness: float
    """Fine detail by all contrast; below 0.06 a face is blurred."""
    face_likeness: float | None
    """Log-odds that this is the photograph of an upright face; null for a model with a recogniser of its own."""
    fidelity: float | None
    """Similarity of the most faithful redrawing to the photograph, -1..1; null where nothing is redrawn."""
    doubts: list[Doubt]
    """What is wrong with it; empty for a good photograph."""


class FoundFace(Answer):
    """A face, and where it was found."""

    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the photograph as a viewer shows it."""

    landmarks: Landmarks

    detection_score: float
    """Confidence of the detector, 0..1."""

    rotation: Literal[0, 90, 180, 270]
    """Degrees by which the photograph was turned clockwise for the face to be upright."""

    face_quality: Quality


class Source(FoundFace):
    """The face that variants were made of."""

    identity: Identity
    """Its identity latent."""

    reference: str
    """The photograph as similarity is measured against it, opaque: `/v1/render` takes it together with the identity."""

    grey: bool
    """Whether the face has no colour; its look-alikes have none either."""


class IdentityFace(Source):
    """One of the faces of a photograph."""

    index: int
    """Its place in the order by size, largest first."""


class Variant(Answer):
    """One synthetic face."""

    index: int
    control: Control

    similarity: float
    """Cosine of the recogniser between the variant and what it is measured against, -1..1."""

    in_band: bool
    """Whether the similarity lies in the band that was asked for, else in the model's look-alike band."""

    media_type: str
    width: int
    height: int

    image: str
    """The image file in standard base64."""


class Search(Answer):
    """How a search for a similarity band went."""

    similarity_min: float
    similarity_max: float

    wanted: int
    """Variants asked for."""

    found: int
    """Variants found inside the band; the answer holds these."""

    tries: int
    """Images that were drawn to find them."""


class RenderAnswer(Answer):
    """Variants of an identity."""

    id: str
    """Names this answer, and stands in the metadata of its images. It is a digest of input, parameters and model."""

    model: ModelName

    seed: int | None
    """The seed of the random controls; null where controls were given."""

    search: Search | None
    """How the search went; null where no band was asked for."""

    measured_against: Literal["photograph", "redrawing"]
    """What similarity is to: the photograph; or, where there is neither a photograph nor its `reference`, the most
    faithful redrawing of the identity, control 0. The look-alike band is about the former."""

    variants: list[Variant]


class VariantsAnswer(RenderAnswer):
    """Variants of a photographed face."""

    source: Source


class SweepAnswer(Answer):
    """Variants along one control."""

    id: str
    """Names this answer, and stands in the metadata of its images."""

    model: ModelName

    control: int
    """Index of the control that was walked."""

    measured_against: Literal["photograph", "redrawing"]
    """What similarity is to."""

    source: Source
    variants: list[Variant]


class IdentitiesAnswer(Answer):
    """The faces of a photograph."""

    id: str
    """Digest of the photograph, the parameters and the model."""

    model: ModelName

    found: int
    """Faces that the photograph has."""

    left_out: int
    """Faces that `faces` lacks: too small, unlike a face, or beyond the 64 largest."""

    faces: list[IdentityFace]


class ControlCard(Answer):
    """One control, and what moving it was measured to do."""

    index: int
    name: str

    effect: str = ""
    """What moving it from -1 to 1 was measured to do, with the statistics; empty where nobody measured."""

    low: str | None = None
    """The face at -1 in a word or two, like `narrow`; null where the model does not name its ends."""

    high: str | None = None
    """The face at 1 in a word or two, like `wide`; null together with `low`."""

    unit: str | None = None
    """What the effect is measured in, like `years`; null where it is not said."""


class NetworkCard(Answer):
    """One network of the model."""

    file: str
    sha256: str


class ModelAnswer(Answer):
    """The model in force."""

    name: str
    version: str
    created: str

    device: str
    """Where it runs: cpu or cuda."""

    precision: str
    """How the decoder computes: float32, float16 or int8."""

    frame_size: int
    """Side in pixels of the face that the encoder sees."""

    image_size: int
    """Side in pixels of every image as it is drawn."""

    picture_sizes: list[int]
    """Sides in pixels that images can be asked for in (`size`), as they are drawn first."""

    crop_size: int
    """Side in pixels of the square that the recogniser sees."""

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


class ParameterProblem(Answer):
    """What is wrong with one parameter."""

    name: str
    message: str


class Problem(Answer):
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


class Health(Answer):
    """Answer of the health checks."""

    status: str


class JobWebhook(Answer):
    """Who is told that a job has ended."""

    url: str
    state: Literal["pending", "delivered", "failed"]

    attempts: int
    """How often it was tried."""


class JobAnswer(Answer):
    """A job, and how far it is."""

    id: str

    state: Literal["queued", "running", "done", "failed"]
    """`failed` is a job that could not be ended; what had been made by then is in its result."""

    created: datetime
    started: datetime | None
    ended: datetime | None

    expires: datetime | None
    """When it will be removed, result and all; known once it has ended."""

    photographs: int
    """How many were sent."""

    used: int
    """How many of them gave images."""

    skipped: int
    """How many of them could not be used; the result says why."""

    images: int
    """How many images were made so far."""

    seed: int
    """Of the job; each photograph's follows from it and the photograph's name."""

    parameters: dict[str, Any]
    """What is asked for each photograph."""

    layout: Literal["person", "flat", "webdataset"]
    labels: Literal["same-person", "look-alike-is-new-person"]
    webhook: JobWebhook | None

    problem: str | None
    """Why it failed."""

    result: str | None
    """Address of the result, once there is one."""


class JobsAnswer(Answer):
    """The jobs of a key, the latest first."""

    jobs: list[JobAnswer]
