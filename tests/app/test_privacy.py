"""Nothing of a face is written anywhere: a real server is sent photographs in many ways, and then everything that it
could have written is searched for them.

Temporary files may have no name and be gone at once, so a hook in the server's process notes every file that it opens
to write; what it logs, counts and leaves behind is searched for the bytes of the photographs and for the identity.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import ExifTags, Image

from app.keys import make_key
from tests.patience import PATIENCE, until
from tests.ports import Port

ROOT = Path(__file__).parents[2]
MARKER = "MARKER-7f3d-Eileen"
"""Stands in names and metadata that come with a photograph."""
KEY, KEY_LINE = make_key("tester")
DRAWN = 'lookalike_batch_images_sum{model="decoder"}'
WINDOW = 12
"""Bytes that count as a piece of a photograph."""

CHANGES_WHAT_IS_REPORTED = (
    "CI",
    "GITHUB_ACTIONS",
    "ORT_DISABLE_TELEMETRY",
    "ORT_RUNNING_UNIT_TESTS",
    "TF_BUILD",
    "XDG_CACHE_HOME",
)
"""ONNX Runtime reports home, by way of a file, unless it is told not to or believes that it is being tested."""

HOOK = """
import os, sys

record = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def note(event, arguments):
    if event == "open" and not isinstance(arguments[0], int) and arguments[2] & writing:
        os.write(record, f"open {arguments[0]}\\n".encode())
    elif event in ("tempfile.mkstemp", "tempfile.mkdtemp", "os.mkdir", "os.rename", "os.link", "os.symlink"):
        os.write(record, f"{event} {arguments[0]}\\n".encode())

