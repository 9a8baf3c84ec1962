"""The page without a mouse, for a screen reader, on a phone, in the dark."""

import re
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import expect

import app

PAGE = Path(app.__file__).parent / "page"
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def tab_to(page, locator, most=40):
    for _ in range(most):
        page.keyboard.press("Tab")
        if locator.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"the Tab key does not reach {locator}")


@pytest.mark.parametrize("visitor", [{"reduced_motion": "no-preference"}], indirect=True, ids=["moving"])
def test_everything_can_be_done_with_the_keyboard(visitor, service):
    page = visitor.open()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()

    tab_to(page, page.locator("#photo-file"), 1)
    tab_to(page, page.get_by_role("button", name="Camera"), 1)
    tab_to(page, page.get_by_role("button", name="Random"), 2)
    page.keyboard.press("Enter")
    visitor.settle()

    tab_to(page, page.get_by_role("tab", name="Look-alikes"), 12)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Controls")).to_be_focused()
    first = page.locator("#sliders input").first
    tab_to(page, first, 5)
    page.keyboard.press("End")
    expect(page.locator("#sliders output").first).to_have_text("1.00")
    high = page.request.get(f"{service}/v1/model").json()["controls"][0]["high"]
    assert first.get_attribute("aria-valuetext") == f"1.00, {high}"
    page.keyboard.press("Delete")
    expect(page.locator("#sliders output").first).to_have_text("0.00")

    page.get_by_role("tab", name="Controls").focus()
    page.keyboard.press("Home")
    tab_to(page, page.get_by_label("How many"), 2)
    page.keyboard.press("Control+A")
    page.keyboard.type("2")
    page.keyboard.press("Enter")
    expect(page.locator("#variants .tile")).to_have_count(2)
    visitor.settle()
    tab_to(page, page.get_by_role("button", name=re.compile("Look-alike 2")))
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog", name="Look-alike 2")
    expect(viewer.get_by_role("button", name="Next")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#viewer-title")).to_have_text("Look-alike 1")
    tab_to(page, page.get_by_role("button", name="Download"), 4)
    with page.expect_download():
        page.keyboard.press("Enter")
    page.get_by_role("button", name="Sliders: move them here").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("The sliders are moved")
    expect(page.get_by_role("tab", name="Controls")).to_be_focused()
    expect(page.locator("#sliders output").first).not_to_have_text("0.00")
    page.keyboard.press("ArrowRight")
    tab_to(page, page.get_by_role("button", name="Make the sweep"), 4)
    page.keyboard.press("Enter")
    expect(page.locator("#sweep .tile:not(.ghost)")).to_have_count(9)


def test_a_face_is_chosen_with_the_keyboard(visitor, photos):
    page = visitor.open()
    visitor.give(photos["pair"])
    second = page.get_by_role("button", name="Face 2 of 2")
    tab_to(page, second)
    page.keyboard.press("Space")
    expect(second).to_have_attribute("aria-pressed", "true")
    expect(second).to_be_focused()
    visitor.settle()


def violations(page):
    """What axe finds, in the light and in the dark."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
        found[scheme] = page.evaluate("axe.run({ resultTypes: ['violations'] }).then((all) => all.violations)")
    return found


NOTHING = {"light": [], "dark": []}


@pytest.mark.parametrize("visitor", [{}, PHONE], indirect=True, ids=["desktop", "phone"])
def test_an_audit_finds_nothing(visitor, photos):
    visitor.refusals = {422}
    page = visitor.open()
    page.emulate_media(reduced_motion="reduce")
    assert violations(page) == NOTHING
    page.set_input_files("#photo-file", photos["coffee"])
    expect(page.locator("#source-notice")).to_be_visible()
    assert violations(page) == NOTHING
    visitor.give(photos["pair"])
    page.get_by_text("More settings").click()
    page.get_by_label("Similarity", exact=True).select_option("between")
    page.get_by_text("What the numbers mean").click()
    assert violations(page) == NOTHING
    page.locator("#variants button").first.click()
    assert violations(page) == NOTHING
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Controls").click()
    page.locator("#sliders input").first.fill("0.5")
    page.locator(".about").first.click()
    expect(page.locator("#before")).to_be_visible()
    assert violations(page) == NOTHING
    page.get_by_role("tab", name="Sweep").click()
    page.get_by_role("button", name="Make the sweep").click()
    expect(page.locator("#sweep-summary")).to_be_visible()
    assert violations(page) == NOTHING
    page.get_by_role("link", name="Compare").click()
    page.set_input_files("#probe-file", photos["face"])
    expect(page.locator("#compare-result")).to_be_visible()
    assert violations(page) == NOTHING
    page.get_by_role("link", name="Origin").click()
    assert violations(page) == NOTHING
    for picture in (photos["face"], PAGE / "example-1.webp"):
        page.set_input_files("#origin-file", picture)
        expect(page.locator("#origin-result")).to_be_visible()
        assert violations(page) == NOTHING
    page.get_by_role("link", name="Make").click()
    page.get_by_role("tab", name="Look-alikes").click()
    visitor.give(photos["doubtful"])
    page.locator("#photo-quality summary").click()
    assert violations(page) == NOTHING


@pytest.mark.parametrize("visitor", [PHONE], indirect=True)
def test_a_narrow_phone_never_scrolls_sideways(visitor, photos):
    page = visitor.open()

    def fits():
        wide = page.evaluate(
            "[...document.querySelectorAll('body *')].filter((element) => element.checkVisibility()"
            " && !element.closest('.hearing, .sprite, .skip') && element.getBoundingClientRect().right > 360.5)"
            ".map((element) => element.outerHTML.slice(0, 80))"
        )
        assert wide == []
        assert page.evaluate("document.documentElement.scrollWidth") == page.evaluate("innerWidth") == 360

    fits()
    visitor.give(photos["pair"])
    page.get_by_text("More settings").click()
    page.get_by_label("Similarity", exact=True).select_option("between")
    fits()
    page.get_by_role("tab", name="Controls").click()
    fits()
    page.get_by_role("tab", name="Sweep").click()
    page.get_by_role("button", name="Make the sweep").click()
    expect(page.locator("#sweep .tile:not(.ghost)")).to_have_count(9)
    fits()
    page.locator("#sweep button").first.click()
    fits()
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Compare").click()
    page.set_input_files("#probe-file", photos["face"])
    expect(page.locator("#compare-result")).to_be_visible()
    fits()
    page.get_by_role("link", name="Origin").click()
    page.set_input_files("#origin-file", PAGE / "example-1.webp")
    expect(page.locator("#origin-result")).to_be_visible()
    fits()
    page.get_by_role("link", name="Make").click()
    page.get_by_role("tab", name="Look-alikes").click()
    visitor.give(photos["doubtful"])
    page.locator("#photo-quality summary").click()
    fits()


TALL_PHONE = PHONE | {"viewport": {"width": 390, "height": 844}}


@pytest.mark.parametrize("visitor", [TALL_PHONE], indirect=True)
def test_the_main_job_takes_two_screens_of_a_phone(visitor, photos):
    page = visitor.open()

    def screens():
        return page.evaluate("document.documentElement.scrollHeight / innerHeight")

    assert screens() < 1.25
    visitor.give(photos["face"])
    assert screens() <= 2
    page.get_by_role("tab", name="Controls").click()
    assert screens() <= 2
    page.locator("#sliders input").last.scroll_into_view_if_needed()
    expect(page.locator("#live-image")).to_be_in_viewport(ratio=1)
