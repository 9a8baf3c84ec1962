"""The description of the API, as a reader sees it."""

from playwright.sync_api import expect


def test_the_api_can_be_read_and_tried(visitor):
    page = visitor.page
    page.goto(f"{visitor.service}/docs")
    expect(page.get_by_role("heading", name="lookalike")).to_be_visible()
    operation = page.locator("#operations-model-get_model")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table tbody .response-col_status")).to_contain_text("200")
