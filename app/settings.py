"""Settings of the service, from environment variables that begin with LOOKALIKE_.

Every field is one variable: `LOOKALIKE_PORT=9000`. A variable that is not in the table is refused at start, so that a
misspelled limit is never silently the default. `table()` prints them all; docs/settings.md carries its output.
"""

from __future__ import annotations

import base64
import difflib
import importlib.util
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.keys import Keyring, parse_rates
from app.telemetry import tracing

PREFIX = "LOOKALIKE_"
PACKAGE = Path(__file__).parent
LARGEST_REQUEST = 64
"""Images that one request may ask for."""


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

    precision: Literal["auto", "float32", "float16", "int8"] = "auto"
    """How the decoder computes: `float32`; `float16`, for CUDA, its norms in float32; `int8`, for the CPU, about twice
    as fast (pixels differ by a level or so of 255); or `auto`: int8 where the model has it and the CPU has VNNI
    instructions for it, else float32."""

    threads: int = Field(0, ge=0, le=1024)
    """Threads for the networks on the CPU, a batch each; 0 takes one a core, shared among the workers."""

    image_threads: int = Field(0, ge=0, le=256)
    """Threads that read photographs, detect faces and write images; 0 takes one a core too, but at least 2."""

    batch_sizes: Annotated[tuple[int, ...], NoDecode] = ()
    """Batch sizes in images, ascending, like `1,2,4`; empty is 1,2,3,4,5 on the CPU and 1,4,16,64 on CUDA."""

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

    cohort: Path | None = None
    """File `cohort.npz` that `python -m app cohort` made, for `/v1/compare` to normalise by; off without."""

    mark: bool = False
    """Draw a visible "AI" mark into the corner of every image, besides its metadata."""

    metadata: bool = True
    """Say in the metadata of every image what drew it: IPTC digital source type in XMP, and a Software tag."""

    watermark: bool = True
    """Lay an imperceptible mark into the pixels of every image, with the model's version and `installation`."""

    watermark_key_file: Path | None = None
    """File with a secret key of at least 16 characters for that mark; without it the open build's, which is public."""

    installation: int = Field(0, ge=0, le=65535)
    """Number that the mark tells of this installation; 0 says nothing."""

    c2pa_certificates: Path | None = None
    """Certificate chain in PEM, the signer's first, to sign every image with (needs the extra `c2pa`); off without."""

    c2pa_key: Path | None = None
    """File with the private key of the first certificate, in PEM without a password."""

    c2pa_trust: Path | None = None
    """Root certificates in PEM, besides those of `c2pa_certificates`, whose signatures `/v1/detect` calls trusted."""

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose web pages may call the service, comma-separated, or `*`; none by default."""

    keys: Annotated[tuple[str, ...], NoDecode] = ()
    """Keys that may call the service, as `name:sha256` of each, comma-separated; `python -m app key NAME` makes one.
    Without this and `keys_file` everybody may."""

    keys_file: Path | None = None
    """File with further keys, one `name:sha256` a line; a change of it is in force within a second or so."""

    admin_keys: Annotated[tuple[str, ...], NoDecode] = ()
    """Names of the keys that may reload the model; empty is every key. Without keys nobody may."""

    protect: Annotated[tuple[Literal["health", "metrics", "docs"], ...], NoDecode] = ()
    """What needs a key besides the API: any of `health,metrics,docs`; nothing by default."""

    rate_limit: str = ""
    """Images that a key (without keys: a client address) may ask for, like `600/minute` or `100/second;50000/day`;
    beyond it 429 with Retry-After. No limit by default."""

    rate_store: str = Field("memory://", pattern="^(memory|rediss?)://")
    """Where images are counted: `memory://`, in this process, or `redis://HOST:PORT/0`, which replicas share (needs the
    extra `redis`)."""

    jobs: Path | None = None
    """Folder for jobs; `/v1/jobs` is off without it. It holds photographs until they are used, and results."""

    jobs_upload_bytes: int = Field(256 * 2**20, ge=1024)
    """Largest body of a job in bytes; beyond it 413. One photograph has at most `max_bytes`."""

    jobs_photographs: int = Field(10_000, ge=1)
    """Photographs that a job may have."""

    jobs_disk_bytes: int = Field(10 * 2**30, ge=2**20)
    """What all jobs may take up on the disk, in bytes; beyond it no further one is taken, and running ones
    wait for results to go; where there are none, they end as `failed` with what was made."""

    jobs_open: int = Field(8, ge=1)
    """Jobs that a key may have waiting or running; beyond it 429."""

    jobs_keep_seconds: float = Field(86400.0, ge=1, le=1e9)
    """Seconds that a result stays after the job has ended."""

    webhook_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins that may be told of the end of a job, like `https://hooks.example.org`, comma-separated; none by
    default."""

    webhook_secret: SecretStr = SecretStr("")
    """What webhooks are signed with: `whsec_` and at least 24 bytes in base64 (see docs/jobs.md)."""

    webhook_private: bool = False
    """Let webhooks go to private addresses too, as within a cluster."""

    trusted_proxies: str = "127.0.0.1"
    """Addresses or networks of proxies, comma-separated, whose X-Forwarded-For says who the client is; `*` is all."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is logged, as JSON lines on standard error."""

    tracing: bool = False
    """Send OpenTelemetry spans to where OTEL_EXPORTER_OTLP_ENDPOINT and its like say (needs the extra `otel`)."""

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

    @field_validator("batch_sizes", "cors_origins", "keys", "admin_keys", "protect", "webhook_origins", mode="before")
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
        if self.precision == "int8" and self.device == "cuda":
            raise ValueError("precision int8 is for the CPU, but device is cuda")
        if self.precision == "float16" and self.device == "cpu":
            raise ValueError("precision float16 is for CUDA, but device is cpu")
        for check in (_check_keys, _check_rate_limit, _check_webhooks, _check_credentials):
            check(self)
        if self.tracing and not tracing.available():
            raise ValueError("tracing needs OpenTelemetry: pip install 'lookalike[otel]'")
        return self

    @property
    def needs_key(self) -> bool:
        """Whether the API is for those who have a key."""
        return bool(self.keys) or self.keys_file is not None


