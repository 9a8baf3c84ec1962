"""Recognisers behind an address: a small contract of our own, and three servers that speak their own.

    POST URL {"images": ["base64 of a PNG", ...]} -> {"embeddings": [[numbers] or null, ...]}

Pictures of faces leave this machine only to an address of this machine, or to a host that the user allowed by name. No
redirect is followed and no proxy asked, so that they go where it was allowed.
"""

from __future__ import annotations

import base64
import http.client
import io
import ipaddress
import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from PIL import Image

from app.audit.crops import Crop
from app.audit.recognisers import Recogniser
from app.core.faces import Bytes
from app.errors import RecogniserFailed

SECONDS = 120.0
"""How long a server has to answer; some load their networks at the first request."""


@dataclass(frozen=True)
class Server:
    """An address that may be asked.

    Attributes:
        parts: of the address.
        key: an API key, or empty.
    """

    parts: SplitResult
    key: str = field(default="", repr=False)

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        """Send a body to a path below the address; returns the status and the JSON of the answer.

        Raises:
            RecogniserFailed: nobody answers, with JSON, in time.
        """
        secure = self.parts.scheme == "https"
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = connect(self.parts.hostname or "", self.parts.port, timeout=SECONDS)
        where = f"{self.parts.scheme}://{self.parts.netloc}{path}"
        try:
            connection.request("POST", path, body, {"User-Agent": "lookalike", **headers})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise RecogniserFailed(f"{where}: does not answer ({error or type(error).__name__})") from error
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            raise RecogniserFailed(f"{where}: answered {answer.status} and no JSON") from None

    def post_json(self, path: str, content: Any, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """The same with JSON."""
        body = json.dumps(content).encode()
        return self.post(path, body, {"Content-Type": "application/json", **(headers or {})})

    def refused(self, path: str, status: int, answer: Any) -> ValueError:
        """What to say of an answer that is no result; of which picture it is said finds `recognisers` out."""
        named = answer if isinstance(answer, dict) else {}
        said = next((named[name] for name in ("message", "detail", "error") if name in named), answer)
        return ValueError(f"{self.parts.netloc}{path} answered {status}: {str(said)[:200]}")


def png(picture: Bytes) -> bytes:
    """A picture as a file, without loss."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def text(picture: Bytes) -> str:
    """The same in base64."""
    return base64.b64encode(png(picture)).decode()


def plain(server: Server) -> Callable[[list[Bytes]], Any]:
    """Embeddings by the small contract above."""
    path = (server.parts.path or "/") + (f"?{server.parts.query}" if server.parts.query else "")
    headers = {"Authorization": f"Bearer {server.key}"} if server.key else {}

    def embed(pictures: list[Bytes]) -> Any:
        status, answer = server.post_json(path, {"images": [text(picture) for picture in pictures]}, headers)
        if status != 200 or not isinstance(answer, dict) or "embeddings" not in answer:
            raise server.refused(path, status, answer)
        return answer["embeddings"]

    return embed


def insightface_rest(server: Server) -> Callable[[list[Bytes]], Any]:
    """Embeddings by InsightFace-REST: `POST /extract`, the largest face of each picture."""
    path = server.parts.path.rstrip("/") + "/extract"

    def embed(pictures: list[Bytes]) -> list[Any]:
        asked = {"images": {"data": [text(picture) for picture in pictures]}, "extract_embedding": True}
        status, answer = server.post_json(path, {**asked, "extract_ga": False, "return_face_data": False})
        if status != 200 or not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
            raise server.refused(path, status, answer)
        return [_largest(item.get("faces") or []) for item in answer["data"]]

    return embed


def _largest(faces: Sequence[dict[str, Any]]) -> Any:
    def area(face: dict[str, Any]) -> float:
        left, top, right, bottom = face.get("bbox") or (0, 0, 0, 0)
        return float((right - left) * (bottom - top))

    return max(faces, key=area)["vec"] if faces else None


def deepface(server: Server) -> Callable[[list[Bytes]], Any]:
    """Embeddings by the API of deepface: `POST /represent`, a picture a request.

    The query of the address is handed on: `?model_name=ArcFace&detector_backend=retinaface`.
    """
    path = server.parts.path.rstrip("/") + "/represent"
    options = dict(pair.split("=", 1) for pair in server.parts.query.split("&") if "=" in pair)

    def embed(pictures: list[Bytes]) -> list[Any]:
        return [one(picture) for picture in pictures]

    def one(picture: Bytes) -> Any:
        asked = {**options, "img": f"data:image/png;base64,{text(picture)}", "max_faces": 1}
        status, answer = server.post_json(path, asked)
        results = answer.get("results") if isinstance(answer, dict) else None
        if status == 200 and results:
            return results[0]["embedding"]
        # Its way to say that there is no face: a 400 with the exception's words.
        if status == 400 and "could not be detected" in str(answer):
            return None
        raise server.refused(path, status, answer)

    return embed


def compreface(server: Server) -> Callable[[list[Bytes], list[Bytes]], Any]:
    """Scores by CompreFace's verification: `POST /api/v1/verification/verify`, a pair a request."""
    path = server.parts.path.rstrip("/") + "/api/v1/verification/verify"

    def score(first: list[Bytes], second: list[Bytes]) -> list[float | None]:
        return [one(source, target) for source, target in zip(first, second, strict=True)]

    def one(source: Bytes, target: Bytes) -> float | None:
        body, kind = _form({"source_image": png(source), "target_image": png(target)})
        status, answer = server.post(f"{path}?limit=1", body, {"Content-Type": kind, "x-api-key": server.key})
        # Code 28 is "No face is found in the given image".
        if status == 400 and isinstance(answer, dict) and answer.get("code") == 28:
            return None
        if status != 200 or not isinstance(answer, dict) or not isinstance(answer.get("result"), list):
            raise server.refused(path, status, answer)
        matches = [match["similarity"] for found in answer["result"] for match in found.get("face_matches", [])]
        return max(matches, default=None)

    return score


def _form(files: dict[str, bytes]) -> tuple[bytes, str]:
    """Files as multipart/form-data, and its media type."""
    boundary = secrets.token_hex(16)
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.png"\r\n'
        "Content-Type: image/png\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files.items()
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


EMBED = {"": plain, "insightface-rest": insightface_rest, "deepface": deepface}
SCORE = {"compreface": compreface}


def key_from(variable: str) -> str:
    """The key that an environment variable holds, without white space around it.

    Raises:
        RecogniserFailed: there is none that a header could hold; the message never quotes it.
    """
    if variable not in os.environ:
        raise RecogniserFailed(f"--key-from: there is no variable {variable}")
    key = os.environ[variable].strip()
    if not (key and key.isascii() and key.isprintable()):
        raise RecogniserFailed(f"--key-from: {variable} holds no key; one is a line of letters, digits and signs")
    return key


def is_address(recogniser: str) -> bool:
    """Whether `--recogniser` names an address, with a kind of server before it or none."""
    return "://" in recogniser


def from_address(recogniser: str, crop: Crop | None, allowed: Sequence[str], key: str) -> Recogniser:
    """A recogniser behind an address, given as `KIND:URL`, or `URL` for the contract of this module.

    Raises:
        RecogniserFailed: there is no such kind, or the host may not be asked.
    """
    kind, _, rest = recogniser.partition(":") if not recogniser.startswith("http") else ("", "", recogniser)
    parts = _split(rest)
    if kind not in EMBED | SCORE or parts is None or not parts.hostname:
        kinds = ", ".join(name for name in sorted(EMBED | SCORE) if name)
        raise RecogniserFailed(
            f"--recogniser {recogniser}: is no address; give http(s)://..., with {kinds} and a colon before"
        )
    if parts.username is not None:
        raise RecogniserFailed("--recogniser: an address holds no password; name a variable with --key-from")
    if not _here(parts.hostname) and parts.netloc not in allowed and parts.hostname not in allowed:
        raise RecogniserFailed(
            f"{parts.hostname} is not this machine, and faces would go there: allow that with --allow {parts.hostname}"
        )
    server, chosen = Server(parts, key), crop or "portrait"
    if kind in SCORE:
        return Recogniser(recogniser, recogniser, chosen, score=SCORE[kind](server))
    return Recogniser(recogniser, recogniser, chosen, embed=EMBED[kind](server))


def _split(address: str) -> SplitResult | None:
    """The parts of an address of HTTP; None where it is none."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # which is looked at only when it is asked for
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") else None


def _here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
