"""A client of the service in one file: typed, for programs that wait and for those that do other things meanwhile.

    from look_alikes import Client
    with Client("http://127.0.0.1:8000", key="...") as client:
        made = client.variants(Path("face.jpg"), count=8, band="lookalike")
        made.variants[0].save(Path("look-alike.jpg"))

`AsyncClient` has the same methods, to be awaited. What the service refuses is raised as `Refused`, with its own words.
Needs httpx and pydantic. As a program it writes look-alikes of a photograph into a folder. Where the service wants a
key, the variable KEY has it (not LOOKALIKE_KEY: beside that the service and its commands would refuse to start):

    python examples/look_alikes.py face.jpg look-alikes --count 4
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import httpx
from pydantic import Base64Bytes, BaseModel, ConfigDict, ValidationError

TRIES = 3
"""How often a request is made that the service is too busy for; it says itself how long to wait."""
LONGEST_WAIT = 30.0
SUFFIX = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}


class _Answer(BaseModel):
    # A later release may say more.
    model_config = ConfigDict(extra="ignore", frozen=True)


class Variant(_Answer):
    """One synthetic face, and how alike it is: cosine of the recogniser, -1..1."""

    index: int
    control: list[float]
    similarity: float
    in_band: bool
    media_type: str
    image: Base64Bytes

    def save(self, path: Path) -> None:
        """Write the image file."""
        path.write_bytes(self.image)


class Face(_Answer):
    """A face of a photograph; `render` needs it alone, so the photograph can be forgotten."""

    box: tuple[float, float, float, float]
    detection_score: float
    identity: list[float]
    reference: str | None = None


class Variants(_Answer):
    """Look-alikes of a face; the same seed and parameters make the same again."""

    id: str
    seed: int | None
    variants: list[Variant]
    source: Face | None = None


class Identities(_Answer):
    """The faces of a photograph, largest first."""

    faces: list[Face]


class Verdict(_Answer):
    """Whether two faces are one person's, at a threshold that a share `fmr` of pairs of strangers passes."""

    fmr: float
    threshold: float
    match: bool


class Comparison(_Answer):
    """How alike two photographs are."""

    similarity: float
    verdicts: list[Verdict]


class Refused(Exception):
    """The service did not do it; the message says why and what to do.

    Attributes:
        type: stable name of the problem, like `no-face`.
        status: of the answer.
        request_id: what its log calls the request.
    """

    def __init__(self, type: str, status: int, detail: str, request_id: str) -> None:  # noqa: A002 - its name in RFC 9457
        super().__init__(detail)
        self.type, self.status, self.request_id = type, status, request_id


