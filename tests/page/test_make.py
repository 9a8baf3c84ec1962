"""From a face to its look-alikes, as a person does it in the browser."""

import base64
import io
import json
import re
import zipfile

import pytest
from PIL import Image
from playwright.sync_api import expect

from app.runtime.manifest import parse_manifest
from app.settings import Settings

LIVE = "#live-image"
TILES = "#variants .tile"
SIMILARITY = re.compile(r"Similarity (−?\d\.\d\d)")


def similarities(tiles):
    labels = [row.get_attribute("aria-label") for row in tiles.locator(".reading-row").all()]
    return [float(SIMILARITY.match(label)[1].replace("−", "-")) for label in labels]


def picture(locator):
    return base64.b64decode(locator.get_attribute("src").partition(",")[2])


def pictures(page, tiles=TILES):
    return [picture(image) for image in page.locator(f"{tiles} img").all()]


def test_a_photograph_becomes_a_box_a_redrawn_face_and_look_alikes(visitor, photos):
    page = visitor.open()
    visitor.give(photos["face"])

    frame, box = page.locator("#photo").bounding_box(), page.locator("#boxes .box").bounding_box()
    middle = (box["x"] + box["width"] / 2 - frame["x"]) / frame["width"]
    assert page.locator("#boxes .box").count() == 1
    assert 0.35 < middle < 0.5, "the astronaut's face is left of the middle"
    assert 0.05 < box["width"] / frame["width"] < 0.3

    live = Image.open(io.BytesIO(picture(page.locator(LIVE))))
    assert live.width == max(parse_manifest(Settings().models).picture_sizes)
    assert page.locator(TILES).count() == 12
    assert len(set(pictures(page))) == 12
    assert all(-1 <= value <= 1 for value in similarities(page.locator(TILES)))
    expect(page.locator("#variants-words")).to_contain_text("Measured against the photograph")
    expect(page.locator("#status")).to_contain_text("12 look-alikes")


def test_the_scale_shows_band_thresholds_and_value_where_they_are(visitor, photos, service):
    page = visitor.open()
    visitor.give(photos["face"])
    model = page.request.get(f"{service}/v1/model").json()
    tile = page.locator(TILES).first
    track = tile.locator(".track").bounding_box()

    def place(part):
        box = part.bounding_box()
        return (box["x"] + box["width"] / 2 - track["x"]) / track["width"]

    ticks = [place(tick) for tick in tile.locator(".tick").all()]
    thresholds = [model["thresholds"][name] for name in ("fmr_1e-2", "fmr_1e-3", "fmr_1e-4")]
    band = tile.locator(".band").bounding_box()
    edges = [(band["x"] - track["x"]) / track["width"], (band["x"] + band["width"] - track["x"]) / track["width"]]
    assert ticks == pytest.approx(thresholds, abs=0.02)
    assert edges == pytest.approx(model["lookalike_band"], abs=0.02)
    assert place(tile.locator(".marker")) == pytest.approx(max(0, similarities(tile)[0]), abs=0.03)


