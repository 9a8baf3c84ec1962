"""What makes the page quick to the hand: examples, live sliders, tiles as they are made, the viewer, the address."""

import base64
import json
import re

import pytest
from playwright.sync_api import expect

from tests.patience import until

from .conftest import wait_until

LIVE = "#live-image"
TILES = "#variants .tile:not(.ghost)"


def test_an_example_is_tried_with_one_press(visitor):
    page = visitor.open()
    for image in page.locator("#examples img").all():
        assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") >= 128
    page.get_by_role("button", name="Example face 2").click()
    visitor.settle()
    expect(page.locator("#photo-caption")).to_have_text("Nobody: an example")
    assert page.locator(TILES).count() == 12
    expect(page).to_have_url(f"{visitor.service}/#make?example=2")
    for place in ("#variants-words", "#live-reading"):
        expect(page.locator(place)).to_contain_text("gainst the example face")
    page.get_by_role("tab", name="Controls").click()
    tracks = {round(slider.bounding_box()["width"]) for slider in page.locator("#sliders input").all()}
    assert len(tracks) == 1, "however long the words at their ends are"


class Gate:
    """Holds the page's requests to draw until they are let through, and counts them."""

    def __init__(self, page, pattern):
        self.page = page
        self.held = []
        self.shut = True
        page.route(pattern, self._hold)

    def _hold(self, route):
        if self.shut:
            self.held.append(route)
        else:
            route.continue_()

    def wait_for(self, count):
        until(lambda: len(self.held) >= count, f"{count} requests came", lambda: self.page.wait_for_timeout(50))

    def open(self):
        self.shut = False
        for route in self.held:
            route.continue_()


def test_while_a_slider_is_dragged_one_request_is_under_way_and_the_latest_value_is_drawn(visitor):
    page = visitor.open("#make?person=1&panel=controls")
    visitor.settle_controls()
    gate = Gate(page, re.compile("/v1/(render|variants)"))
    slider = page.locator("#sliders input").nth(4)
    for value in (0.1, 0.2, 0.3, 0.4):
        slider.fill(str(value))
    gate.wait_for(1)
    page.wait_for_timeout(200)
    assert len(gate.held) == 1, "the next waits for the first"
    with page.expect_request(lambda request: request.url.endswith("/v1/render")) as asked:
        gate.open()
    assert asked.value.post_data_json["controls"][0][4] == 0.4
    visitor.settle_controls()
    expect(page).to_have_url(re.compile(r"controls=0,0,0,0,0\.4,0"))


def test_before_shows_the_face_without_its_controls(visitor):
    page = visitor.open("#make?person=1&panel=controls")
    visitor.settle_controls()
    before = page.locator(LIVE).get_attribute("src")
    reading = page.locator("#live-reading").inner_text()
    expect(page.locator("#before")).to_be_hidden()
    page.locator("#sliders input").nth(0).fill("1")
    expect(page.locator(LIVE)).not_to_have_attribute("src", before)
    page.get_by_role("button", name="Before").click()
    expect(page.locator(LIVE)).to_have_attribute("src", before)
    assert page.locator("#live-reading").inner_text() == reading, "the number is that of the face above it"
    with page.expect_download() as saved:
        page.locator("#live-download").click()
    picture = base64.b64encode(saved.value.path().read_bytes()).decode()
    assert before.endswith(picture), "what is in sight is saved"
    page.get_by_role("button", name="Before").click()
    expect(page.locator(LIVE)).not_to_have_attribute("src", before)
    assert page.locator("#live-reading").inner_text() != reading


