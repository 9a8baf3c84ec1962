"""Same seed, same bytes: across restarts, company, batch sizes, processes, and forms of answer."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.server import Server
from tests.torture.conftest import Record
from tests.torture.pictures import ORIGINALS

PHOTO = ORIGINALS["jpeg"]
ASKED = [
    "/v1/variants?count=5&seed=7",
    "/v1/variants?count=3&seed=7&format=webp&quality=80&strength=0.5",
    "/v1/variants?count=4&seed=9&band=lookalike",
    "/v1/sweep?steps=4&format=png",
    "/v1/identities",
]


def answers(server: Server) -> dict[str, str]:
    """Digests of the bytes of every answer."""
    return {path: hashlib.sha256(server.post(path, PHOTO).content).hexdigest() for path in ASKED}


def test_bytes_follow_from_the_request_alone(
    serve: Callable[..., Server], amount: Callable[[int, int], int], record: Record
) -> None:
    wanted: dict[str, str] = {}
    compared = 0
    kinds: list[dict[str, object]] = [{}, {"workers": 2, "batch_sizes": "1,3,8"}]
    kinds += [{"batch_sizes": "2"}, {"image_threads": 1, "batch_sizes": "1"}, {"workers": 3}][: amount(0, 3)]
    for settings in kinds:
        server = serve(**settings).until_ready()
        wanted = wanted or answers(server)
        assert answers(server) == wanted
        with ThreadPoolExecutor(6) as threads:
            crowd = [
                threads.submit(server.post, f"/v1/variants?count={1 + number % 7}", ORIGINALS["webp"])
                for number in range(amount(6, 60))
            ]
            amid = [threads.submit(answers, server) for _ in range(amount(2, 20))]
            assert all(future.result() == wanted for future in amid)
            assert all(future.result().status_code == 200 for future in crowd)
        compared += len(ASKED) * (1 + len(amid))
        server.stop()
    record(
        "same seed, same bytes: restarts, company, batch sizes, 1 to 3 processes, on the CPU",
        f"{compared} answers of {len(kinds)} servers",
        "0 differ",
    )


def test_every_form_of_answer_holds_the_same_images(server: Server) -> None:
    path = "/v1/variants?count=4&seed=3"
    whole = server.post(path, PHOTO).json()
    images = [base64.b64decode(variant["image"]) for variant in whole["variants"]]
    lines = server.post(path, PHOTO, Accept="application/x-ndjson").text.splitlines()
    assert [base64.b64decode(json.loads(line)["image"]) for line in lines] == images
    with zipfile.ZipFile(io.BytesIO(server.post(path, PHOTO, Accept="application/zip").content)) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        assert [archive.read(name) for name in names] == images
