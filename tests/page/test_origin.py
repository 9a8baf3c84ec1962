"""Where a picture comes from, and what a photograph is worth."""

import base64
import re
import subprocess

import pytest
from PIL import Image
from playwright.sync_api import expect
from skimage import data

from tests.app.chain import make_chain
from tests.page.conftest import patient
from tests.server import Server


def layer(page, name):
    return page.get_by_role("list", name="Layers").get_by_role("listitem").filter(has_text=name)


def saved(visitor, photos, folder):
    """A look-alike as somebody saves it from the viewer."""
    page = visitor.open("#make?count=1")
    visitor.give(photos["face"])
    page.locator("#variants button").first.click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    page.keyboard.press("Escape")
    return path


def test_a_picture_saved_from_the_page_says_where_it_is_from(visitor, photos, tmp_path):
    picture = saved(visitor, photos, tmp_path)
    page = visitor.page
    page.get_by_role("link", name="Origin").click()
    expect(page.get_by_role("heading", name="Where does a picture come from?")).to_be_focused()
    page.set_input_files("#origin-file", picture)
    expect(page.locator("#origin-verdict")).to_have_text("Drawn by this model")
    expect(page.locator("#origin-no-proof")).to_contain_text("No mark is no proof of a photograph")
    expect(layer(page, "Mark in the pixels")).to_contain_text(re.compile(r"Found\s*Version \d+\.\d+\.\d+ of the model"))
    expect(layer(page, "Mark in the pixels")).to_contain_text(
        re.compile(r"score \d\d\.\d\.A mark counts from \d+\.\d on")
    )
    expect(layer(page, "Content credentials")).to_contain_text("The file carries no signed manifest.")
    expect(layer(page, "Metadata of the file")).to_contain_text("trainedAlgorithmicMedia")
    expect(page.locator("#origin-frames polygon")).to_have_count(2)


def test_another_program_made_it_smaller_and_saved_it_anew(visitor, photos, tmp_path, program):
    """ImageMagick's convert at quality 75, resized: the mark is read by the service and shown by the page."""
    convert = program("imagemagick")
    picture = saved(visitor, photos, tmp_path)
    again = tmp_path / "again.jpg"
    subprocess.run([convert, picture, "-resize", "85%", "-strip", "-quality", "75", again], check=True)
    width, height = Image.open(picture).size
    assert Image.open(again).size == (round(0.85 * width), round(0.85 * height))
    answer = visitor.page.request.post(
        f"{visitor.service}/v1/detect",
        multipart={"image": {"name": "again.jpg", "mimeType": "image/jpeg", "buffer": again.read_bytes()}},
    ).json()
    assert answer["verdict"] == "drawn-by-this-model"
    assert not answer["layers"]["metadata"]["present"]
    page = visitor.open("#origin")
    page.set_input_files("#origin-file", again)
    expect(page.locator("#origin-verdict")).to_have_text("Drawn by this model")
    expect(layer(page, "Metadata of the file")).to_contain_text("Say nothing of it")


def test_a_photograph_has_no_mark_which_proves_nothing(visitor, photos):
    page = visitor.open("#origin")
    page.set_input_files("#origin-file", photos["pair"])
    expect(page.locator("#origin-verdict")).to_have_text("No mark was found")
    expect(page.locator("#origin-no-proof")).to_contain_text("No mark is no proof of a photograph")
    for name in ("Mark in the pixels", "Content credentials", "Metadata of the file"):
        expect(layer(page, name).locator(".word.inside")).to_have_count(0)
    expect(page.locator("#origin-frames polygon")).to_have_count(0)


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_picture_is_pasted_or_dropped(visitor, way):
    page = visitor.open("#origin")
    page.evaluate(
        """async (way) => {
  const file = new File([await (await fetch("page/example-1.webp")).blob()], "a.webp", { type: "image/webp" });
  const transfer = new DataTransfer();
  transfer.items.add(file);
  const options = { bubbles: true, cancelable: true };
  document.querySelector("#origin-drop").dispatchEvent(way === "paste"
    ? new ClipboardEvent("paste", { ...options, clipboardData: transfer })
    : new DragEvent("drop", { ...options, dataTransfer: transfer }));
}""",
        way,
    )
    expect(page.locator("#origin-verdict")).to_have_text("Drawn by this model")
    expect(page.locator("#origin-image")).to_have_js_property("naturalWidth", 128)


