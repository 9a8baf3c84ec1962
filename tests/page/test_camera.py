"""The camera, played by a file."""

import re

import pytest
from playwright.sync_api import expect

from .conftest import Visitor, launched, wait_until

SHOWN = """
    window.shown = () => {
        const look = new OffscreenCanvas(16, 16).getContext("2d");
        look.drawImage(document.querySelector("#camera-video"), 0, 0, 16, 16);
        return new Set(look.getImageData(0, 0, 16, 16).data).size;
    };
"""
"""How many levels the camera's picture has: the film begins black, and is a face from then on."""


@pytest.fixture
def filming(player, program, service, photos, tmp_path):
    """A visitor who sits before a camera."""
    film = tmp_path / "film.mjpeg"
    film.write_bytes(photos["face"].read_bytes() * 3)
    flags = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    ]
    browser = launched(player, program("chromium"), *flags)
    visitor = Visitor(browser.new_context(), service)
    yield visitor
    browser.close()
    visitor.check()


def test_a_photograph_is_taken_and_the_camera_goes_off(filming):
    page = filming.open()
    page.get_by_role("button", name="Camera").click()
    dialog = page.get_by_role("dialog", name="Camera")
    expect(dialog.get_by_role("button", name="Take the photograph")).to_be_focused()
    page.evaluate(SHOWN)
    wait_until(page, "shown() > 32")
    page.evaluate("window.tracks = document.querySelector('#camera-video').srcObject.getTracks()")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    filming.settle()
    assert page.locator("#boxes .box").count() == 1
    assert page.evaluate("tracks.map((track) => track.readyState)") == ["ended"]


def test_the_dialog_can_be_left(filming):
    page = filming.open()
    page.get_by_role("button", name="Camera").click()
    expect(page.get_by_role("dialog", name="Camera")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Camera")).to_be_hidden()
    expect(page.locator("#workspace")).to_be_hidden()
    expect(page.get_by_role("button", name="Camera")).to_be_focused()


def test_without_a_camera_the_page_says_what_to_do(visitor):
    page = visitor.open()
    page.get_by_role("button", name="Camera").click()
    expect(page.locator("#source-notice")).to_have_text(
        re.compile("(There is no camera|may not be used).*hoose a photograph")
    )