sys.addaudithook(note)
"""


# What counts as a trace


def windows(data: bytes) -> set[bytes]:
    return {data[start : start + WINDOW] for start in range(len(data) - WINDOW + 1)}


def spellings(data: bytes) -> Iterator[bytes]:
    """The ways in which bytes could stand in a text or file."""
    yield data
    yield repr(data).encode()
    yield data.hex().encode()
    for shift in range(3):
        yield base64.b64encode(data[shift:])
        yield base64.urlsafe_b64encode(data[shift:])


def traces(haystack: bytes, photos: list[bytes], identity: list[float]) -> list[bytes]:
    """Pieces of the photographs or of the identity that the haystack holds; any 23 bytes of a photograph are found."""
    present = windows(haystack)
    found = [
        text[start : start + WINDOW]
        for photo in photos
        for text in spellings(photo)
        for start in range(0, len(text) - WINDOW, WINDOW)
        if text[start : start + WINDOW] in present
    ]
    numbers = [str(value).encode() for value in identity if len(str(abs(value))) >= 8]
    assert len(numbers) > 30, "the identity is told by its digits"
    binary = struct.pack(f"<{len(identity)}f", *identity)
    found += [number for number in numbers if number in haystack]
    found += [binary[start : start + 8] for start in range(0, len(binary), 8) if binary[start : start + 8] in haystack]
    return found + ([MARKER.encode()] if MARKER.encode() in haystack else [])


@pytest.mark.parametrize("spelling", range(9))
def test_the_search_finds_a_piece_of_a_photograph_in_any_spelling(photo: bytes, spelling: int) -> None:
    piece = list(spellings(photo[5001:5061]))[spelling]
    identity = [0.12345678 + i for i in range(70)]
    assert traces(b'{"event": "' + piece + b'"}', [photo], identity)
    assert not traces(b'{"event": "request", "seconds": 0.2}', [photo], identity)


def test_the_search_finds_a_number_of_an_identity(photo: bytes) -> None:
    identity = [0.12345678 + i for i in range(70)]
    assert traces(b"[1, 33.12345678]", [photo], identity)
    assert traces(struct.pack("<2f", *identity[4:6]), [photo], identity)


# The server and its surroundings


@dataclass
class Surroundings:
    """Where a process runs, and all that it could leave behind."""

    place: Path

    @property
    def folders(self) -> list[Path]:
        return [self.place / name for name in ("temporary", "work", "home")]

    def environment(self, **settings: str) -> dict[str, str]:
        for folder in (*self.folders, self.place / "hook"):
            folder.mkdir()
        (self.place / "hook" / "sitecustomize.py").write_text(HOOK)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("LOOKALIKE_") and name not in CHANGES_WHAT_IS_REPORTED
        }
        if "LOOKALIKE_MODELS" in os.environ:
            kept["LOOKALIKE_MODELS"] = os.environ["LOOKALIKE_MODELS"]
        temporary, _, home = map(str, self.folders)
        return kept | {
            "HOME": home,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{self.place / 'hook'}{os.pathsep}{ROOT}",
            "RECORD": str(self.place / "record"),
            "TMPDIR": temporary,
            **settings,
        }

    def record(self) -> list[str]:
        """What the process opened to write, and which folders and links it made."""
        return (self.place / "record").read_text().splitlines()

    def files(self) -> list[Path]:
        return [path for folder in self.folders for path in folder.rglob("*") if path.is_file()]

    def everything(self) -> bytes:
        """All that was said and written, names included."""
        parts = [(self.place / name).read_bytes() for name in ("log", "record")]
        parts += [str(path).encode() + b"\n" + path.read_bytes() for path in self.files()]
        return b"\n".join(parts)


class Server:
    def __init__(self, place: Path, **settings: str) -> None:
        self._port = Port()
        self.port = self._port.number
        self.surroundings = Surroundings(place)
        environment = self.surroundings.environment(
            LOOKALIKE_BATCH_SIZES="1,2",
            LOOKALIKE_DEVICE="cpu",
            LOOKALIKE_DEADLINE=str(PATIENCE),
            LOOKALIKE_KEYS=KEY_LINE,
            LOOKALIKE_LOG_LEVEL="debug",
            LOOKALIKE_PORT=str(self.port),
            **settings,
        )
        with (place / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve"], cwd=place / "work", env=environment, stdout=log, stderr=log
            )
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"X-API-Key": KEY}, timeout=PATIENCE, trust_env=False
        )

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            try:
                return self.client.get("/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        def check_alive() -> None:
            assert self.process.poll() is None, self.log

        until(ready, "it was ready", check_alive)

    @property
    def log(self) -> str:
        return (self.surroundings.place / "log").read_text()

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(PATIENCE)
        self._port.release()

    def post(self, path: str, expected: int, **request: object) -> httpx.Response:
        answer = self.client.post(path, **request)
        assert answer.status_code == expected, answer.text[:500]
        return answer


@pytest.fixture(scope="module")
def portraits(portrait: Image.Image) -> dict[str, bytes]:
    """The same photograph in each format, with personal metadata; the PNG is far larger than what a form keeps in
    memory by default."""
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = MARKER
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = MARKER
    files = {}
    for form, image in (("JPEG", portrait), ("WEBP", portrait), ("PNG", portrait.resize((1400, 1400)))):
        output = io.BytesIO()
        image.save(output, form, exif=exif)
        files[f"image/{form.lower()}"] = output.getvalue()
    assert len(files["image/png"]) > 1.5 * 2**20
    return files


def form(photo: bytes, name: str = "image", media_type: str = "image/jpeg") -> dict[str, object]:
    return {"files": {name: (f"{MARKER}.jpg", photo, media_type)}}


def raw(photo: bytes, media_type: str = "image/jpeg") -> dict[str, object]:
    return {"content": photo, "headers": {"Content-Type": media_type}}


def send_photographs(server: Server, portraits: dict[str, bytes], landscape: bytes) -> list[float]:
    """Post photographs in all ways that end well, and many that do not; returns the identity."""
    jpeg, png = portraits["image/jpeg"], portraits["image/png"]
    for media_type, photo in portraits.items():
        server.post("/v1/variants?count=1", 200, **raw(photo, media_type))
        server.post("/v1/variants", 200, data={"count": "1"}, **form(photo, media_type=media_type))
    for accept in ("application/zip", "application/x-ndjson", "image/png"):
        server.post("/v1/variants?count=2", 200, headers={"Accept": accept}, **form(png))
    server.post("/v1/sweep?steps=2", 200, **form(jpeg))
    server.post("/v1/compare", 200, files={"reference": (MARKER, jpeg), "probe": (MARKER, png)})
    identity: list[float] = server.post("/v1/identities", 200, **form(png)).json()["faces"][0]["identity"]

    # What is broken, refused or too much
    for photo in (jpeg[:-2000], jpeg[:5000], jpeg[100:], jpeg[:300] + b"\0" * 300 + jpeg[600:2000]):
        for request in (form(photo), raw(photo)):
            assert server.client.post("/v1/variants?count=1", **request).status_code in (200, 400, 422)
    server.post("/v1/variants", 400, **raw(base64.b64encode(jpeg)))
    server.post("/v1/variants", 422, **form(landscape))
    server.post("/v1/variants", 422, data={"count": MARKER}, **form(jpeg))
    server.post("/v1/variants", 422, data={MARKER: "1"}, **form(jpeg))
    server.post("/v1/variants", 200, json={"image": base64.b64encode(jpeg).decode(), "count": 1})
    server.post("/v1/variants", 422, json={"image": base64.b64encode(jpeg).decode(), MARKER: MARKER})
    server.post("/v1/variants", 400, json={"image": MARKER})
    server.post("/v1/variants", 400, files={"image": (None, base64.b64encode(jpeg))})
    server.post("/v1/variants", 415, data={"image": base64.b64encode(jpeg)})
    server.post("/v1/variants?face=9", 422, **form(png))
    server.post("/v1/variants", 422, **form(jpeg, name=MARKER))
    server.post("/v1/variants", 415, **raw(jpeg, "image/gif"))
    server.post("/v1/variants", 400, **raw(png, "multipart/form-data"))
    server.post("/v1/variants", 400, **raw(png, f"multipart/form-data; boundary={MARKER}"))
    server.post("/v1/variants", 413, **form(png * 3))
    server.post("/v1/variants", 413, **raw(png * 3))
    server.post("/v1/variants", 401, headers={"X-API-Key": "wrong"}, **form(png))
    assert server.client.post("/v1/variants", headers={"Accept": "text/html"}, **form(png)).status_code == 406
    server.post("/v1/sweep?steps=64", 429, **form(jpeg))

    # Identities, too
    inputs = [
        {"name": "identity", "datatype": "FP32", "shape": [1, 70], "data": identity},
        {"name": "control", "datatype": "FP32", "shape": [1, 10], "data": [0.0] * 10},
    ]
    server.post("/v1/render", 200, json={"identity": identity, "count": 1})
    server.post("/v2/models/decoder/infer", 200, json={"inputs": inputs})
    server.post("/v2/models/decoder/infer", 400, json={"inputs": inputs[:1]})
    server.post("/v2/models/encoder/infer", 400, json={"inputs": inputs})
    server.post("/v1/render", 422, json={"identity": [*identity, 0.5]})
    server.post("/v1/render", 422, json={"identity": [value * 1e6 for value in identity]})
    server.post("/v1/render", 422, **raw(json.dumps({"identity": identity})[:-3].encode(), "application/json"))
    assert server.client.get("/v1/model", params={"identity": str(identity)}).status_code == 200
    assert server.client.get(f"/v1/{identity}").status_code == 404
    return identity


def leave_early(server: Server, photo: bytes) -> None:
    """Begin to post a photograph, and go away: with most of it sent, and while look-alikes are made of all of it."""

    def drawn() -> str:
        lines = server.client.get("/metrics").text.splitlines()
        return next((line for line in lines if line.startswith(DRAWN)), "")

    for part in (len(photo) - 1000, len(photo)):
        before = drawn()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.putrequest("POST", "/v1/variants?count=8")
        for name, value in (("Content-Type", "image/png"), ("X-API-Key", KEY), ("Content-Length", str(len(photo)))):
            connection.putheader(name, value)
        connection.endheaders(photo[:part])
        if part == len(photo):
            until(lambda before=before: drawn() != before, "the first were drawn")
        connection.close()
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as garbage:
        garbage.sendall(photo[:20_000])  # no HTTP at all


def test_nothing_of_a_face_is_written_anywhere(tmp_path: Path, portraits: dict[str, bytes], landscape: bytes) -> None:
    server = Server(tmp_path, LOOKALIKE_MAX_BYTES=str(4 * 2**20), LOOKALIKE_RATE_LIMIT="96/hour")
    try:
        server.wait_until_ready()
        leave_early(server, portraits["image/png"])
        identity = send_photographs(server, portraits, landscape)
        metrics = server.client.get("/metrics").content
        assert server.client.get("/health/ready").status_code == 200
    finally:
        server.stop()

    assert server.surroundings.record() == [], "the process opened something to write"
    assert server.surroundings.files() == []
    photos = [*portraits.values(), landscape]
    assert traces(server.surroundings.everything() + metrics, photos, identity) == []

    lines = [json.loads(line) for line in server.log.splitlines()]
    requests = [line for line in lines if line["logger"] == "app.requests"]
    assert len(requests) > 40, "or nothing was there to be searched"
    assert {line["status"] for line in requests} >= {200, 400, 401, 404, 406, 413, 415, 422, 429}
    assert not [line for line in lines if line["level"] in ("error", "critical")]
    assert not [line for line in lines if line["logger"] == "uvicorn.access"]
    assert all(line["request_id"] for line in requests)


def test_several_processes_share_metrics_through_files_without_a_face(
    tmp_path: Path, portraits: dict[str, bytes]
) -> None:
    server = Server(tmp_path, LOOKALIKE_WORKERS="2")
    try:
        server.wait_until_ready()
        identity = server.post("/v1/identities", 200, **form(portraits["image/png"])).json()["faces"][0]["identity"]
        server.post("/v1/variants?count=1", 200, **form(portraits["image/png"]))
        server.post("/v1/variants", 400, **raw(portraits["image/jpeg"][:5000]))
        assert server.surroundings.files(), "metrics were expected there"
        haystack = server.surroundings.everything() + server.client.get("/metrics").content
    finally:
        server.stop()
    # Python tries once whether it may write into the temporary folder, in a file with a name of 8 letters.
    expected = re.compile(
        r".*/temporary/(lookalike-metrics-[^/]+(/(owner\.lock(\.new)?|[a-z]+(_[a-z]+)?_\d+\.db))?|[a-z0-9_]{8})"
    )
    assert [line for line in server.surroundings.record() if not expected.fullmatch(line)] == []
    assert traces(haystack, list(portraits.values()), identity) == []
    assert server.surroundings.files() == [], "metrics were left behind"


def test_jobs_write_into_their_folder_alone_and_leave_nothing_once_deleted(
    tmp_path: Path, portraits: dict[str, bytes]
) -> None:
    jobs = tmp_path / "temporary" / "jobs"
    server = Server(tmp_path, LOOKALIKE_JOBS=str(jobs))
    try:
        server.wait_until_ready()
        identity = server.post("/v1/identities", 200, **form(portraits["image/png"])).json()["faces"][0]["identity"]
        files = [("image", (f"{MARKER}/{number}", photo)) for number, photo in enumerate(portraits.values())]
        where = server.post("/v1/jobs?count=1", 202, files=files).headers["location"]
        until(lambda: server.client.get(where).json()["state"] == "done", "the job had ended")
        # Of look-alikes nothing is asked here: one JPEG has tables in common with another.
        left = b"".join(path.read_bytes() for path in server.surroundings.files() if path.suffix != ".jpg")
        assert traces(left.replace(MARKER.encode(), b""), list(portraits.values()), identity) == []
        assert server.client.delete(where).status_code == 204
        haystack = server.log.encode() + server.client.get("/metrics").content
    finally:
        server.stop()
    written = [line.partition(" ")[2] for line in server.surroundings.record()]
    assert written, "jobs were expected there"
    assert [path for path in written if not Path(path).is_relative_to(jobs)] == []
    assert server.surroundings.files() == []
    assert traces(haystack, list(portraits.values()), identity) == []


def test_the_hook_notices_a_form_that_is_put_into_a_temporary_file(tmp_path: Path) -> None:
    program = """
import asyncio
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartParser

async def body():
    yield b'--b\\r\\nContent-Disposition: form-data; name="image"; filename="a"\\r\\n\\r\\n' + bytes(3 * 2**20)
    yield b"\\r\\n--b--\\r\\n"

asyncio.run(MultiPartParser(Headers({"content-type": "multipart/form-data; boundary=b"}), body()).parse())
"""
    surroundings = Surroundings(tmp_path)
    environment = surroundings.environment()
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert any("/temporary" in line for line in surroundings.record())
