"""The report in a browser: Debian's or another Chromium, driven by playwright; skipped only where there is none."""

import io
import shutil
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from utils.prediction.report import CHANGED, write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
HOSTILE = "<img src=x onerror=document.body.innerHTML=''></script>"
BEFORE, AFTER, RED, BLACK = (20, 60, 180), (200, 190, 60), (255, 0, 0), (0, 0, 0)
LEGEND = {"found": (255, 255, 255), "false alarm": RED, "missed": (0, 255, 0), "rightly unchanged": BLACK}
COUNTS = {  # false positives, false negatives, true positives, of 64 x 64 pixels
    "scene_10": (0, 0, 2000), "scene_2": (900, 100, 900), "quiet": (0, 0, 0), "noisy": (500, 0, 0), HOSTILE: (1, 1, 8),
}  # fmt: skip


def images(wrong=True):
    """Two plain dates; the upper half is changed in the map, and a false alarm."""
    top = np.zeros((64, 64), bool)
    top[:32] = True
    pixels = {name: np.full((64, 64, 3), colour, np.uint8) for name, colour in (("before", BEFORE), ("after", AFTER))}
    errors = np.where(top[..., None], np.uint8(RED), np.uint8(BLACK))
    return pixels | {"map": np.uint8(255) * top} | ({"error": errors} if wrong else {})


def scored(name, counts):
    fp, fn, tp = counts
    f1 = 2 * tp / max(2 * tp + fp + fn, 1)
    row = {"name": name, "changed_share": (tp + fp) / 4096, "f1": f1, "iou": f1 / (2 - f1)}
    return row | {"tp": tp, "fp": fp, "fn": fn, "tn": 4096 - fp - fn - tp}


