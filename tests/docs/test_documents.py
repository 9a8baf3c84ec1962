"""A stranger who follows the documents gets where they lead: every block in them is executed, or says why not."""

from __future__ import annotations

import base64
import io
import json
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from app.batch.webhooks import sign
from app.runtime.manifest import parse_manifest
from app.settings import Settings, signing_key
from tests.docs.documents import (
    DATA,
    DOCUMENTS,
    NODE,
    PICTURES,
    PYTHON,
    SHELL,
    SHORTER,
    Block,
    Reader,
    blocks,
    check_data,
)
from tests.docs.services import ROOT
from tests.ports import Port

BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
RUN = [block for block in BLOCKS if block.runs]
LEFT_BEHIND = {
    "README.md": ["answer.json", "look-alikes.jpg"],
    "docs/clients.md": [
        "from-python/face-03.jpg",
        "zips/other.zip",
        *(f"look-alike-{number}.{form}" for form in ("jpg", "webp") for number in range(4)),
    ],
    "docs/training-data.md": ["pairs.json", "nobody/3.zip"],
    "docs/quality.md": ["answer.json"],
    "docs/frigate.md": ["snapshot.jpg", "opinion.json"],
    "docs/compreface.md": ["example.json", "decoys/face/0003.jpg"],
    "docs/home-assistant.md": ["media/look-alikes.jpg", "config/verdict.json"],
    "docs/retrain.md": ["exported/manifest.json", "evaluation/evaluation.json", "model.json"],
}
"""Files that a reader has in the end."""


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def beside_frigate(reader: Reader) -> None:
    """The resident is enrolled, and no look-alike is."""
    assert reader.others
    assert reader.others.enrolled == {"alice": ["face.jpg"]}


def beside_compreface(reader: Reader) -> None:
    """Decoys have a name of their own."""
    decoys = ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "0000.jpg", "0001.jpg"]
    assert reader.others
    assert reader.others.enrolled == {"alice": ["face.jpg"], "not-alice": decoys}


def beside_home_assistant(reader: Reader) -> None:
    """Its sensors show what the service says, and nothing where it says nothing; faces are not for all to see."""
    assert reader.home
    states = reader.home.states
    assert states["Look-alike service"] == "True"
    assert states["Look-alike model"] == parse_manifest(Settings().models).version
    assert float(states["Front door similarity"]) > 0.9, "it is the same photograph, smaller"
    assert not (reader.folder / "config" / "www").exists()
    verdict = reader.folder / "config" / "verdict.json"
    verdict.write_text('{"title": "A key is needed"}')
    reader.home.update("Front door similarity")
    assert states["Front door similarity"] == "A key is needed"
    port = Port()  # nobody listens there
    compare = reader.home.commands["compare_front_door"]
    assert reader.home.run(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port.number}", compare)).returncode
    port.release()
    assert not verdict.exists()


IN_THE_END = {
    "docs/frigate.md": beside_frigate,
    "docs/compreface.md": beside_compreface,
    "docs/home-assistant.md": beside_home_assistant,
}


@pytest.mark.parametrize("document", sorted({block.document for block in RUN}))
def test_every_block_of_a_document_works_in_order(document: str, reader: Reader, program: Callable[[str], str]) -> None:
    own = [block for block in RUN if block.document == document]
    for name in ("curl", "kubectl"):
        if any(f"{name} " in block.text for block in own):
            program(name)
    for block in own:
        reader.follow(block)
    for name in LEFT_BEHIND.get(document, []):
        path = reader.folder / name
        assert path.stat().st_size > 0, name
        if path.suffix in (".jpg", ".webp"):
            Image.open(path).verify()
    if document in IN_THE_END:
        IN_THE_END[document](reader)


@pytest.mark.parametrize(
    ("language", "code"),
    [("sh", "false\ntrue"), ("sh", "false | cat"), ("python", "assert False"), ("js", "await Promise.reject(1);")],
)
def test_a_block_that_does_not_work_is_noticed(language: str, code: str, newcomer: Reader) -> None:
    with pytest.raises(AssertionError, match="here:7 ended with 1"):
        newcomer.follow(Block("here", 7, language, code, ""))


def test_a_service_that_does_not_start_is_noticed(newcomer: Reader) -> None:
    with pytest.raises(AssertionError, match="LOOKALIKE_PROT is not a setting"):
        newcomer.follow(Block("here", 7, "sh", "LOOKALIKE_PROT=1 make serve   # misspelled", ""))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_is_executed_or_says_why_not(block: Block) -> None:
    known = (*SHELL, *PYTHON, *NODE, *DATA, *PICTURES)
    assert block.language in known, (
        f"{block.place}: nobody knows how to execute a block of {block.language or 'nothing'}"
    )
    if block.language in DATA:
        check_data(block)
    if block.excuse:
        assert len(block.excuse.split()) >= 4, f"{block.place}: say in words why it cannot be executed"
        for named in re.findall(r"tests/[\w./-]+", block.excuse):
            assert (ROOT / named).exists(), f"{block.place}: there is no {named}"


def test_what_is_shortened_is_still_there() -> None:
    everything = "\n".join(block.text for block in BLOCKS)
    assert [command for command in SHORTER if command not in everything] == []


