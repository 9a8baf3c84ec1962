"""Settings of the service, from environment variables that begin with LOOKALIKE_.

Every field is one variable: `LOOKALIKE_PORT=9000`. A variable that is not in the table is refused at start, so that a
misspelled limit is never silently the default. `table()` prints them all; the README carries its output.
"""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "LOOKALIKE_"
PACKAGE = Path(__file__).parent


class Settings(BaseSettings):
    """What an operator can set, with its default."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` is every interface, as in a container."""

    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""

    workers: int = Field(1, ge=1, le=256)
    """Processes that share the port. Each loads the models; on one GPU leave it at 1."""

    models: Path = PACKAGE / "models"
    """Directory with `manifest.json` and the networks it names; checksums are verified at start."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`cpu`, `cuda` (an error at start where it cannot be had), or `auto`: CUDA where it loads, else the CPU."""

    threads: int = Field(0, ge=0, le=1024)
    """Threads that one network uses on the CPU; 0 takes every core."""

    image_threads: int = Field(2, ge=1, le=256)
    """Threads that read photographs, detect faces and write images."""

    batch_sizes: Annotated[tuple[int, ...], NoDecode] = ()
    """Batch sizes in images, ascending, like `1,2,4`; empty is 1,2,4,8 on the CPU and 1,4,16,64 on CUDA."""

    queue_images: int = Field(512, ge=64)
    """Images that may be waited for at once, over all requests; beyond it a request gets 503 with Retry-After.
    One request may ask for 64."""

    max_requests: int = Field(256, ge=1)
    """Requests with a body that may be open at once, uploads included; beyond it 503 with Retry-After."""

    deadline: float = Field(30.0, gt=0, le=3600)
    """Seconds a request may take before it is given up with 504."""

    drain_seconds: float = Field(0.0, ge=0, le=600)
    """Seconds between SIGTERM, when readiness turns false, and the end of accepting connections."""

    max_bytes: int = Field(16 * 2**20, ge=1024)
    """Largest request body in bytes; beyond it 413."""

    max_pixels: int = Field(64_000_000, ge=4096)
    """Largest photograph in pixels, read from its header before it is decoded; beyond it 413."""

    min_eye_distance: float = Field(16.0, ge=1)
    """Least distance between the eyes in pixels of the photograph; below it 422 `face-too-small`."""

    search_rounds: int = Field(8, ge=1, le=64)
    """Rounds a search for a similarity band may take; each decodes at most as many images as were asked for."""

    mark: bool = False
    """Draw a visible "AI" mark into the corner of every image, besides its metadata."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose web pages may call the service, comma-separated, or `*`; none by default."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged, as JSON lines on standard error."""

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_variables(cls, values: Any) -> Any:
        known = {PREFIX + name.upper() for name in cls.model_fields}
        for name in os.environ:
            if name.upper().startswith(PREFIX) and name.upper() not in known:
                near = difflib.get_close_matches(name.upper(), known, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(f"{name} is not a setting{hint}")
        return values

    @field_validator("batch_sizes", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("batch_sizes")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(size < 1 for size in value) or any(a >= b for a, b in itertools.pairwise(value)):
            raise ValueError("must be positive and ascending, like 1,2,4,8")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Settings:
        if "*" in self.cors_origins and len(self.cors_origins) > 1:
            raise ValueError("cors_origins is either * or a list of origins, not both")
        return self


def sentences(error: ValidationError) -> list[str]:
    """What is wrong with the settings, a sentence each, naming the variable."""
    return [
        (f"{PREFIX}{str(item['loc'][0]).upper()}: " if item["loc"] else "")
        + item["msg"].removeprefix("Value error, ").rstrip(".")
        for item in error.errors(include_url=False, include_input=False)
    ]


def table() -> str:
    """Every setting as a Markdown table, as the README carries it."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("|", "\\|")
        rows.append(f"| `{PREFIX}{name.upper()}` | {_shown(field.default)} | {meaning} |")
    return "\n".join(rows)


def _shown(value: object) -> str:
    if isinstance(value, Path):
        value = value.relative_to(PACKAGE.parent)
    elif isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, Sequence) and not isinstance(value, str):
        value = ",".join(map(str, value))
    return f"`{value}`" if str(value) else "-"