def _check_keys(settings: Settings) -> None:
    if not settings.needs_key:
        for name in ("admin_keys", "protect"):
            if getattr(settings, name):
                raise ValueError(f"{name} is set, but there are no keys: set keys or keys_file as well")
        return
    names = Keyring(settings.keys, settings.keys_file).names
    if not settings.keys_file and (unknown := set(settings.admin_keys) - names):
        raise ValueError(f"admin_keys names {', '.join(sorted(unknown))}, but keys has no such name")


def _check_webhooks(settings: Settings) -> None:
    if not settings.webhook_origins:
        return
    for origin in settings.webhook_origins:
        if not re.fullmatch(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?", origin):
            raise ValueError(f"webhook_origins: {origin} is no origin, like https://hooks.example.org:8443")
        if origin.startswith("http:") and not settings.webhook_private:
            raise ValueError(f"webhook_origins: {origin} must begin with https://, unless webhook_private is set")
    if len(signing_key(settings.webhook_secret.get_secret_value())) < 24:
        raise ValueError("webhook_secret must be whsec_ and at least 24 bytes in base64, to sign webhooks with")


def _check_credentials(settings: Settings) -> None:
    if bool(settings.c2pa_certificates) != bool(settings.c2pa_key):
        raise ValueError("c2pa_certificates and c2pa_key go together: set both, or neither")
    if (settings.c2pa_certificates or settings.c2pa_trust) and importlib.util.find_spec("c2pa") is None:
        raise ValueError("content credentials need a library: pip install 'lookalike[c2pa]'")


def _check_rate_limit(settings: Settings) -> None:
    shared = not settings.rate_store.startswith("memory:")
    if not settings.rate_limit:
        if shared:
            raise ValueError("rate_store is set, but there is nothing to count: set rate_limit as well")
        return
    if any(rate.amount < LARGEST_REQUEST for rate in parse_rates(settings.rate_limit)):
        raise ValueError(f"rate_limit must leave room for one request, which may ask for {LARGEST_REQUEST} images")
    if shared and importlib.util.find_spec("redis") is None:
        raise ValueError("rate_store needs a client of Redis: pip install 'lookalike[redis]'")
    if not shared and settings.workers > 1:
        raise ValueError(
            f"{settings.workers} workers would each count images on their own: set rate_store to a redis:// address"
        )


def signing_key(secret: str) -> bytes:
    """The bytes that webhooks are signed with; none where the secret is not one."""
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True) if secret.startswith("whsec_") else b""
    except ValueError:
        return b""


def sentences(error: ValidationError) -> list[str]:
    """What is wrong with the settings, a sentence each, naming the variable."""
    return [
        (f"{PREFIX}{str(item['loc'][0]).upper()}: " if item["loc"] else "")
        + item["msg"].removeprefix("Value error, ").rstrip(".")
        for item in error.errors(include_url=False, include_input=False)
    ]


def reasons(error: Exception) -> list[str]:
    """Why a command cannot begin, a sentence each: what is wrong with the settings, or what the error says."""
    return sentences(error) if isinstance(error, ValidationError) else [str(error)]


def table() -> str:
    """Every setting as a Markdown table, as docs/settings.md carries it."""
    return "\n".join(
        [
            "| variable | default | meaning |",
            "|---|---|---|",
            *(
                f"| `{row['variable']}` | {_shown(row['default'])} | {_cell(row['meaning'])} |"
                for row in rows_of_settings()
            ),
        ]
    )


def rows_of_settings() -> list[dict[str, Any]]:
    """Every setting with its variable, its default and its meaning."""
    return [
        {
            "variable": PREFIX + name.upper(),
            "default": field.default,
            "meaning": " ".join((field.description or "").split()),
        }
        for name, field in Settings.model_fields.items()
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Path):
        value = value.relative_to(PACKAGE.parent)
    elif isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, Sequence) and not isinstance(value, str):
        value = ",".join(map(str, value))
    return f"`{value}`" if str(value) else "-"
