"""Two photographs against each other."""

import re

from PIL import Image
from playwright.sync_api import expect

from tests.page.conftest import wait_until

HOLD_BACK = """() => {
  const [read, write] = [window.createImageBitmap, HTMLCanvasElement.prototype.toBlob];
  window.createImageBitmap = async (...given) => {
    await new Promise((go) => { window.go = go; });
    return read(...given);
  };
  HTMLCanvasElement.prototype.toBlob = function toBlob(take, ...given) {
    write.call(this, (blob) => { take(blob); setTimeout(() => { window.converted = true; }); }, ...given);
  };
}"""
"""Pictures of kinds that the service does not take are written anew, but not before the test says `go`."""


def test_two_photographs_are_compared(visitor, photos):
    page = visitor.open("#compare")
    page.set_input_files("#reference-file", photos["face"])
    page.set_input_files("#probe-file", photos["pair"])
    decisions = page.get_by_role("list", name="Decisions").get_by_role("listitem")
    expect(decisions).to_have_count(3)
    expect(decisions.first).to_contain_text("Same person")
    expect(decisions.first).to_contain_text("1 pair of strangers in 100 ")
    label = page.locator("#compare-result .reading-row").get_attribute("aria-label")
    assert float(re.match(r"Similarity (\d\.\d\d)", label)[1]) > 0.8, "it is the same picture"
    expect(page.locator("#compare-view .box")).to_have_count(2)


def test_the_photograph_at_work_is_offered_as_the_first(visitor, photos):
    page = visitor.open()
    visitor.give(photos["face"])
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("heading", name="Compare two photographs")).to_be_focused()
    expect(page.get_by_role("img", name="First photograph")).to_be_visible()
    page.set_input_files("#probe-file", photos["face"])
    expect(page.locator("#compare-result .reading-row")).to_have_attribute(
        "aria-label", re.compile(r"Similarity 1\.00")
    )


def test_the_last_photograph_that_was_put_there_stays(visitor, photos, tmp_path):
    slow = tmp_path / "slow.bmp"
    Image.open(photos["pair"]).save(slow)
    page = visitor.open("#compare")
    page.evaluate(HOLD_BACK)
    page.set_input_files("#reference-file", slow)
    wait_until(page, "window.go")
    page.set_input_files("#reference-file", photos["face"])
    first = page.get_by_role("img", name="First photograph")
    expect(first).to_have_js_property("naturalWidth", 512)
    page.evaluate("go()")
    wait_until(page, "window.converted")
    expect(first).to_have_js_property("naturalWidth", 512)
    page.set_input_files("#probe-file", photos["face"])
    expect(page.locator("#compare-result .reading-row")).to_have_attribute(
        "aria-label", re.compile(r"Similarity 1\.00")
    )


def test_a_picture_without_a_face_is_refused_in_words(visitor, photos):
    visitor.refusals = {422}
    page = visitor.open("#compare")
    page.set_input_files("#reference-file", photos["face"])
    page.set_input_files("#probe-file", photos["coffee"])
    expect(page.locator("#compare-notice")).to_contain_text("No face was found")
    expect(page.locator("#compare-result")).to_be_hidden()