def test_the_faces_of_a_sheet_are_told_together(visitor, photos, tmp_path):
    page = visitor.open("#origin")
    sheet = page.request.post(
        f"{visitor.service}/v1/variants?count=6",
        headers={"Accept": "image/png"},
        multipart={"image": {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photos["face"].read_bytes()}},
    )
    (tmp_path / "sheet.png").write_bytes(sheet.body())
    page.set_input_files("#origin-file", tmp_path / "sheet.png")
    expect(layer(page, "Mark in the pixels")).to_contain_text(re.compile("[456] marks"))
    expect(layer(page, "Mark in the pixels").get_by_text("of the model")).to_have_count(1)


def test_what_is_no_picture_is_told_in_words(visitor, photos):
    visitor.refusals = {400}
    page = visitor.open("#origin")
    page.set_input_files("#origin-file", photos["text"])
    expect(page.locator("#origin-notice")).to_contain_text("This file is not a picture")
    expect(page.locator("#origin-result")).to_be_hidden()


def test_a_kind_that_the_browser_reads_is_looked_at_without_its_metadata(visitor, photos, tmp_path):
    drawn = base64.b64decode(
        visitor.open("#origin").evaluate(
            "async () => { const image = await createImageBitmap(await (await fetch('page/example-2.webp')).blob());"
            " const canvas = Object.assign(document.createElement('canvas'), { width: 128, height: 128 });"
            " canvas.getContext('2d').drawImage(image, 0, 0); return canvas.toDataURL('image/png').split(',')[1]; }"
        )
    )
    (tmp_path / "a.png").write_bytes(drawn)
    Image.open(tmp_path / "a.png").convert("RGB").save(tmp_path / "a.bmp")
    page = visitor.page
    page.set_input_files("#origin-file", tmp_path / "a.bmp")
    expect(page.locator("#origin-verdict")).to_have_text("Drawn by this model")
    expect(page.locator("#origin-anew")).to_be_visible()


def test_content_credentials_are_told(browser, photos, tmp_path):
    """Signed by somebody whom the service trusts; and changed since, which is said and no error."""
    chain = make_chain(tmp_path)
    server = Server(fork=True, threads=1, c2pa_certificates=chain.certificates, c2pa_key=chain.key)
    try:
        address = server.until_ready().address
        page = patient(browser.new_context()).new_page()
        page.goto(f"{address}/#origin")
        expect(page.locator("body[data-ready]")).to_be_attached()
        signed = page.request.post(
            f"{address}/v1/variants?count=1",
            headers={"Accept": "image/jpeg"},
            multipart={"image": {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": photos["face"].read_bytes()}},
        ).body()
        (tmp_path / "signed.jpg").write_bytes(signed)
        page.set_input_files("#origin-file", tmp_path / "signed.jpg")
        expect(layer(page, "Content credentials")).to_contain_text("signed by Signer of this test")
        expect(layer(page, "Content credentials").locator("strong")).to_have_text("Valid")
        (tmp_path / "signed.jpg").write_bytes(signed[:-40] + bytes(8) + signed[-32:])
        page.set_input_files("#origin-file", tmp_path / "signed.jpg")
        expect(layer(page, "Content credentials").locator("strong")).to_have_text("Invalid")
        page.context.close()
    finally:
        server.stop()


def test_a_photograph_on_its_side_is_turned_and_the_page_says_so(visitor, tmp_path):
    side = tmp_path / "side.jpg"
    Image.fromarray(data.astronaut()).rotate(90, expand=True).save(side, quality=92)
    page = visitor.open("#make?count=1")
    visitor.give(side)
    expect(page.locator("#photo-quality .done")).to_have_text("Turned upright by 90 degrees.")
    expect(page.locator("#photo-quality summary")).to_have_text("Nothing speaks against this photograph")
    page.locator("#photo-quality summary").click()
    expect(page.locator("#photo-quality .figures")).to_contain_text(re.compile(r"Redrawing\s*0\.[5-9]"))
    page.get_by_role("button", name="Random").click()
    visitor.settle()
    expect(page.locator("#photo-quality")).to_be_empty()


def test_doubts_about_a_photograph_are_in_sight(visitor, photos):
    page = visitor.open("#make?count=1")
    visitor.give(photos["doubtful"])
    expect(page.locator("#photo-quality .done")).to_have_text("Turned upright by 180 degrees.")
    expect(page.locator("#photo-quality .doubts")).to_contain_text("pixels apart; details are made up below 32.")
    expect(page.locator("#photo-quality summary")).to_have_text("What was measured")
    page.get_by_role("link", name="Compare").click()
    page.set_input_files("#probe-file", photos["face"])
    expect(page.locator("#compare-result .doubts")).to_contain_text(
        re.compile(r"First photograph: The eyes are \d+ pix")
    )
    expect(page.locator("#compare-result .doubts")).to_contain_text("First photograph: Turned upright by 180 degrees.")
    expect(page.locator("#compare-result .doubts li")).to_have_count(2)
