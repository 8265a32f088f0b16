"""The report as a file: small pictures that are still right, text that stays text, nothing half-written."""

import base64
import io
import json
import re
import weakref
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.scenes import draw_scene
from utils.change_map import NOT_COUNTED, PALETTES, change_map, error_map
from utils.prediction.report import CHANGED, CURVE_POINTS, SIDE, ReportPair, write_report


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


def opened(code):
    return Image.open(io.BytesIO(base64.b64decode(code, validate=True)))


def flat(height=8, width=8, error=True):
    """A pair of two colours without change."""
    images = {name: np.full((height, width, 3), level, np.uint8) for name, level in (("before", 40), ("after", 200))}
    images |= {"map": np.zeros((height, width), np.uint8)} | (
        {"error": np.zeros((height, width, 3), np.uint8)} if error else {}
    )
    return images


def pair(images, name="a", **row):
    return ReportPair(name, {"changed_share": 0.0, **row}, lambda: images)


def noise(height, width):
    rng = np.random.default_rng(0)
    changed, truth = rng.random((2, height, width)) < 0.5
    dates = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    return {"before": dates[0], "after": dates[1], "map": change_map(changed), "error": error_map(changed, truth)}


def drawn(size):
    before, after, mask = draw_scene([1, 1], size, town=True)
    found = np.roll(mask > 0, 3, 0)
    return {"before": before, "after": after, "map": change_map(found), "error": error_map(found, mask > 0)}


@pytest.mark.parametrize(
    "images",
    [noise(384, 384), noise(1000, 700), noise(20, 3000), noise(1, 1), drawn(256), drawn(600)],
    ids=["noise", "shrunk noise", "a strip", "one pixel", "scene", "larger scene"],
)
def test_pictures_of_a_pair_stay_below_60_kb(images, tmp_path):
    write_report(tmp_path / "report.html", [pair(images)], {})
    data, ((*codes,),) = read_report(tmp_path / "report.html")
    assert len(codes) == 4
    assert sum(map(len, codes)) < 60_000
    height, width = images["map"].shape
    for code in codes:
        small = opened(code)
        assert max(small.size) <= min(SIDE, max(height, width))
        assert small.width * height == pytest.approx(small.height * width, rel=0.5 / min(small.size))
    assert data["pairs"][0]["size"] == pytest.approx(
        [width * SIDE / max(SIDE, height, width), height * SIDE / max(SIDE, height, width)], abs=1
    )


