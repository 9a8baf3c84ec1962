"""What the page says when something is wrong."""

import json

import pytest
from playwright.sync_api import expect

from app.runtime.manifest import parse_manifest
from app.settings import Settings

from .conftest import wait_until


@pytest.mark.parametrize(
    ("file", "status", "words"),
    [("text", 400, "This file is not a picture"), ("coffee", 422, "No face was found")],
)
def test_a_photograph_that_will_not_do(visitor, photos, file, status, words):
    visitor.refusals = {status}
    page = visitor.open()
    page.set_input_files("#photo-file", photos[file])
    notice = page.locator("#source-notice")
    expect(notice).to_have_attribute("role", "alert")
    expect(notice.locator("strong")).to_have_text(words)
    detail = notice.locator("span").inner_text()
    assert len(detail) > 20, "it says what to do"
    assert not detail.startswith(words), "the title is not said twice"
    expect(notice.locator("small")).to_contain_text("Request ")
    expect(page.locator("#workspace")).to_be_hidden()

    visitor.give(photos["face"])
    expect(notice).to_be_hidden()


def test_a_face_at_work_stays_when_the_next_photograph_is_refused(visitor, photos):
    visitor.refusals = {422}
    page = visitor.open()
    visitor.give(photos["face"])
    page.set_input_files("#photo-file", photos["coffee"])
    expect(page.locator("#source-notice")).to_contain_text("No face was found")
    expect(page.locator("#variants .tile")).to_have_count(12)
    expect(page.locator("#boxes .box")).to_have_count(1)


def test_parameters_that_contradict_each_other(visitor, photos):
    visitor.refusals = {422}
    page = visitor.open()
    visitor.give(photos["face"])
    page.get_by_text("More settings").click()
    page.get_by_label("Similarity", exact=True).select_option("between")
    page.get_by_label("Least similarity").fill("0.9")
    page.get_by_label("Greatest similarity").fill("0.1")
    page.get_by_role("button", name="Make look-alikes").click()
    expect(page.locator("#variants-notice")).to_contain_text("similarity_min is above similarity_max")


def test_a_service_that_is_busy_or_gone(visitor, photos):
    visitor.refusals = {503}
    page = visitor.open()
    problem = {
        "type": "urn:lookalike:problem:overloaded",
        "title": "The service is busy",
        "detail": "Try again in 2 s.",
    }
    answer = {"status": 503, "content_type": "application/problem+json", "body": json.dumps(problem)}
    page.route("**/v1/identities", lambda route: route.fulfill(**answer), times=1)
    page.set_input_files("#photo-file", photos["face"])
    expect(page.locator("#source-notice")).to_contain_text("The service is busyTry again in 2 s.")

    page.route(
        "**/v1/identities",
        lambda route: route.fulfill(status=503, body="<html>", headers={"Retry-After": "7"}),
        times=1,
    )
    page.set_input_files("#photo-file", photos["face"])
    expect(page.locator("#source-notice")).to_contain_text("It answered with status 503. Try again in 7 s.")

    page.route("**/v1/identities", lambda route: route.abort(), times=1)
    page.set_input_files("#photo-file", photos["face"])
    expect(page.locator("#source-notice")).to_contain_text("The service cannot be reached")
    assert [text for text in visitor.complaints if "ERR_FAILED" not in text] == []
    visitor.complaints.clear()


def test_an_example_that_does_not_come_is_told(visitor):
    page = visitor.open()
    page.route("**/example-2.webp", lambda route: route.abort(), times=1)
    page.get_by_role("button", name="Example face 2").click()
    expect(page.locator("#source-notice")).to_contain_text("The example cannot be fetchedCheck the connection")
    expect(page.locator("#drop[aria-busy]")).to_have_count(0)
    page.get_by_role("button", name="Example face 2").click()
    visitor.settle()
    expect(page.locator("#source-notice")).to_be_hidden()
    assert [text for text in visitor.complaints if "ERR_FAILED" not in text] == []
    visitor.complaints.clear()


def test_a_size_that_the_model_has_no_more_is_asked_for_once(visitor):
    visitor.refusals = {422}
    page = visitor.page

    def as_it_was(route):
        answer = route.fetch()
        model = answer.json()
        route.fulfill(response=answer, json=model | {"picture_sizes": [*model["picture_sizes"], 999]})

    page.route("**/v1/model", as_it_was, times=1)
    sizes = []
    page.on("request", lambda asked: sizes.append(asked.post_data_json["size"]) if "render" in asked.url else None)
    visitor.open("#make?person=1&count=1")
    visitor.settle()
    expect(page.locator("#variants .tile")).to_have_count(1)
    expect(page.locator(".notice:visible")).to_have_count(0)
    assert sizes[0] == 999
    assert set(sizes[1:]) == {max(parse_manifest(Settings().models).picture_sizes)}


class Doorkeeper:
    """Stands before the service and lets pass who has the key."""

    def __init__(self, page):
        self.seen = []
        page.route("**/v1/**", self.answer)

    def answer(self, route):
        given = route.request.headers.get("authorization")
        self.seen.append(given)
        if given == "Bearer right":
            route.continue_()
            return
        problem = {"type": "urn:lookalike:problem:unauthorized", "title": "A key is needed", "detail": "Send your key."}
        route.fulfill(status=401, content_type="application/problem+json", body=json.dumps(problem))


def test_a_key_is_asked_for_once_and_kept_in_memory_only(visitor, photos):
    visitor.refusals = {401}
    doorkeeper = Doorkeeper(visitor.page)
    page = visitor.page
    page.goto(visitor.service)
    dialog = page.get_by_role("dialog", name="A key is needed")
    expect(dialog).to_contain_text("Send your key.")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="This key was not accepted")
    expect(dialog).to_be_visible()
    page.keyboard.type("right")
    page.keyboard.press("Enter")
    expect(page.locator("body[data-ready]")).to_be_attached()
    visitor.give(photos["face"])
    assert doorkeeper.seen[:3] == [None, "Bearer wrong", "Bearer right"]
    assert set(doorkeeper.seen[3:]) == {"Bearer right"}
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.querySelector('#key').value]") == [
        0,
        0,
        "",
    ]


def test_who_has_no_key_is_told_so(visitor):
    visitor.refusals = {401}
    Doorkeeper(visitor.page)
    visitor.page.goto(visitor.service)
    visitor.page.get_by_role("button", name="Cancel").click()
    expect(visitor.page.locator("#source-notice")).to_contain_text("A key is neededSend your key.")


def test_the_policy_stops_what_does_not_belong_to_the_page(visitor):
    page = visitor.open()
    page.evaluate(
        "() => { window.stopped = []; document.addEventListener('securitypolicyviolation', (event) =>"
        " window.stopped.push(event.effectiveDirective)); }"
    )
    page.evaluate(
        "() => { const image = new Image(); image.src = 'http://127.0.0.1:9/x.png'; document.body.append(image); }"
    )
    page.evaluate("() => { document.body.setAttribute('style', 'color: red'); }")
    wait_until(page, "window.stopped.length >= 2")
    assert set(page.evaluate("window.stopped")) == {"img-src", "style-src-attr"}
    assert all("Content Security Policy" in text for text in visitor.complaints)
    assert len(visitor.complaints) >= 2, "the other tests would have noticed"
    visitor.complaints.clear()
    visitor.asked = [url for url in visitor.asked if not url.endswith("/x.png")]
