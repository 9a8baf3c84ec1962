"""The documents and their fenced blocks, and a reader who follows them: each block, in order, in a scratch folder.

What a reader would have to bring or wait for is stood in for, and nothing else; see `Reader` and `SHORTER`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import playwright
from markdown_it import MarkdownIt

from tests.docs.services import ROOT, Service, clone, surroundings
from tests.docs.standins import HOSTS, HomeAssistant, StandIns
from tests.patience import PATIENCE

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
        *(ROOT / "docs").glob("*.md"),
    )
)
SHELL, PYTHON, NODE, DATA, PICTURES = ("sh", "bash"), ("python",), ("js",), ("json", "yaml"), ("mermaid",)
EXCUSE = re.compile(r"<!-- not executed: (.+?) -->", re.DOTALL)
PLAIN = "make serve"
SERVES = re.compile(r"(?:make|\.venv/bin/python -m app) serve$")
ADDRESS = "127.0.0.1:8000"
CONFIGURED = "docs/home-assistant.md"
"""The guide whose YAML is not only read, but done."""

TINY = (
    "batch=8 perceptual_size=64 warm_up=0 learning_rate=0.01 "
    "networks.encoder=[8,8,8,8] networks.decoder=[16,16,16,8,8] networks.recover=[8,8,8,8] "
    "networks.refine=4 networks.style=16 networks.critic=8"
)
SHORTER = {
    "model_export train prepared runs/mine": f"model_export train prepared runs/mine --max-images 16 --set {TINY}",
    "model_export export runs/mine exported --data prepared": "model_export export runs/mine exported",
    "model_export evaluate prepared exported evaluation": (
        "model_export evaluate prepared exported evaluation --faces 10 --controls 2 --wide 10 --baseline-faces 2 "
        "--reference 16 --sweep-faces 1 --random 6 --resamples 10 --steps 3"
    ),
}
"""Commands that take hours or minutes, and what is run in their place: the same with less of it.

Fitting the latent (`--data`) wants 280 faces; tests/model_export/exporting/test_whitening.py and test_reach.py have it.
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, its text, and why it is not run, where it says so."""

    document: str
    line: int
    language: str
    text: str
    excuse: str

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether there is something to do."""
        return not self.excuse and (self.language not in DATA or self.document == CONFIGURED)

    @property
    def serves(self) -> bool:
        """Whether it starts the service, which then goes on."""
        return self.language in SHELL and SERVES.search(_commands(self.text)) is not None


def _commands(text: str) -> str:
    """The lines of a shell block without comments."""
    return "\n".join(re.sub(r"\s+# .*| +$", "", line) for line in text.strip().splitlines())


def blocks(document: str) -> Iterator[Block]:
    """The fenced blocks of a document, in order."""
    before = None
    for token in MarkdownIt().parse((ROOT / document).read_text(encoding="utf-8")):
        if token.type == "fence":
            comment = EXCUSE.search(before.content) if before is not None and before.type == "html_block" else None
            line = token.map[0] + 1 if token.map else 0
            excuse = " ".join(comment[1].split()) if comment else ""
            yield Block(document, line, token.info.strip(), token.content, excuse)
        before = token


def node() -> str:
    """A Node: the machine's own where it is new enough, else the one that Playwright brings."""
    own = shutil.which("node")
    if own:
        version = subprocess.run([own, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.strip("v\n").partition(".")[0]) >= 20:
            return own
    return str(Path(playwright.__file__).parent / "driver" / "node")


class Reader:
    """Somebody who does what a document says, in a folder that looks like a fresh clone after `make train-install`.

    A block that ends in `serve` is a terminal of its own: it goes on until the next one. A document whose first request
    comes before such a block takes the service for granted. What `make serve` alone starts is the same for everybody,
    so it is one service for all readers. The only other differences to what is written are the port, since 8000 may be
    taken, `SHORTER`, and where the systems of others are, which are stood in for.

    Args:
        folder: an empty folder, with the photographs that the documents speak of.
        plain: what `make serve` starts, in a clone of its own; started when it is first needed.
    """

    def __init__(self, folder: Path, plain: Service) -> None:
        self.folder = folder
        self.others: StandIns | None = None
        self.home: HomeAssistant | None = None
        self._plain, self._own = plain, Service(folder)
        self._asked: Service | None = None
        clone(folder)
        self._copy_examples()

    def _copy_examples(self) -> None:
        """Have the examples, with the port of the service that is asked."""
        (self.folder / "examples").mkdir(exist_ok=True)
        for file in (ROOT / "examples").iterdir():
            if file.is_file():
                copy = self.folder / "examples" / file.name
                copy.write_text(self._at_our_port(file.read_text(encoding="utf-8")))
                copy.chmod(file.stat().st_mode)

    @property
    def _port(self) -> int:
        return (self._asked or self._own).port

    def _at_our_port(self, text: str) -> str:
        return text.replace(ADDRESS, f"127.0.0.1:{self._port}")

    def follow(self, block: Block) -> None:
        """Do what a block says.

        Raises:
            AssertionError: it failed, with what it printed.
        """
        if block.serves:
            self._serve(block.text, block.place)
            return
        asks = ADDRESS in block.text or "examples/" in block.text
        if asks and self._asked is None:
            self._serve(PLAIN, "the service")
        text = self._at_our_port(block.text)
        for command, shorter in SHORTER.items():
            text = text.replace(command, shorter)
        text = self._at_the_stand_ins(text)
        if block.language in DATA:
            self._configure(text)
            return
        if block.language in SHELL:
            command = ["bash", "-euo", "pipefail", "-c", text]
        elif block.language in PYTHON:
            command = [str(self.folder / ".venv" / "bin" / "python"), self._file(text, "py")]
        else:
            command = [node(), self._file(text, "mjs")]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=surroundings(self._port),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        said = self._asked.said() if self._asked else ""
        assert done.returncode == 0, f"{block.place} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{said}"

    def _at_the_stand_ins(self, text: str) -> str:
        for host in HOSTS:
            if host in text:
                self.others = self.others or StandIns((self.folder / "face.jpg").read_bytes())
                text = text.replace(host, self.others.address)
        return text

    def _configure(self, text: str) -> None:
        """Have Home Assistant do what its configuration says, with an enrolled photograph and a snapshot at hand."""
        if self.home is None:
            config = self.folder / "config"
            media = self.folder / "media"
            for path, photograph in ((config / "faces/alice.jpg", "face.jpg"), (media / "front_door.jpg", "other.jpg")):
                path.parent.mkdir(parents=True)
                shutil.copy(self.folder / photograph, path)
            self.home = HomeAssistant(config, media)
        self.home.load(text)

    def _file(self, text: str, suffix: str) -> str:
        path = self.folder / f"snippet.{suffix}"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def _serve(self, text: str, place: str) -> None:
        self._own.stop()
        self._asked = self._plain if _commands(text) == PLAIN else self._own
        if self._asked is self._own or not self._plain.runs:
            self._asked.start(text, place)
        self._copy_examples()

    def close(self) -> None:
        """Stop a service of one's own."""
        self._own.close()
        if self.others:
            self.others.close()


def check_data(block: Block) -> None:
    """A block of data reads as what it says it is.

    Raises:
        ValueError, yaml.YAMLError: it does not.
    """
    if block.language == "json":
        json.loads(block.text)
    else:
        import yaml

        list(yaml.safe_load_all(block.text))