def test_a_drawn_scene_is_still_that_scene(tmp_path):
    """Two dates within a few grey levels; the map and the error map exactly, where nothing is shrunk."""
    images = drawn(256)
    write_report(tmp_path / "report.html", [pair(images)], {})
    _, (codes,) = read_report(tmp_path / "report.html")
    before, after, changed, error = map(opened, codes)
    assert (before.format, after.format) == ("JPEG", "JPEG")
    for picture, name in ((before, "before"), (after, "after")):
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
    images = flat(2000, 1500, error=False)
    images["map"][777, 1111] = 255
    write_report(tmp_path / "report.html", [pair(images)], {})
    _, ((*_, changed),) = read_report(tmp_path / "report.html")
    alpha = np.asarray(opened(changed).convert("RGBA"))[..., 3]
    assert np.argwhere(alpha).tolist() == [[777 * 384 // 2000, 1111 * 288 // 1500]]


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    '"&amp;\u2028\0',
    "\udcff",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_text(text, tmp_path):
    plain, hostile = tmp_path / "plain.html", tmp_path / "hostile.html"
    write_report(plain, [pair(flat())], {"title": "t", "protocol": {"k": "v"}, "legend": {"l": (1, 2, 3)}})
    about = {"title": text, "protocol": {text: [text, {text: Path(text)}]}, "legend": {text: (1, 2, 3)}}
    write_report(hostile, [pair(flat(), name=text)], about)
    pages = [Scripts(path.read_text(encoding="utf-8")) for path in (plain, hostile)]
    assert pages[0].tags == pages[1].tags
    data, _ = read_report(hostile)
    assert data["pairs"][0]["name"] == data["title"] == text
    assert data["protocol"] == {text: [text, {text: str(Path(text))}]}


@given(st.dictionaries(st.text(), st.text() | st.floats() | st.lists(st.text())))
def test_any_setting_comes_through(tmp_path_factory, protocol):
    path = tmp_path_factory.getbasetemp() / "any.html"
    write_report(path, [], {"protocol": protocol})
    data, _ = read_report(path)
    assert list(data["protocol"]) == list(protocol)
    for key, value in protocol.items():
        if not isinstance(value, float):
            assert data["protocol"][key] == value
        else:
            assert data["protocol"][key] == (pytest.approx(value, rel=1e-5) if np.isfinite(value) else None)


def test_numbers_of_numpy_are_numbers(tmp_path):
    row = {"f1": np.float32(0.5), "tp": np.int64(3), "iou": float("nan")}
    write_report(tmp_path / "report.html", [pair(flat(), **row)], {"scores": {"f1": np.float64(0.123456789)}})
    data, _ = read_report(tmp_path / "report.html")
    assert data["pairs"] == [{"changed_share": 0, "f1": 0.5, "tp": 3, "iou": None, "name": "a", "size": [8, 8]}]
    assert data["scores"] == {"f1": 0.123457}


class Watched(np.ndarray):
    """Pixels that know how many of them are alive."""

    alive = weakref.WeakSet()

    def __array_finalize__(self, source):
        self.token = type("Token", (), {})()
        Watched.alive.add(self.token)


def test_pixels_of_few_pairs_are_alive_at_once(tmp_path):
    """Each pair is asked for when the one before is done with, and its pixels are let go."""
    events, alive = [], []

    def thumbnails(number):
        events.append(f"pixels {number}")
        images = {name: pixels.view(Watched) for name, pixels in flat(64, 64).items()}
        alive.append(len(Watched.alive))
        return images

    def pairs():
        for number in range(20):
            events.append(f"pair {number}")
            yield ReportPair(str(number), {"changed_share": 0.0}, partial(thumbnails, number))

    write_report(tmp_path / "report.html", pairs(), {})
    assert events == [f"{what} {number}" for number in range(20) for what in ("pair", "pixels")]
    assert 4 <= min(alive) <= max(alive) <= 8


def test_a_failure_leaves_the_old_page_and_nothing_else(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, [pair(flat())], {"title": "old"})
    old = path.read_bytes()

    def fails():
        raise ValueError("mask/b.png: damaged")

    with pytest.raises(ValueError, match="damaged"):
        write_report(path, [pair(flat()), ReportPair("b", {}, fails)], {})
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("after", np.zeros((8, 9, 3), np.uint8)),
        ("after", np.zeros((8, 8, 4), np.uint8)),
        ("map", np.zeros((8, 8, 1), np.uint8)),
        ("map", np.zeros((8, 8), bool)),
        ("error", np.zeros((8, 8), np.uint8)),
    ],
)
def test_images_that_do_not_fit_are_named(name, pixels, tmp_path):
    with pytest.raises(ValueError, match=f"pair_7: {name} is .* a report takes uint8"):
        write_report(tmp_path / "report.html", [pair(flat() | {name: pixels}, name="pair_7")], {})


def test_an_error_map_of_a_photograph_is_refused(tmp_path):
    with pytest.raises(ValueError, match="more than 16 colours"):
        write_report(tmp_path / "report.html", [pair(drawn(64) | {"error": drawn(64)["before"]})], {})


def test_the_same_pairs_give_the_same_bytes(tmp_path):
    for name in ("a.html", "b.html"):
        write_report(tmp_path / name, [pair(drawn(64))], {"scores": {"f1": 0.5}})
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_page_asks_for_nothing_outside(tmp_path):
    write_report(tmp_path / "report.html", [], {})
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r"[a-z]+://[^\s\"']*", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|\bsrc=|<link rel=\"(?!icon)", text)
    assert not re.search(r"/\*[A-Z]+\*/|<!--[A-Z]+-->", text)  # every part was put in


def test_a_curve_keeps_its_shape_in_few_points(tmp_path):
    """Thresholds that crowd where recall is 1, as probabilities near 0 do; one recall that is no number."""
    recall = np.concatenate([np.full(5000, 1.0), np.linspace(1, 0, 5000), [np.nan]])
    precision = np.concatenate([np.linspace(0, 0.5, 5000), np.linspace(0.5, 1, 5000), [1.0]])
    threshold = np.linspace(0, 1, 10_001)
    write_report(tmp_path / "report.html", [], {}, {"precision": precision, "recall": recall, "threshold": threshold})
    curve = read_report(tmp_path / "report.html")[0]["curve"]
    assert {len(values) for values in curve.values()} == {CURVE_POINTS}
    assert [values[0] for values in curve.values()] == [0, 1, 0]
    assert [values[-1] for values in curve.values()] == pytest.approx([1, 0, 0.9999])
    steps = np.hypot(np.diff(curve["recall"]), np.diff(curve["precision"]))
    assert steps.max() < 1.1 * (0.5 + np.hypot(1, 0.5)) / (CURVE_POINTS - 1)
    assert np.interp(0.6, curve["recall"][::-1], curve["precision"][::-1]) == pytest.approx(0.7, abs=1e-3)


def test_a_curve_without_points_is_none(tmp_path):
    nothing = {"precision": np.zeros(3), "recall": np.array([np.nan, 0, 0]), "threshold": np.arange(3) / 3}
    write_report(tmp_path / "report.html", [], {}, nothing)
    assert read_report(tmp_path / "report.html")[0]["curve"] is None
