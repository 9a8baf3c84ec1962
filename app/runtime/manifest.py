"""The manifest of a model directory: what the networks are, their checksums, thresholds and controls.

`manifest.json` stands beside the networks it names. It is verified before anything is loaded, so a truncated copy or a
network of another export is refused by name and not found out by odd faces.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import ModelsInvalid

FILE = "manifest.json"
CARD = "MODEL_CARD.md"

Role = Literal["encoder", "decoder", "decoder_int8", "detail", "detector_near", "detector_far", "recognizer"]

NETWORKS: dict[Role, str] = {
    "encoder": "encoder.onnx",
    "decoder": "decoder.onnx",
    "decoder_int8": "decoder_int8.onnx",
    "detail": "detail.onnx",
    "detector_near": "face_detector_back.onnx",
    "detector_far": "face_detector_full_range.onnx",
    "recognizer": "face_recognizer.onnx",
}
DETAIL_SCALE = 2
"""Sides of a picture that the detail stage has drawn, in sides of what it was given."""
OPTIONAL: frozenset[Role] = frozenset({"decoder_int8", "detail"})


class NetworkFile(BaseModel):
    """One network on disk, with the names and shapes of its tensors; `n` is the batch dimension."""

    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    inputs: dict[str, list[int | str]] = {}
    outputs: dict[str, list[int | str]] = {}


class Control(BaseModel):
    """One dimension of the control vector and what moving it was measured to do.

    A name and two plain ends are for people; `effect`, with its statistics, is for whoever asks how sure that is.
    """

    name: str
    effect: str = ""
    low: str | None = Field(None, min_length=1)
    high: str | None = Field(None, min_length=1)
    unit: str | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _both_ends(self) -> Control:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"control {self.name!r} names one end of two: give both low and high, or neither")
        return self


class Redrawing(BaseModel):
    """How closely faces are redrawn: least correlations of light and dark that all but 1 % of photographs reach."""

    eyes: float = Field(0.46, ge=-1, le=1)
    mouth: float = Field(0.18, ge=-1, le=1)


class Thresholds(BaseModel):
    """Cosine similarities of the recogniser in the face frame, calibrated on held-out faces."""

    model_config = ConfigDict(populate_by_name=True)

    fmr_1e_2: float = Field(alias="fmr_1e-2", ge=-1, le=1)
    fmr_1e_3: float = Field(alias="fmr_1e-3", ge=-1, le=1)
    fmr_1e_4: float = Field(alias="fmr_1e-4", ge=-1, le=1)
    genuine_median: float = Field(ge=-1, le=1)

    @property
    def lookalike_band(self) -> tuple[float, float]:
        """Where two people are taken for one, and yet a photograph is not merely repeated."""
        return self.fmr_1e_3, self.genuine_median


def fitting_a_header(text: str) -> str:
    """A model's name or version as it is: answers carry both in a header.

    Raises:
        ValueError: it has line ends, or letters beyond Latin-1.
    """
    if not text.isprintable() or not all(character <= "\xff" for character in text):
        raise ValueError(f"{text!r} must be on one line, in letters of Latin-1")
    return text


HeaderText = Annotated[str, AfterValidator(fitting_a_header)]


class Manifest(BaseModel):
    """What `manifest.json` holds."""

    name: HeaderText
    version: HeaderText
    created: str

    frame_size: int = Field(128, ge=32, le=1024)
    """Side of the square in which the encoder sees a face, in pixels."""

    image_size: int = Field(128, ge=32, le=1024)
    """Side of the pictures that the decoder draws."""

    crop_size: int = Field(112, ge=32, le=1024)
    """Side of the square that the recogniser sees of either."""

    identity_size: int = Field(ge=1)
    control_size: int = Field(ge=1)
    files: dict[Role, NetworkFile]
    controls: list[Control]
    thresholds: Thresholds
    redrawing: Redrawing = Redrawing()
    metrics: dict[str, Any] = {}
    training: dict[str, Any] = {}

    @property
    def picture_sizes(self) -> list[int]:
        """Sides in pixels that pictures can be asked for in: as they are drawn, and with the detail stage."""
        larger = [DETAIL_SCALE * self.image_size] if "detail" in self.files else []
        return [self.image_size, *larger]

    @property
    def control_names(self) -> list[str]:
        """What the controls are called, in their order."""
        return [control.name for control in self.controls]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        for role, file in NETWORKS.items():
            if role not in self.files and role in OPTIONAL:
                continue
            if role not in self.files:
                raise ValueError(f"files lacks {role}")
            if self.files[role].file != file:
                raise ValueError(f"files.{role}.file must be {file}")
        if len(self.controls) != self.control_size:
            raise ValueError(f"names {len(self.controls)} controls, but control_size is {self.control_size}")
        if self.thresholds.fmr_1e_3 >= self.thresholds.genuine_median:
            raise ValueError("thresholds leave no look-alike band: fmr_1e-3 is not below genuine_median")
        return self


def read_manifest(models: Path) -> Manifest:
    """Read and verify the manifest of a model directory, checksums included.

    Raises:
        ModelsInvalid: the manifest or a network is missing, malformed, truncated or of another export.
    """
    manifest = parse_manifest(models)
    for network in manifest.files.values():
        verify_file(models / network.file, network.sha256)
    return manifest


def parse_manifest(models: Path) -> Manifest:
    """Read the manifest of a model directory alone.

    Raises:
        ModelsInvalid: it is missing or malformed.
    """
    path = models / FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelsInvalid(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ModelsInvalid(f"{path}: {place + ': ' if place else ''}{first['msg']}") from error


def verify_file(path: Path, sha256: str) -> None:
    """Compare the checksum of a network with what the manifest says.

    Raises:
        ModelsInvalid: they differ, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelsInvalid(f"{path}: cannot be read ({error.strerror})") from error
    if found != sha256:
        raise ModelsInvalid(
            f"{path}: sha256 is {found[:12]}…, but {FILE} says {sha256[:12]}…: a truncated copy, or of another export"
        )
