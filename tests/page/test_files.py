"""The files of the page, as HTTP sees them."""

import re
from pathlib import Path

import httpx
import pytest

import app
from tests.patience import PATIENCE

PAGE = Path(app.__file__).parent / "page"


def test_the_page_may_only_use_what_the_service_itself_serves(service):
    answer = httpx.get(f"{service}/", timeout=PATIENCE)
    policy = dict(rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; "))
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert policy.pop("img-src") == "'self' blob: data:"
    assert {name for name, sources in policy.items() if sources == "'self'"} == {
        "script-src",
        "style-src",
        "connect-src",
    }
    for name in ("default-src", "base-uri", "form-action", "frame-ancestors"):
        assert policy[name] == "'none'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


TEXTS = sorted(path for path in PAGE.iterdir() if path.suffix != ".webp")


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_file_names_another_host_or_carries_inline_code(path):
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    assert "//" not in re.sub(r"(?m)(^|\s)//\s.*$", "", text), "an address of another host"
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=\"|<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"localStorage|sessionStorage|indexedDB|document\.cookie|innerHTML|\beval\b", text)


def test_every_file_is_served_with_its_media_type(service):
    kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".webp": "image/webp"}
    names = [path for path in PAGE.iterdir() if path.suffix in kinds]
    assert len(names) > 10
    for path in names:
        answer = httpx.get(f"{service}/page/{path.name}", timeout=PATIENCE)
        assert answer.content == path.read_bytes()
        assert answer.headers["Content-Type"].startswith(kinds[path.suffix])
        assert "Content-Security-Policy" in answer.headers


def test_a_file_that_the_browser_has_is_not_sent_again(service):
    first = httpx.get(f"{service}/page/style.css", timeout=PATIENCE)
    again = httpx.get(
        f"{service}/page/style.css", timeout=PATIENCE, headers={"If-None-Match": f'"other", W/{first.headers["ETag"]}'}
    )
    other = httpx.get(f"{service}/page/style.css", timeout=PATIENCE, headers={"If-None-Match": '"other"'})
    assert (again.status_code, again.content) == (304, b"")
    assert (other.status_code, other.content) == (200, first.content)
    assert first.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    "name", ["nothing.js", "index.html", "..%2Fmain.py", "%2e%2e/main.py", "..%5Cmain.py", "__init__.py"]
)
def test_nothing_else_is_served(service, name):
    answer = httpx.get(f"{service}/page/{name}", timeout=PATIENCE)
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:lookalike:problem:not-found"


def test_head_answers_without_a_body(service):
    answer = httpx.head(f"{service}/", timeout=PATIENCE)
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["Content-Length"]) == len((PAGE / "index.html").read_bytes())
