"""A stranger who follows the documents gets where they lead: every block in them is executed, or says why not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from app.main import create_app
from app.settings import Settings
from tests.docs.documents import (
    DATA,
    DOCUMENTS,
    NODE,
    PICTURES,
    PYTHON,
    ROOT,
    SHELL,
    SHORTER,
    Block,
    Reader,
    blocks,
    check_data,
)

BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
RUN = [block for block in BLOCKS if not block.excuse and block.language not in DATA]
LEFT_BEHIND = {
    "README.md": [
        "look-alikes.jpg",
        *(f"look-alike-{number}.{form}" for form in ("jpg", "webp") for number in range(4)),
    ],
    "docs/training-data.md": ["pairs.json", "nobody/3.zip"],
    "docs/harden.md": ["verifier.npz"],
    "docs/retrain.md": ["exported/manifest.json", "evaluation/evaluation.json", "model.json"],
}
"""Files that a reader has in the end."""


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", sorted({block.document for block in RUN}))
def test_every_block_of_a_document_works_in_order(
    document: str, new_reader: Callable[[], Reader], program: Callable[[str], str]
) -> None:
    reader = new_reader()
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


@pytest.mark.parametrize(
    ("language", "code"),
    [("sh", "false\ntrue"), ("sh", "false | cat"), ("python", "assert False"), ("js", "await Promise.reject(1);")],
)
def test_a_block_that_does_not_work_is_noticed(language: str, code: str, tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    with pytest.raises(AssertionError, match="here:7 ended with 1"):
        reader.follow(Block("here", 7, language, code, ""))
    reader.close()


def test_a_service_that_does_not_start_is_noticed(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    with pytest.raises(AssertionError, match="LOOKALIKE_PROT is not a setting"):
        reader.follow(Block("here", 7, "sh", "LOOKALIKE_PROT=1 make serve   # misspelled", ""))
    reader.close()


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
    addresses = set(create_app(Settings(device="cpu")).openapi()["paths"])
    assert set(re.findall(r"(?:GET|POST) (/(?:v1|health|metrics)[\w/:{}]*)", words)) <= addresses
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^|=\S+ )make ([a-z-]+)", words, re.MULTILINE)) <= targets