def test_statistics_are_behind_an_i_and_ends_beside_the_slider(visitor, service):
    page = visitor.page
    model = page.request.get(f"{service}/v1/model").json()
    model["controls"][0] |= {
        "name": "nose_width",
        "low": "narrow",
        "high": "<b>wide</b>",
        "effect": "+1 standard deviation",
    }
    model["controls"][1] |= {"low": None, "high": None, "effect": ""}
    page.route("**/v1/model", lambda route: route.fulfill(json=model))
    visitor.open("#make?person=1&panel=controls")
    first, second = page.locator(".slider").nth(0), page.locator(".slider").nth(1)
    assert first.locator(".end").all_inner_texts() == ["narrow", "<b>wide</b>"], "text, never markup"
    assert second.locator(".end").all_inner_texts() == ["−", "+"]
    expect(second.locator(".about")).to_have_count(0)
    expect(first.locator(".effect")).to_be_hidden()
    first.get_by_role("button", name="About Nose width").click()
    expect(first.locator(".effect")).to_have_text("+1 standard deviation")
    first.locator("input").fill("-0.5")
    expect(first.locator("input")).to_have_attribute("aria-valuetext", "−0.50, narrow")
    page.get_by_role("tab", name="Sweep").click()
    page.locator("#steps").fill("2")
    page.locator("#make-sweep").click()
    expect(page.locator("#sweep-words")).to_contain_text("Nose width, from narrow to <b>wide</b>, 2 steps.")


STREAM = """() => {
  const answer = window.fetch;
  window.fetch = async (path, options) => {
    if (options?.headers?.Accept !== "application/x-ndjson") return answer(path, options);
    const body = new ReadableStream({
      start(controller) {
        window.send = (text) => controller.enqueue(new TextEncoder().encode(text));
        window.finish = () => controller.close();
        options.signal.addEventListener("abort", () => controller.error(options.signal.reason));
      },
    });
    return new Response(body, { headers: { "X-Lookalike-Id": "0123456789", "X-Lookalike-Seed": "7" } });
  };
}"""


def line(index):
    variant = {"index": index, "control": [0.1] * 10, "similarity": 0.6, "in_band": True, "media_type": "image/jpeg"}
    return json.dumps(variant | {"width": 128, "height": 128, "image": ""}) + "\n"


@pytest.fixture
def streaming(visitor):
    """A page whose answers come as the test sends them."""
    page = visitor.open("#make?person=1")
    visitor.settle()
    page.evaluate(STREAM)
    page.get_by_label("How many").fill("3")
    page.get_by_role("button", name="Make look-alikes").click()
    wait_until(page, "Boolean(window.send)")
    return page


def test_tiles_appear_as_they_are_made(streaming):
    page = streaming
    expect(page.locator("#variants .ghost")).to_have_count(3)
    first, second = line(0), line(1)
    page.evaluate("text => send(text)", first + second[:40])
    expect(page.locator(TILES)).to_have_count(1)
    expect(page.locator("#make-variants")).to_have_text("Cancel (1 of 3)")
    page.evaluate("text => send(text)", second[40:] + line(2))
    expect(page.locator(TILES)).to_have_count(3)
    page.evaluate("finish()")
    expect(page.locator("#make-variants")).to_have_text("Make look-alikes")
    expect(page.locator("#variants-words")).to_contain_text("3 look-alikes, 3 inside the band")


def test_what_was_made_before_cancelling_stays(streaming):
    page = streaming
    page.evaluate("text => send(text)", line(0))
    expect(page.locator(TILES)).to_have_count(1)
    page.locator("#make-variants").click()
    expect(page.locator("#variants-words")).to_contain_text("1 look-alike, 1 inside the band, then cancelled")
    expect(page.locator("#variants .tile")).to_have_count(1)
    with page.expect_request("**/v1/render") as asked, page.expect_download():
        page.get_by_role("button", name="All as ZIP").click()
    assert asked.value.post_data_json["controls"] == [[0.1] * 10]


def test_a_problem_on_the_way_is_told_and_what_was_made_stays(streaming):
    page = streaming
    problem = {
        "type": "urn:lookalike:problem:deadline-exceeded",
        "title": "Too late",
        "detail": "Ask for fewer.",
        "status": 504,
    }
    page.evaluate("text => send(text)", line(0) + json.dumps({"problem": problem}) + "\n")
    expect(page.locator("#variants-notice")).to_contain_text("Too lateAsk for fewer.")
    expect(page.locator("#variants .tile")).to_have_count(1)