def _headers(key: str) -> dict[str, str]:
    return {"Accept": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


def _form(parameters: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in parameters.items() if value is not None}


def _wait(answer: httpx.Response, tried: int) -> float | None:
    """Seconds until a busy service should be asked again; None where that is no use."""
    if answer.status_code not in (429, 503) or tried == TRIES:
        return None
    try:
        seconds = float(answer.headers.get("Retry-After", "1"))
    except ValueError:
        seconds = 1.0
    return seconds if seconds <= LONGEST_WAIT else None


def _checked(answer: httpx.Response) -> bytes:
    if answer.is_success:
        return answer.content
    try:
        told = answer.json()
        kind, detail = str(told["type"]).rpartition(":")[2], str(told["detail"])
    except (ValueError, KeyError, TypeError):  # something before the service answered
        kind, detail, told = "unknown", f"The answer has status {answer.status_code}.", {}
    raise Refused(kind, answer.status_code, detail, str(told.get("request_id", "")))


def _variants(photo: Path | bytes, **parameters: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/variants", {"files": {"image": _bytes(photo)}, "data": _form(parameters)}


def _render(face: Face, **parameters: Any) -> tuple[str, dict[str, Any]]:
    known = {"identity": face.identity, "reference": face.reference} | parameters
    return "/v1/render", {"json": {name: value for name, value in known.items() if value is not None}}


def _identities(photo: Path | bytes) -> tuple[str, dict[str, Any]]:
    return "/v1/identities", {"files": {"image": _bytes(photo)}, "data": {"face": "all"}}


def _compare(reference: Path | bytes, probe: Path | bytes) -> tuple[str, dict[str, Any]]:
    return "/v1/compare", {"files": {"reference": _bytes(reference), "probe": _bytes(probe)}}


def _bytes(photo: Path | bytes) -> bytes:
    return photo if isinstance(photo, bytes) else photo.read_bytes()


class Client:
    """For programs that wait for each answer.

    Args:
        address: of the service.
        key: an API key, where it wants one.
        timeout: seconds to wait for an answer.
    """

    def __init__(self, address: str = "http://127.0.0.1:8000", key: str = "", timeout: float = 60) -> None:
        self._http = httpx.Client(base_url=address, headers=_headers(key), timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def variants(
        self, photo: Path | bytes, count: int = 8, *, seed: int | None = None, band: Literal["lookalike"] | None = None
    ) -> Variants:
        """Look-alikes of the largest face of a photograph.

        Raises:
            Refused: there is no face, the photograph cannot be read, the limit is reached, or the service is too busy.
        """
        return Variants.model_validate_json(self._ask(*_variants(photo, count=count, seed=seed, band=band)))

    def render(self, face: Face, count: int = 8, *, seed: int | None = None) -> Variants:
        """Look-alikes of a face that is known by its identity."""
        return Variants.model_validate_json(self._ask(*_render(face, count=count, seed=seed)))

    def identities(self, photo: Path | bytes) -> list[Face]:
        """The faces of a photograph, largest first."""
        return Identities.model_validate_json(self._ask(*_identities(photo))).faces

    def compare(self, reference: Path | bytes, probe: Path | bytes) -> Comparison:
        """How alike the faces of two photographs are."""
        return Comparison.model_validate_json(self._ask(*_compare(reference, probe)))

    def _ask(self, path: str, request: dict[str, Any]) -> bytes:
        for tried in range(1, TRIES + 1):
            answer = self._http.post(path, **request)
            if (seconds := _wait(answer, tried)) is None:
                break
            time.sleep(seconds)
        return _checked(answer)


class AsyncClient:
    """The same for programs that do other things meanwhile; see `Client`."""

    def __init__(self, address: str = "http://127.0.0.1:8000", key: str = "", timeout: float = 60) -> None:
        self._http = httpx.AsyncClient(base_url=address, headers=_headers(key), timeout=timeout)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def variants(
        self, photo: Path | bytes, count: int = 8, *, seed: int | None = None, band: Literal["lookalike"] | None = None
    ) -> Variants:
        """Look-alikes of the largest face of a photograph."""
        return Variants.model_validate_json(await self._ask(*_variants(photo, count=count, seed=seed, band=band)))

    async def render(self, face: Face, count: int = 8, *, seed: int | None = None) -> Variants:
        """Look-alikes of a face that is known by its identity."""
        return Variants.model_validate_json(await self._ask(*_render(face, count=count, seed=seed)))

    async def identities(self, photo: Path | bytes) -> list[Face]:
        """The faces of a photograph, largest first."""
        return Identities.model_validate_json(await self._ask(*_identities(photo))).faces

    async def compare(self, reference: Path | bytes, probe: Path | bytes) -> Comparison:
        """How alike the faces of two photographs are."""
        return Comparison.model_validate_json(await self._ask(*_compare(reference, probe)))

    async def _ask(self, path: str, request: dict[str, Any]) -> bytes:
        for tried in range(1, TRIES + 1):
            answer = await self._http.post(path, **request)
            if (seconds := _wait(answer, tried)) is None:
                break
            await asyncio.sleep(seconds)
        return _checked(answer)


def main() -> int:
    """Write look-alikes of a photograph into a folder; returns the exit status: 0 done, 1 it cannot be done."""
    parser = argparse.ArgumentParser(description="Write look-alikes of a photograph into a folder.")
    parser.add_argument("photograph", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--address", default="http://127.0.0.1:8000")
    args = parser.parse_args()
    try:
        args.folder.mkdir(parents=True, exist_ok=True)
        with Client(args.address, os.environ.get("KEY", "")) as client:
            made = client.variants(args.photograph, args.count, seed=args.seed)
        for variant in made.variants:
            path = args.folder / f"{args.photograph.stem}-{variant.index:02}{SUFFIX[variant.media_type]}"
            variant.save(path)
            print(f"{path} {variant.similarity:.3f}{' in band' if variant.in_band else ''}")
    except (Refused, httpx.TransportError, httpx.InvalidURL) as error:
        print(f"{args.photograph}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
        return 1
    except ValidationError:
        print(f"{args.address}: this is no answer of the service", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