def test_the_answer_in_the_readme_is_what_comes_back(client: httpx.Client, photo: bytes) -> None:
    shown = json.loads(
        next(block.text for block in BLOCKS if (block.document, block.language) == ("README.md", "json"))
    )
    answer = client.post("/v1/variants?count=8&seed=1", files={"image": photo}).json()

    def same(part: Any, whole: Any) -> None:
        if isinstance(part, dict):
            for name, value in part.items():
                assert name in whole
                same(value, whole[name])
        elif isinstance(part, list) and part and isinstance(part[0], dict):
            same(part[0], whole[0])
        else:
            assert part is None or type(part) is type(whole)

    same(shown, answer)
    assert shown["model"] == answer["model"]
    assert shown["source"]["box"] == pytest.approx(answer["source"]["box"], abs=1)
    assert shown["variants"][0]["similarity"] == pytest.approx(answer["variants"][0]["similarity"], abs=0.006)
    assert shown["variants"][0]["width"] == answer["variants"][0]["width"]


def test_the_receiver_in_the_guide_tells_our_webhooks_from_others() -> None:
    (code,) = (block.text for block in BLOCKS if "def is_ours(" in block.text)
    found: dict[str, Any] = {}
    exec(code, found)
    secret, now, body = "whsec_" + base64.b64encode(bytes(24)).decode(), int(time.time()), b'{"type": "job.done"}'

    def received(sent: int = now, body: bytes = body, **changed: str) -> bool:
        headers = {
            "webhook-id": "a1",
            "webhook-timestamp": str(sent),
            "webhook-signature": sign(signing_key(secret), "a1", sent, b'{"type": "job.done"}'),
        }
        changes = {f"webhook-{name}": value for name, value in changed.items()}
        return bool(found["is_ours"](secret, headers | changes, body))

    assert received()
    assert not received(now - 3600)
    assert not received(body=b'{"type": "job.failed"}')
    for name, values in {
        "id": ["", "b2"],
        "timestamp": ["", "soon", "9" * 5000],
        "signature": ["", "v1,", "v1,\u00fc"],
    }.items():
        for value in values:
            assert not received(**{name: value}), (name, value[:9])
    assert not found["is_ours"](secret, {}, body)


def test_a_picture_takes_as_much_as_the_arithmetic_says(client: httpx.Client, photo: bytes) -> None:
    (told,) = re.findall(r"take about ([\d,]+) bytes", text("docs/scale.md"))
    assert f"count * {told.replace(',', '_')} " in text("docs/scale.md")
    headers = {"Accept": "application/zip"}
    answer = client.post("/v1/variants?count=32&seed=1", files={"image": photo}, headers=headers)
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    pictures = [entry.file_size for entry in archive.infolist() if entry.filename.endswith(".jpg")]
    line = 450  # of the manifest: the rest of that of a zip says it of all
    assert int(told.replace(",", "")) == pytest.approx(sum(pictures) / len(pictures) + line, rel=0.1)


def links(document: str) -> list[str]:
    tokens = [token for token in MarkdownIt().parse(text(document)) if token.children]
    inline = [child for token in tokens for child in token.children or []]
    return [
        str(child.attrs[name])
        for child in inline
        for name in ("href", "src")
        if name in child.attrs and not re.match(r"[a-z]+:", str(child.attrs[name]))
    ]


def anchors(document: str) -> set[str]:
    """The names under which a document's headings can be linked to."""
    headings = re.findall(r"^#+ (.+)$", text(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), f"{document}: {link}"
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), f"{document}: {link}"


def test_every_guide_is_linked_from_the_readme() -> None:
    linked = {Path(link.partition("#")[0]) for link in links("README.md")}
    assert [document for document in DOCUMENTS if document != "README.md" and Path(document) not in linked] == []


def test_every_metric_and_alert_is_explained(client: httpx.Client) -> None:
    words = text("docs/operate.md")
    metrics = set(re.findall(r"^# TYPE (lookalike_\w+) ", client.get("/metrics").text, re.MULTILINE))
    assert {name for name in metrics if name not in words and not name.endswith("_created")} == set()
    alerts = set(re.findall(r"- alert: (\w+)", text("deploy/prometheus/alerts.yml")))
    assert set(re.findall(r"`(Lookalike[A-Z]\w+)`", words)) == alerts


@pytest.mark.parametrize("document", DOCUMENTS)
def test_names_in_a_document_exist(document: str, client: httpx.Client) -> None:
    """Settings, metrics, addresses and make targets that a document speaks of."""
    words = text(document)
    settings = {f"LOOKALIKE_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"LOOKALIKE_[A-Z][A-Z_]+[A-Z]", words)) <= settings
    metrics = set(re.findall(r"^# TYPE (\w+) ", client.get("/metrics").text, re.MULTILINE))
    named = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"lookalike_[a-z_]+[a-z]", words)}
    named -= {"lookalike_band"}  # a field of /v1/model
    assert named <= metrics
    addresses = set(client.get("/openapi.json").json()["paths"])
    assert set(re.findall(r"(?:GET|POST) (/(?:v1|health|metrics)[\w/:{}]*)", words)) <= addresses
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^|=\S+ )make ([a-z-]+)", words, re.MULTILINE)) <= targets
