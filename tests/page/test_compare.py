"""Two photographs against each other."""

import re

from playwright.sync_api import expect


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


def test_a_picture_without_a_face_is_refused_in_words(visitor, photos):
    visitor.refusals = {422}
    page = visitor.open("#compare")
    page.set_input_files("#reference-file", photos["face"])
    page.set_input_files("#probe-file", photos["coffee"])
    expect(page.locator("#compare-notice")).to_contain_text("No face was found")
    expect(page.locator("#compare-result")).to_be_hidden()