def unscored(path, about=None, **shares):
    """A page of pairs without labels."""
    rows = [{"name": name, "changed_share": share} for name, share in shares.items()]
    write_report(path, rows, lambda name: images(wrong=False), about or {})
    return path


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser is installed; looked for {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    steps = np.linspace(0, 1, 50)
    curve = {"threshold": steps, "recall": 1 - steps**2, "precision": 0.2 + 0.8 * steps}
    protocol = {"checkpoint": f"runs/{HOSTILE}/best.pt", "selected_on": "val", "sizes": ["64 x 64"], "recipe": None}
    scores = {"f1": 0.8123, "iou": 0.684, "precision": 0.9, "recall": 0.74}
    about = {"title": HOSTILE, "scores": scores, "protocol": protocol, "legend": LEGEND}
    write_report(path, [scored(name, counts) for name, counts in COUNTS.items()], lambda name: images(), about, curve)
    return path


@pytest.fixture
def visit(browser):
    """Opens a page; whatever it logs, raises or asks for is an error when the test ends."""
    contexts, wrong = [], []

    def visit(path, width=1280, height=900, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        expect(page.locator("#count")).not_to_be_empty()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert [text for text in wrong if not text.startswith("data:")] == []


def names(page):
    return page.locator("#list .name").all_text_contents()


def colour_at(frame, x, y):
    """Colour of what is drawn in a frame at a fraction of its width and height."""
    picture = Image.open(io.BytesIO(frame.screenshot())).convert("RGB")
    return picture.getpixel((int(x * picture.width), int(y * picture.height)))


def looks(colour, wanted):
    return np.abs(np.subtract(colour, wanted)).max() < 12  # JPEG


def first_frame(page):
    frame = page.locator("#list .frame").first
    frame.scroll_into_view_if_needed()
    until(page, "document.querySelector('#list img.after').naturalWidth > 0")
    return frame


def until(page, condition):
    """Wait for a condition in the page; the page forbids playwright's own way, which evaluates text in it."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"not in 10 seconds: {condition}")


def set_range(locator, value):
    locator.evaluate("(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", value)


def test_opens_with_scores_settings_and_charts(report, visit):
    """Of the five, "quiet" and "noisy" have no change in their labels, and "quiet" has none predicted."""
    page = visit(report)
    said = "5 pairs, 3 labelled with change, 4 predicted with change."
    expect(page.locator("#lead")).to_contain_text(said)
    assert page.locator("#tiles dd").all_text_contents()[:2] == ["81.23 %", "68.40 %"]
    assert page.title() == page.locator("h1").text_content() == HOSTILE
    assert f"runs/{HOSTILE}/best.pt" in page.locator("#settings dd").all_text_contents()
    assert page.locator("#histogram .bar title").all_text_contents() == [
        "none: 1", "< 0.1: 0", "0.1–0.3: 1", "0.3–1: 0", "1–3: 0", "3–10: 0", "10–30: 1", "> 30: 2",
    ]  # fmt: skip
    page.locator("#curve svg").hover(position={"x": 200, "y": 50})
    expect(page.locator("#curve p")).to_contain_text("threshold 0.")
    assert page.locator("#warning").is_hidden()
    assert page.locator("#series").is_hidden()
    page.get_by_role("button", name=HOSTILE, exact=True).click()
    assert page.locator("#single-name").text_content() == HOSTILE
    assert page.locator("[onerror]").count() == 0


LONG = "S2A_MSIL2A_20210715T082601_N0301_R021_T36RYV_20210715T112233_" + "0512_1024_" * 8
CUT = """(selector) => [...document.querySelectorAll(selector)].filter((element) => {
    const inner = document.createRange();
    inner.selectNodeContents(element);
    const [text, box] = [inner.getBoundingClientRect(), element.closest('details, dialog, li').getBoundingClientRect()];
    return text.left < box.left || text.right > box.right || text.top < box.top || text.bottom > box.bottom
        || element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1;
}).map((element) => element.textContent)"""


@pytest.mark.parametrize("width", [1280, 390])
def test_long_settings_and_names_are_not_cut(width, tmp_path, visit):
    """The settings are folded, since they would hide the pairs."""
    protocol = {"checkpoint": f"runs/{LONG}/best.pt", "reading": {"bands": [], "scale": None, "low": [0, 1]}}
    protocol |= {f"setting {number}": "value" for number in range(20)}
    page = visit(unscored(tmp_path / "report.html", {"protocol": protocol}, **{LONG: 0.5}), width)
    assert not page.evaluate("document.querySelector('#settings').open")
    page.evaluate("document.querySelector('#settings').open = true")
    assert page.locator("#settings dd:visible").all_text_contents()[:2] == [
        f"runs/{LONG}/best.pt", "bands –, scale –, low 0, 1",
    ]  # fmt: skip
    assert page.evaluate(CUT, "#settings dl, #settings dt, #settings dd, #list .name") == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("#list .name").click()
    assert page.evaluate(CUT, "#single-name") == []


def test_slider_by_mouse_and_keys(report, visit):
    page = visit(report)
    page.locator("#tools").get_by_label("None").check(force=True)
    frame = first_frame(page)
    assert looks(colour_at(frame, 0.3, 0.7), BEFORE)
    assert looks(colour_at(frame, 0.7, 0.7), AFTER)
    box = frame.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.6, steps=4)
    page.mouse.up()
    assert looks(colour_at(frame, 0.3, 0.7), AFTER)
    assert looks(colour_at(frame, 0.1, 0.7), BEFORE)
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.6)  # no button: nothing moves
    assert looks(colour_at(frame, 0.3, 0.7), AFTER)
    slider = frame.get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    assert slider.input_value() == "100"
    assert looks(colour_at(frame, 0.95, 0.7), BEFORE)


def test_fade_and_layers(report, visit):
    page = visit(report)
    frame, fade = first_frame(page), page.locator("#tools .fade")
    for value in (0, 50, 100):
        set_range(fade, value)
        mixed = np.multiply(CHANGED, value / 100) + np.multiply(BEFORE, 1 - value / 100)
        assert looks(colour_at(frame, 0.25, 0.25), mixed)
        assert looks(colour_at(frame, 0.25, 0.7), BEFORE)
    page.locator("#tools").get_by_label("Errors").check(force=True)
    assert looks(colour_at(frame, 0.25, 0.25), RED)
    assert page.locator("#legend li:visible").all_text_contents() == ["found", "false alarm", "missed"]
    page.locator("#tools").get_by_label("None").check(force=True)
    assert looks(colour_at(frame, 0.25, 0.25), BEFORE)


def test_sorting(report, visit):
    """Numbers in names count as numbers; a pair in which there was nothing to find is never the worst."""
    page = visit(report)
    assert names(page) == [HOSTILE, "noisy", "quiet", "scene_2", "scene_10"]
    orders = {
        "share": ["scene_10", "scene_2", "noisy", HOSTILE, "quiet"],
        "f1": ["scene_10", HOSTILE, "scene_2", "noisy", "quiet"],
        "worst": ["noisy", "scene_2", HOSTILE, "scene_10", "quiet"],
        "name": [HOSTILE, "noisy", "quiet", "scene_2", "scene_10"],
    }
    for order, wanted in orders.items():
        page.select_option("#sort", order)
        assert names(page) == wanted


def test_filter(report, visit):
    page = visit(report)
    for text, found, count in (
        ("SCENE", ["scene_2", "scene_10"], "2 of 5 pairs"), ("10 sc", ["scene_10"], "1 of 5 pairs"),
        ("none of them", [], "0 of 5 pairs"), ("", names(page), "5 pairs"),
    ):  # fmt: skip
        page.fill("#filter", text)
        assert names(page) == found
        expect(page.locator("#count")).to_have_text(count)


def test_keys_in_the_single_view(report, visit):
    page = visit(report)
    page.fill("#filter", "scene")
    page.select_option("#sort", "worst")
    page.locator("#list .open").first.click()
    title = page.locator("#single-name")
    expect(title).to_have_text("scene_2")
    assert page.locator("#place").text_content() == "1 of 2"
    for key, wanted in (("Left", "scene_2"), ("Right", "scene_10"), ("Right", "scene_10"), ("Left", "scene_2")):
        page.keyboard.press(f"Arrow{key}")
        expect(title).to_have_text(wanted)
        assert page.locator("#stage input").input_value() == "50"
    until(page, "document.querySelector('#stage .plain img').naturalWidth > 0")
    assert looks(colour_at(page.locator("#stage .plain"), 0.5, 0.25), RED)
    assert looks(colour_at(page.locator("#stage .plain"), 0.5, 0.75), BLACK)
    page.keyboard.press("ArrowDown")
    assert page.locator("#stage input").input_value() == "49"
    assert "900 pixels" in page.locator("#numbers").text_content()
    page.keyboard.press("Escape")
    expect(page.locator("#single")).to_be_hidden()
    expect(page.locator("#list .name").first).to_be_focused()


def test_without_labels_there_are_no_scores(tmp_path, visit):
    page = visit(unscored(tmp_path / "report.html", b=0.5, c=0))
    said = "2 pairs, 1 predicted with change. Without labels there are no scores."
    expect(page.locator("#lead")).to_have_text(said)
    assert page.locator("#sort option").all_text_contents() == ["Name", "Most change first"]
    assert page.locator("#tools").get_by_label("Errors").count() == 0
    assert "F1" not in page.locator("body").inner_text()
    page.locator("#list .name").first.click()
    assert page.locator("#stage figure").count() == 1


def test_a_page_without_pairs(tmp_path, visit):
    page = visit(unscored(tmp_path / "report.html", {"protocol": {"selected_on": "test"}}))
    expect(page.locator("#count")).to_have_text("0 pairs")
    assert page.locator("#warning").is_visible()


def test_on_a_phone(report, visit):
    page = visit(report, 390, 844, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("#tools").get_by_label("None").check(force=True)
    frame = first_frame(page)
    box = frame.bounding_box()
    assert box["width"] > 340
    page.touchscreen.tap(box["x"] + 0.2 * box["width"], box["y"] + 0.7 * box["height"])
    assert looks(colour_at(frame, 0.3, 0.7), AFTER)
    page.locator("#list .open").first.tap()
    for button in ("previous", "next", "close"):
        box = page.locator(f"#{button}").bounding_box()
        assert min(box["width"], box["height"]) >= 40
        assert box["x"] + box["width"] <= 390
    page.locator("#next").tap()
    assert page.locator("#place").text_content() == "2 of 5"
    assert page.evaluate("document.querySelector('#single').scrollWidth") == 390


LATER = ((70, 110, 255), (250, 90, 120), (255, 240, 70))  # colours of the later dates
GREYS = (40, 90, 140, 190)  # of the four dates


def pictures_of_bay():
    """Four grey dates; the first quarter of rows changes at the second date, and so on; the last one never."""
    maps = np.zeros((3, 64, 96), np.uint8)
    for number, layer in enumerate(maps):
        layer[16 * number : 16 * number + 16] = 255
    return {"dates": [np.full((64, 96, 3), grey, np.uint8) for grey in GREYS], "maps": list(maps)}


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    path = tmp_path_factory.mktemp("series") / "report.html"
    dates = ["2015", "2018", LONG, "2024"]
    rows = [{"name": f"bay_{before}__{after}", "changed_share": 0.25} for before, after in pairwise(dates)]
    words = [f"{after}: changed since {before}" for before, after in pairwise(dates)]
    bay = {"name": HOSTILE, "dates": dates, "meanings": words, "colours": LATER, "shares": [0.25] * 3}
    bay["pictures"] = pictures_of_bay
    about = {"compared": "Each date is compared with the one before it.", "places": [bay, {**bay, "name": "bay"}]}
    write_report(path, rows, lambda name: images(wrong=False), about)
    return path


@pytest.mark.parametrize("width", [1280, 390])
def test_a_series_of_four_dates(width, series, visit):
    """The slider of a place goes by keys; each date is shown with what has changed until then."""
    page = visit(series, width)
    place = page.locator("#places li", has=page.locator("b")).nth(1)
    frame, slider = place.locator(".frame"), place.get_by_role("slider", name="Date: bay")
    slider.scroll_into_view_if_needed()
    until(page, "document.querySelectorAll('#places li .frame')[1].querySelector('.first-3')?.naturalWidth > 0")
    page.locator("#tools .fade").evaluate("(i) => { i.value = 100; i.dispatchEvent(new Event('input')); }")
    slider.focus()
    for key, date in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2)):
        page.keyboard.press(key)
        expect(place.locator("output")).to_have_text(f"{['2015', '2018', LONG, '2024'][date]}, {date + 1} of 4")
        assert slider.get_attribute("aria-valuetext") == ["2015", "2018", LONG, "2024"][date]
        ground = (GREYS[date],) * 3
        wanted = [*(LATER[number] if number < date else ground for number in range(3)), ground]
        assert all(looks(colour_at(frame, 0.5, 0.125 + 0.25 * row), colour) for row, colour in enumerate(wanted))
    page.locator("#tools").get_by_label("None").check(force=True)
    assert looks(colour_at(frame, 0.5, 0.125), (GREYS[2],) * 3)
    assert place.locator(".legend li").first.text_content() == "2018: changed since 2015 (25.00 %)"
    assert page.locator("#compared").text_content() == "Each date is compared with the one before it."
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CUT, "#places b, #places output, #places .legend li") == []


def test_pictures_are_decoded_near_the_screen(tmp_path, visit):
    rows = [scored(f"scene_{i:04d}", (i * 7 % 500, i * 3 % 400, i * 11 % 900)) for i in range(600)]
    write_report(tmp_path / "report.html", rows, lambda name: images(), {"legend": LEGEND})
    page = visit(tmp_path / "report.html")
    until(page, "document.querySelectorAll('#list li').length === 600")
    until(page, "document.querySelector('#list img').naturalWidth > 0")
    assert page.locator("#list img").count() < 400  # of 2,400
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    until(page, "document.querySelector('#list li:last-child img')?.naturalWidth > 0")