def test_the_viewer_goes_round_and_draws_the_curtain(visitor, photos):
    page = visitor.open("#make?count=3")
    visitor.give(photos["face"])
    page.locator(TILES).nth(2).get_by_role("button").click()
    title, place = page.locator("#viewer-title"), page.locator("#viewer-place")
    expect(title).to_have_text("Look-alike 3")
    page.get_by_role("button", name="Next").click()
    expect(title).to_have_text("Look-alike 1")
    page.keyboard.press("ArrowRight")
    expect(place).to_have_text("2 of 3")
    page.keyboard.press("End")
    expect(place).to_have_text("3 of 3")
    expect(page.locator("#viewer-before")).to_have_js_property("naturalWidth", 384)
    page.get_by_label("Before", exact=True).fill("40")
    assert page.locator("#viewer-after").evaluate("image => image.style.clipPath") == "inset(0px 0px 0px 40%)"
    page.keyboard.press("ArrowRight")
    expect(title).to_have_text("Look-alike 3")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_face_before_lies_under_the_look_alike(visitor, photos):
    """The photograph's face is brought into the frame that the model draws in: the same as the service cuts it."""
    import base64
    import io

    import numpy as np
    from PIL import Image

    from app.core.faces import Detector, align
    from app.settings import Settings

    page = visitor.open("#make?count=1")
    visitor.give(photos["face"])
    page.locator(TILES).first.get_by_role("button").click()
    shown = base64.b64decode(page.locator("#viewer-before").get_attribute("src").partition(",")[2])
    shown = np.asarray(Image.open(io.BytesIO(shown)).resize((128, 128), Image.Resampling.BOX), np.float64)
    photograph = Image.open(photos["face"]).convert("RGB")
    cut = align(photograph, Detector(Settings().models, "cpu", 1)(photograph)[0]).astype(np.float64)
    assert np.abs(shown - cut).mean() < 6
    page.keyboard.press("Escape")


def test_the_address_says_what_is_shown_and_brings_it_back(visitor):
    page = visitor.open("#make?person=42&count=2&seed=9&strength=0.5&panel=controls&controls=0,0,0.5,0,0,0,0,0,0,-1")
    visitor.settle_controls()
    expect(page.get_by_role("tab", name="Controls")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#sliders output").nth(9)).to_have_text("−1.00")
    expect(page.locator(TILES)).to_have_count(2)
    address, face = page.evaluate("location.href"), page.locator(LIVE).get_attribute("src")
    made = [image.get_attribute("src") for image in page.locator(f"{TILES} img").all()]
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator(TILES)).to_have_count(2)
    visitor.settle_controls()
    expect(page).to_have_url(address)
    assert page.locator(LIVE).get_attribute("src") == face
    assert [image.get_attribute("src") for image in page.locator(f"{TILES} img").all()] == made


@pytest.mark.parametrize(
    "fragment",
    ["person=-1", "person=x&controls=1,2", "example=9", "panel=nothing", "count=1e9&seed=a&band=%3Cb%3E", "a=%E0%A4"],
)
def test_an_address_that_makes_no_sense_does_no_harm(visitor, fragment):
    page = visitor.open(f"#make?{fragment}")
    expect(page.locator("#drop")).to_be_visible()
    expect(page.locator("#workspace")).to_be_hidden()
    expect(page.locator("#source-notice")).to_be_hidden()


def test_a_photograph_never_gets_into_the_address(visitor, photos):
    page = visitor.open("#make?person=42&count=2")
    visitor.settle()
    visitor.give(photos["face"])
    expect(page).to_have_url(f"{visitor.service}/#make?count=2")


def test_a_picture_is_pasted_with_a_button(visitor):
    page = visitor.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=visitor.service)
    visitor.open("#make?count=1")
    page.evaluate(
        "async () => { const image = document.querySelector('#examples img'); await image.decode();"
        " const canvas = Object.assign(document.createElement('canvas'), { width: 128, height: 128 });"
        " canvas.getContext('2d').drawImage(image, 0, 0);"
        " const blob = await new Promise((done) => canvas.toBlob(done, 'image/png'));"
        " await navigator.clipboard.write([new ClipboardItem({ 'image/png': blob })]); }"
    )
    page.get_by_role("button", name="Paste").click()
    visitor.settle()
    expect(page.locator("#photo-caption")).to_have_text("Your photograph")
    page.evaluate("navigator.clipboard.writeText('no picture')")
    page.get_by_role("button", name="Paste").click()
    expect(page.locator("#source-notice")).to_contain_text("There is no picture on the clipboard")