def test_one_of_several_faces_is_chosen(visitor, photos):
    page = visitor.open()
    visitor.give(photos["pair"])
    boxes = page.get_by_role("button", name=re.compile("Face . of 2"))
    expect(boxes).to_have_count(2)
    expect(boxes.nth(0)).to_have_attribute("aria-pressed", "true")
    before = picture(page.locator(LIVE))

    with page.expect_request("**/v1/*") as asked:
        boxes.nth(1).click()
    expect(page.locator(".ghost").first).to_be_attached()
    visitor.settle()
    expect(boxes.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(boxes.nth(1)).to_be_focused()
    assert picture(page.locator(LIVE)) != before
    assert asked.value.method == "POST"


def test_a_slider_redraws_the_face_but_not_at_every_movement(visitor, photos, service):
    page = visitor.open()
    visitor.give(photos["face"])
    page.get_by_role("tab", name="Controls").click()
    controls = page.request.get(f"{service}/v1/model").json()["controls"]
    sliders = page.locator("#sliders input[type=range]")
    names = [label.inner_text().lower() for label in page.locator("#sliders label").all()]
    assert names == [control["name"].lower().replace("_", " ") for control in controls]

    before = picture(page.locator(LIVE))
    renders = []
    page.on("request", lambda request: renders.append(request) if request.url.endswith("/v1/render") else None)
    sliders.nth(2).focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#sliders output").nth(2)).to_have_text("0.30")
    expect(page.locator(LIVE)).not_to_have_attribute("src", re.compile(re.escape(base64.b64encode(before).decode())))
    visitor.settle_controls()
    assert 1 <= len(renders) < 30
    assert renders[-1].post_data_json["controls"] == [[0, 0, 0.3, 0, 0, 0, 0, 0, 0, 0]]

    page.get_by_role("button", name="All to zero").click()
    expect(page.locator("#sliders output").nth(2)).to_have_text("0.00")
    visitor.settle_controls()
    assert picture(page.locator(LIVE)) == before


def test_a_random_identity_needs_no_photograph(visitor):
    page = visitor.open()
    with page.expect_request("**/v1/render") as asked:
        page.get_by_role("button", name="Random").click()
    visitor.settle()
    identity = asked.value.post_data_json["identity"]
    assert len(identity) == 70
    assert 0.5 < sum(value**2 for value in identity) / 70 < 2, "normal numbers"
    expect(page.locator("#photo-figure")).to_be_hidden()
    assert page.locator(TILES).count() == 12


def test_a_seed_repeats_and_strength_and_count_are_obeyed(visitor, photos):
    page = visitor.open()
    visitor.give(photos["face"])
    first = pictures(page)
    page.get_by_role("button", name="Keep this seed").click()
    make = page.get_by_role("button", name="Make look-alikes")
    make.click()
    expect(page.locator(".ghost")).to_have_count(0)
    visitor.settle()
    assert pictures(page) == first

    page.get_by_label("How many").fill("3")
    assert page.get_by_label("Seed").input_value() != ""
    page.get_by_role("slider", name="Strength").fill("0")
    make.click()
    expect(page.locator(TILES)).to_have_count(3)
    visitor.settle()
    assert len(set(pictures(page))) == 1, "strength 0 redraws the same face"


def test_a_search_finds_variants_in_a_band(visitor, photos):
    page = visitor.open()
    visitor.give(photos["face"])
    values = sorted(similarities(page.locator(TILES)))
    low, high = values[2] - 0.01, values[-3] + 0.01  # A band that this model is known to reach.
    page.get_by_text("More settings").click()
    page.get_by_label("Similarity", exact=True).select_option("between")
    page.get_by_label("Least similarity").fill(f"{low:.2f}")
    page.get_by_label("Greatest similarity").fill(f"{high:.2f}")
    page.get_by_role("button", name="Make look-alikes").click()
    expect(page.locator("#variants-words")).to_contain_text("Found")
    visitor.settle()
    words = page.locator("#variants-words").inner_text()
    found, wanted = map(int, re.search(r"Found (\d+) of (\d+) inside the band", words).groups())
    assert 1 <= found <= wanted == 12
    assert page.locator(TILES).count() == found
    assert all(low - 0.006 <= value <= high + 0.006 for value in similarities(page.locator(TILES)))


def test_a_search_of_the_look_alike_band_asks_for_it_by_name(visitor):
    page = visitor.open()
    page.get_by_role("button", name="Random").click()
    visitor.settle()
    page.get_by_text("More settings").click()
    page.get_by_label("Similarity", exact=True).select_option("lookalike")
    with page.expect_request("**/v1/render") as asked:
        page.get_by_role("button", name="Make look-alikes").click()
    expect(page.locator("#variants-words")).to_contain_text("Found")
    assert asked.value.post_data_json["band"] == "lookalike"


def test_a_band_that_nothing_lies_in_is_said_so(visitor, photos):
    page = visitor.open()
    visitor.give(photos["face"])
    page.get_by_label("How many").fill("1")
    page.get_by_text("More settings").click()
    page.get_by_label("Similarity", exact=True).select_option("between")
    page.get_by_label("Least similarity").fill("-1")
    page.get_by_label("Greatest similarity").fill("-0.99")
    page.get_by_role("button", name="Make look-alikes").click()
    expect(page.locator("#variants-notice")).to_contain_text("Nothing was found inside this band")
    expect(page.locator("#variants-words")).to_contain_text("Found 0 of 1")
    expect(page.get_by_role("button", name="All as ZIP")).to_have_count(0)


@pytest.mark.parametrize("source", ["photograph", "random"])
def test_a_sweep_walks_one_control_from_end_to_end(visitor, photos, source):
    page = visitor.open()
    if source == "photograph":
        visitor.give(photos["face"])
    else:
        page.get_by_role("button", name="Random").click()
        visitor.settle()
    page.get_by_role("tab", name="Sweep").click()
    page.get_by_label("Control", exact=True).select_option(index=3)
    page.get_by_label("Steps").fill("5")
    page.get_by_role("button", name="Make the sweep").click()
    tiles = page.locator("#sweep .tile:not(.ghost)")
    expect(tiles).to_have_count(5)
    titles = [title.inner_text() for title in tiles.locator(".tile-title").all()]
    assert titles == ["−1.00", "−0.50", "0.00", "0.50", "1.00"]
    assert len(set(pictures(page, "#sweep .tile"))) == 5

    tiles.last.get_by_role("button").click()
    page.get_by_role("button", name="Sliders: move them here").click()
    expect(page.locator("#sliders output").nth(3)).to_have_text("1.00")


def test_one_image_is_downloaded_as_it_is_shown(visitor, photos):
    page = visitor.open()
    visitor.give(photos["face"])
    page.locator(TILES).nth(1).get_by_role("button").click()
    with page.expect_download() as got:
        page.get_by_role("button", name="Download").click()
    assert re.fullmatch(r"lookalike-[0-9a-f]{8}-0001\.jpg", got.value.suggested_filename)
    content = got.value.path().read_bytes()
    assert content == pictures(page)[1]
    assert b"trainedAlgorithmicMedia" in content


@pytest.mark.parametrize("what", ["variants", "sweep"])
def test_all_images_are_downloaded_as_a_zip_of_what_is_shown(visitor, photos, what):
    page = visitor.open()
    visitor.give(photos["face"])
    if what == "sweep":
        page.get_by_role("tab", name="Sweep").click()
        page.get_by_role("button", name="Make the sweep").click()
        expect(page.locator("#sweep-summary")).to_be_visible()
    with page.expect_download() as got:
        page.locator(f"#{what}-zip").click()
    assert got.value.suggested_filename.endswith(".zip")
    with zipfile.ZipFile(got.value.path()) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert [archive.read(entry["file"]) for entry in manifest["variants"]] == pictures(page, f"#{what} .tile")


def test_the_live_face_is_downloaded(visitor, photos):
    page = visitor.open()
    visitor.give(photos["face"])
    shown = picture(page.locator(LIVE))
    with page.expect_download() as got:
        page.get_by_role("button", name="Save").click()
    assert got.value.path().read_bytes() == shown


HAND_OVER = """([kind, content]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "face.jpg", { type: "image/jpeg" }));
  const options = { bubbles: true, cancelable: true };
  const event = kind === "paste"
    ? new ClipboardEvent("paste", { ...options, clipboardData: transfer })
    : new DragEvent("drop", { ...options, dataTransfer: transfer });
  document.querySelector("#drop").dispatchEvent(event);
  return event.defaultPrevented;
}"""


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_photograph_is_pasted_or_dropped(visitor, photos, way):
    page = visitor.open()
    content = base64.b64encode(photos["face"].read_bytes()).decode()
    assert page.evaluate(HAND_OVER, [way, content]), "the browser must not open the file itself"
    visitor.settle()
    assert page.locator(TILES).count() == 12


def test_a_picture_of_another_kind_is_converted(visitor, photos, tmp_path):
    page = visitor.open()
    other = tmp_path / "face.gif"
    Image.open(photos["face"]).save(other)
    visitor.give(other)
    assert page.locator("#boxes .box").count() == 1


def test_a_photograph_without_colour_is_told_from_one_with(visitor, photos, tmp_path):
    page = visitor.open("#make?count=1")
    Image.open(photos["face"]).convert("L").save(tmp_path / "grey.png")
    visitor.give(tmp_path / "grey.png")
    expect(page.locator("#photo-caption")).to_have_text("Your photograph, without colour")
    visitor.give(photos["face"])
    expect(page.locator("#photo-caption")).to_have_text("Your photograph")


def test_nothing_is_kept_in_the_browser(visitor, photos):
    page = visitor.open()
    visitor.give(photos["face"])
    kept = page.evaluate(
        "async () => [localStorage.length, sessionStorage.length, (await indexedDB.databases()).length,"
        " (await caches.keys()).length, document.cookie]"
    )
    assert kept == [0, 0, 0, 0, ""]
    assert page.context.cookies() == []
    page.reload()
    expect(page.locator("body[data-ready]")).to_be_attached()
    expect(page.locator("#workspace")).to_be_hidden()


def test_the_page_says_that_the_faces_are_synthetic(visitor, photos):
    page = visitor.open()
    expect(page.get_by_text("Every face drawn here is synthetic.")).to_be_visible()
    visitor.give(photos["face"])
    expect(page.locator("figcaption .tag")).to_have_text("synthetic")
