"""The description of the API, as a reader sees it: every operation can be tried with what it is prefilled with."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from app.keys import make_key
from tests.page.conftest import patient
from tests.patience import PATIENCE
from tests.server import Server

KEY, ENTRY = make_key("reader")
NOT_THERE = ("get_job", "get_job_result", "delete_job")
"""Operations on something that the reader has to have made: the example is the address of nothing."""


@pytest.fixture(scope="module")
def open_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with all that can be turned on, and a key for it."""
    server = Server(fork=True, threads=1, jobs=tmp_path_factory.mktemp("jobs"), keys=ENTRY)
    try:
        yield server.until_ready().address
    finally:
        server.stop()


@pytest.fixture(scope="module")
def page(browser: Browser, open_service: str) -> Iterator[Page]:
    context = patient(browser.new_context(viewport={"width": 1280, "height": 900}))
    page = context.new_page()
    page.goto(f"{open_service}/docs")
    # Swagger UI fades in what it opens, and drawing that anew for each step of it took a quarter of the browser's time.
    page.add_style_tag(content="*, *::before, *::after { animation: none !important; transition: none !important; }")
    page.get_by_role("button", name="Authorize").click()
    page.locator("#api_key_value").fill(KEY)
    page.locator(".auth-container", has=page.locator("#api_key_value")).get_by_role(
        "button", name="Apply credentials"
    ).click()
    page.get_by_role("button", name="Close").first.click()
    yield page
    context.close()


@pytest.fixture(scope="module")
def archive(photos: dict[str, Path]) -> Path:
    path = photos["face"].with_name("photographs.zip")
    with zipfile.ZipFile(path, "w") as file:
        file.write(photos["face"], "alice/1.jpg")
    return path


def execute(operation: Locator) -> int:
    """Press Execute; the status that is shown."""
    # `expect` would describe the whole page in words each time that it looks in vain.
    operation.locator(".execute").wait_for()
    for clear in operation.locator(".btn-clear").all():
        clear.click()  # what was answered before
    expect(operation.locator(".live-responses-table")).to_have_count(0)
    operation.locator(".execute").click()
    shown = operation.locator(".live-responses-table tbody .response-col_status").first
    shown.wait_for()
    return int(shown.inner_text().split()[0])


def tried(page: Page, tag: str, name: str) -> Locator:
    """An operation, opened, with its form ready to be filled in."""
    operation = page.locator(f"#operations-{tag}-{name}")
    operation.locator(".opblock-summary-control").click()
    button = operation.locator(".try-out__btn").first
    if "cancel" not in (button.get_attribute("class") or ""):  # it was tried before
        button.click()
    return operation


def choose_files(operation: Locator, photo: Path, archive: Path) -> None:
    for field in operation.locator("input[type=file]").all():
        row = field.locator("xpath=ancestor::tr[1]")
        named = row.get_attribute("data-property-name") or row.inner_text()
        field.set_input_files(archive if "archive" in named else photo)


def test_every_operation_works_with_what_it_is_prefilled_with(
    page: Page, open_service: str, photos: dict[str, Path], archive: Path
):
    described = httpx.get(f"{open_service}/openapi.json", timeout=PATIENCE).json()
    wrong: dict[str, Any] = {}
    coloured: set[str] = set()
    for path, operations in described["paths"].items():
        for method, about in operations.items():
            name, tag = about["operationId"], about["tags"][0].replace(" ", "_")
            operation = tried(page, tag, name)
            choose_files(operation, photos["face"], archive)
            status = execute(operation)
            if operation.locator(".live-responses-table .highlight-code code").count():
                coloured.add(name)
            operation.locator(".opblock-summary-control").click()
            if not 200 <= status < 300 and not (status == 404 and name in NOT_THERE):
                wrong[f"{method} {path}"] = status
    assert wrong == {}
    assert "create_job" in coloured
    assert "infer" not in coloured, "tens of thousands of numbers would hold the browser up"


@pytest.mark.parametrize("name", ["create_variants", "sweep_control", "create_identities", "compare_faces"])
def test_json_works_with_its_example_too(page: Page, name: str):
    operation = tried(page, "faces", name)
    operation.get_by_label("Request content type").select_option("application/json")
    assert execute(operation) == 200
    operation.locator(".opblock-summary-control").click()


def test_parameters_stand_once(open_service: str):
    for path, operations in httpx.get(f"{open_service}/openapi.json", timeout=PATIENCE).json()["paths"].items():
        for about in operations.values():
            query = {item["name"] for item in about.get("parameters", []) if item["in"] == "query"}
            form = about.get("requestBody", {}).get("content", {}).get("multipart/form-data", {}).get("schema", {})
            assert not query & set(form.get("properties", {})), path


def test_the_schemas_are_closed_until_asked_for(page: Page, open_service: str):
    schemas = httpx.get(f"{open_service}/openapi.json").json()["components"]["schemas"]
    shown = page.locator("section.models article")
    heading = page.locator("section.models > h4 button")
    expect(heading).to_have_attribute("aria-expanded", "false")
    assert shown.count() == 0
    heading.click()
    expect(shown).to_have_count(len(schemas))
    heading.click()
    expect(shown).to_have_count(0)
