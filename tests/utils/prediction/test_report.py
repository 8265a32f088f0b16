"""The report as a file: small pictures that are still right, text that stays text, nothing half-written."""

import base64
import io
import json
import re
import weakref
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.scenes import draw_scene
from utils.change_map import NOT_COUNTED, PALETTES, change_map, error_map
from utils.prediction.report import CHANGED, SIDE, STRIP, shrunk, write_report


class Scripts(HTMLParser):
    """Script elements as a browser's parser finds them: (id, text), and the names of all elements."""

    def __init__(self, page):
        super().__init__()
        self.found, self.tags, self.open = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open = tag == "script"
        if self.open:
            self.found.append((dict(attrs).get("id"), ""))

    def handle_endtag(self, tag):
        self.open = False

    def handle_data(self, data):
        if self.open:
            self.found[-1] = (self.found[-1][0], self.found[-1][1] + data)


def read_report(path):
    """The numbers of a page, and for each pair its images in base64."""
    parsed = Scripts(path.read_text(encoding="utf-8"))
    texts = {name: text for name, text in parsed.found if name}
    data = json.loads(texts["data"], parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    return data, [texts[f"pixels-{i}"].split(" ") for i in range(len(data["pairs"]))]


def flat(height=8, width=8):
    """A pair of two colours without change."""
    images = {name: np.full((height, width, 3), level, np.uint8) for name, level in (("before", 40), ("after", 200))}
    return images | {"map": np.zeros((height, width), np.uint8), "error": np.zeros((height, width, 3), np.uint8)}


def noise(height, width):
    rng = np.random.default_rng(0)
    changed, truth = rng.random((2, height, width)) < 0.5
    dates = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    return {"before": dates[0], "after": dates[1], "map": change_map(changed), "error": error_map(changed, truth)}


def drawn(size):
    before, after, mask = draw_scene([1, 1], size, town=True)
    found = np.roll(mask > 0, 3, 0)
    return {"before": before, "after": after, "map": change_map(found), "error": error_map(found, mask > 0)}


def write(path, images=None, about=None, curve=None, **row):
    """A page of one pair."""
    rows = [{"name": "a", "changed_share": 0.0, **row}]
    write_report(path, rows, lambda name: images or flat(), about or {}, curve)
    return path


def pictures(folder, images):
    """The page's images of a pair, opened, and the pair's size in the page."""
    data, (codes,) = read_report(write(folder / "report.html", images))
    assert sum(map(len, codes)) < 60_000
    return [Image.open(io.BytesIO(base64.b64decode(code, validate=True))) for code in codes], data["pairs"][0]["size"]


@pytest.mark.parametrize(
    "images",
    [noise(384, 384), noise(1000, 700), noise(20, 3000), noise(1, 1), drawn(256), drawn(600)],
    ids=["noise", "shrunk noise", "a strip", "one pixel", "scene", "larger scene"],
)
def test_pictures_of_a_pair_stay_below_60_kb(images, tmp_path):
    shown, size = pictures(tmp_path, images)
    assert len(shown) == 4
    height, width = images["map"].shape
    for small in shown:
        assert max(small.size) <= min(SIDE, max(height, width))
        assert small.width * height == pytest.approx(small.height * width, rel=0.5 / min(small.size))
    expected = [width * SIDE / max(SIDE, height, width), height * SIDE / max(SIDE, height, width)]
    assert size == pytest.approx(expected, abs=1)


def test_a_drawn_scene_is_still_that_scene(tmp_path):
    """Both dates within a few grey levels; the map and the error map exactly, where nothing is shrunk."""
    images = drawn(256)
    (before, after, changed, error), _ = pictures(tmp_path, images)
    for picture, name in ((before, "before"), (after, "after")):
        assert picture.format == "JPEG"
        assert np.abs(np.asarray(picture, float) - images[name]).mean() < 6
    rgba = np.asarray(changed.convert("RGBA"))
    assert np.array_equal(rgba[..., 3], images["map"])
    assert (rgba[rgba[..., 3] > 0][:, :3] == CHANGED).all()
    rgba = np.asarray(error.convert("RGBA"))
    assert np.array_equal(rgba[..., :3] * (rgba[..., 3:] > 0), images["error"])
    assert np.array_equal(rgba[..., 3] > 0, images["error"].any(-1))
    colours = set(PALETTES["amfnet"].legend().values()) - {NOT_COUNTED}
    assert colours == set(map(tuple, images["error"].reshape(-1, 3)))


def test_one_changed_pixel_is_seen_in_the_thumbnail(tmp_path):
    images = flat(2000, 1500)
    images["map"][777, 1111] = 255
    (*_, changed, _), _ = pictures(tmp_path, images)
    alpha = np.asarray(changed.convert("RGBA"))[..., 3]
    assert np.argwhere(alpha).tolist() == [[777 * 384 // 2000, 1111 * 288 // 1500]]


HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "<!--<script>", "]]>")


@pytest.mark.parametrize("text", [*HOSTILE, '"&amp;\u2028\0', "\udcff"])
def test_text_stays_text(text, tmp_path):
    plain = write(tmp_path / "plain.html", None, {"title": "t", "protocol": {"k": "v"}, "legend": {"l": (1, 2, 3)}})
    about = {"title": text, "protocol": {text: [text, {text: Path(text)}]}, "legend": {text: (1, 2, 3)}}
    hostile = write(tmp_path / "hostile.html", None, about, name=text)
    pages = [Scripts(path.read_text(encoding="utf-8")) for path in (plain, hostile)]
    assert pages[0].tags == pages[1].tags
    data, _ = read_report(hostile)
    assert data["pairs"][0]["name"] == data["title"] == text
    assert data["protocol"] == {text: [text, {text: str(Path(text))}]}


@given(st.dictionaries(st.text(), st.text() | st.floats() | st.lists(st.text())))
def test_any_setting_comes_through(tmp_path_factory, protocol):
    data, _ = read_report(write(tmp_path_factory.getbasetemp() / "any.html", None, {"protocol": protocol}))
    assert list(data["protocol"]) == list(protocol)
    for key, value in protocol.items():
        if not isinstance(value, float):
            assert data["protocol"][key] == value
        else:
            assert data["protocol"][key] == (pytest.approx(value, rel=1e-5) if np.isfinite(value) else None)


def test_numbers_of_numpy_are_numbers(tmp_path):
    row = {"f1": np.float32(0.5), "tp": np.int64(3), "iou": float("nan")}
    data, _ = read_report(write(tmp_path / "report.html", None, {"scores": {"f1": np.float64(0.123456789)}}, **row))
    assert data["pairs"] == [{"name": "a", "changed_share": 0, "f1": 0.5, "tp": 3, "iou": None, "size": [8, 8]}]
    assert data["scores"] == {"f1": 0.123457}


class Watched(np.ndarray):
    """Pixels that count how many of them are alive."""

    alive = weakref.WeakSet()

    def __array_finalize__(self, source):
        self.token = type("Token", (), {})()
        Watched.alive.add(self.token)


def test_pixels_of_few_pairs_are_alive_at_once(tmp_path):
    alive = []

    def thumbnails(name):
        images = {kind: pixels.view(Watched) for kind, pixels in flat(64, 64).items()}
        alive.append(len(Watched.alive))
        return images

    write_report(tmp_path / "report.html", [{"name": str(n), "changed_share": 0} for n in range(20)], thumbnails, {})
    assert len(alive) == 20
    assert 4 <= min(alive) <= max(alive) <= 8


def test_a_failure_leaves_the_old_page_and_nothing_else(tmp_path):
    path = write(tmp_path / "report.html", None, {"title": "old"})
    old = path.read_bytes()

    def fails(name):
        raise ValueError("mask/b.png: damaged")

    with pytest.raises(ValueError, match="damaged"):
        write_report(path, [{"name": "b"}], fails, {})
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_the_page_asks_for_nothing_outside(tmp_path):
    text = write(tmp_path / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r"[a-z]+://[^\s\"']*", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|\bsrc=|<link rel=\"(?!icon)", text)
    assert not re.search(r"/\*[A-Z]+\*/|<!--[A-Z]+-->", text)  # every part was put in


@pytest.mark.parametrize("recall", [[1, 0.5, 0], [0, 0, 0]])
def test_a_curve_has_the_points_at_which_anything_is_found(recall, tmp_path):
    curve = {"precision": np.array(recall) / 2, "recall": np.array(recall), "threshold": np.array([0.1, 0.2, 0.3])}
    found = read_report(write(tmp_path / "report.html", curve=curve))[0]["curve"]
    assert found == ({"precision": [0.5, 0.25], "recall": [1, 0.5], "threshold": [0.1, 0.2]} if any(recall) else None)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(4, 60), st.booleans())
def test_shrunk_images_have_the_size_and_the_means(height, width, side, colour):
    rng = np.random.default_rng(height)
    image = rng.integers(0, 256, (height, width, 3) if colour else (height, width), np.uint8)
    small = shrunk(lambda window: image[window.slices], (height, width), side)
    factor = min(max(height, width) // side, height, width)
    if factor < 2:
        assert np.array_equal(small, image)
        return
    assert max(small.shape[:2]) >= side
    assert max(small.shape[:2]) < 2 * side + 1 or min(height, width) < 2 * factor
    part = image[-(height % factor) - factor : -(height % factor) or None, :factor]
    assert np.abs(small[-1, 0] - part.reshape(factor * factor, -1).mean(0).reshape(small.shape[2:])).max() <= 0.5


def test_colours_are_not_mixed_where_they_mean_something():
    image = np.zeros((64, 64, 3), np.uint8)
    image[::2, ::2] = (255, 0, 0)
    small = shrunk(lambda window: image[window.slices], (64, 64), 16, mixed=False)
    assert small.shape == (16, 16, 3)
    assert (small == (255, 0, 0)).all()


@pytest.mark.parametrize("side", [10, 384])
def test_an_image_is_shrunk_in_strips(side):
    windows = []
    shrunk(lambda window: windows.append(window) or np.zeros((window.height, 40), np.uint8), (5000, 40), side)
    assert max(window.height for window in windows) <= STRIP
    assert windows == sorted(windows, key=lambda window: window.top)
