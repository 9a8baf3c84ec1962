"""A running service with the shipped models, and a browser to look at it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright
from skimage import data

from tests import patience
from tests.server import Server

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 1000 * patience.PATIENCE  # Playwright counts in milliseconds.

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def service() -> Iterator[str]:
    """The address of a service that runs in a process of its own."""
    server = Server(fork=True, threads=1)
    try:
        yield server.until_ready().address
    finally:
        server.stop()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files as people have them: one face, two faces, none, a doubtful one, and something that is no picture."""
    folder = tmp_path_factory.mktemp("photos")
    astronaut = Image.fromarray(data.astronaut())
    pair = Image.new("RGB", (900, 512), "grey")
    pair.paste(astronaut, (0, 0))
    pair.paste(ImageOps.mirror(astronaut).resize((388, 388)), (512, 100))
    files = {name: folder / f"{name}.jpg" for name in ("face", "pair", "coffee", "doubtful")} | {
        "text": folder / "notes.txt"
    }
    astronaut.save(files["face"], quality=92)
    pair.save(files["pair"], quality=92)
    Image.fromarray(np.ascontiguousarray(data.coffee())).save(files["coffee"], quality=92)
    doubtful = astronaut.resize((230, 230)).filter(ImageFilter.GaussianBlur(1.8)).rotate(180)
    doubtful.save(files["doubtful"], quality=92)
    files["text"].write_text("This is not a picture.\n")
    return files


@pytest.fixture(scope="package")
def player() -> Iterator[Playwright]:
    """Playwright. Its event loop is the thread's as long as it plays: no longer than for these tests."""
    with sync_playwright() as playing:
        yield playing


@pytest.fixture(scope="package")
def browser(player: Playwright, program: Callable[[str], str]) -> Iterator[Browser]:
    """Debian's Chromium, or another that is there."""
    browser = launched(player, program("chromium"))
    yield browser
    browser.close()


def launched(player: Playwright, chromium: str, *flags: str) -> Browser:
    return player.chromium.launch(executable_path=chromium, headless=True, args=[*FLAGS, *flags], timeout=PATIENCE)


def patient(context: BrowserContext) -> BrowserContext:
    """A browser's context in which all that is waited for, answers to `page.request` included, may take long."""
    context.set_default_timeout(PATIENCE)
    return context


def wait_until(page: Page, expression: str) -> None:
    """Wait for a JavaScript expression to be true; Playwright's own way polls with `eval`, which the policy forbids.

    It is looked at in the page, where that costs nothing. `expect` looks once a second in the end, and describes the
    whole page in words where it looks in vain.
    """
    came = page.evaluate(
        f"""async () => {{
  const end = performance.now() + {PATIENCE};
  while (!({expression})) {{
    if (performance.now() > end) return false;
    await new Promise((again) => setTimeout(again, 20));
  }}
  return true;
}}"""
    )
    assert came, f"never came true: {expression}"


IDLE = "!document.querySelector('main [aria-busy]')"


class Visitor:
    """Somebody with the page open, who notices what goes wrong on it.

    Args:
        context: a fresh profile of the browser.
        service: the address of the service.
    """

    def __init__(self, context: BrowserContext, service: str) -> None:
        self.service = service
        self.page: Page = patient(context).new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.refusals: set[int] = set()
        """Statuses that the test provokes; the browser writes a line about each."""
        self.page.on("console", lambda message: self._hear(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def _hear(self, kind: str, text: str) -> None:
        provoked = text.startswith("Failed to load resource") and any(f"of {code} " in text for code in self.refusals)
        if kind in ("error", "warning") and not provoked:
            self.complaints.append(text)

    def open(self, view: str = "") -> Page:
        """Open the page, and wait until it knows the model."""
        self.page.goto(f"{self.service}/{view}")
        wait_until(self.page, "document.querySelector('body[data-ready]')")
        return self.page

    def give(self, photo: Path) -> Page:
        """Choose a photograph, and wait for its look-alikes."""
        self.page.set_input_files("#photo-file", photo)
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until the page has drawn all it was asked for."""
        wait_until(self.page, "document.querySelector('#variants-summary').checkVisibility()")
        wait_until(self.page, IDLE)

    def settle_controls(self) -> None:
        """Wait until the face follows its sliders, and its look-alikes are made."""
        wait_until(self.page, "document.querySelector('body.has-face')")
        wait_until(self.page, "!document.querySelector('#variants-summary').hidden")
        wait_until(self.page, IDLE)

    def check(self) -> None:
        """Nothing went wrong, and nobody else was asked for anything."""
        assert not self.complaints
        own = (f"{self.service}/", "data:image/", f"blob:{self.service}/")
        assert [url for url in self.asked if not url.startswith(own)] == []


@pytest.fixture
def visitor(request: pytest.FixtureRequest, browser: Browser, service: str) -> Iterator[Visitor]:
    """A visitor with a desktop screen, or with what the test's parameter says (as `Browser.new_context` takes it)."""
    # Who asks for less motion is spared what moves while the page waits, and a core the drawing of each step of it.
    options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | getattr(request, "param", {})
    context = browser.new_context(accept_downloads=True, **options)
    visitor = Visitor(context, service)
    yield visitor
    context.close()
    visitor.check()
