"""Dates that are no two images, or look unlike the training images: what is measured, and what is said."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from datasets.image_check import DRAWN, MARGINS, ImageCheck, grouped, seen_by, study
from datasets.pairs import Pair, find_pairs, later_first
from datasets.reading import PLAIN
from datasets.scenes import draw_scene
from tests.conftest import write_image, write_pairs


def remarks(before, after, seen=DRAWN):
    check = ImageCheck(seen)
    check.see((before, after))
    return check.remarks()


def test_looks_are_those_of_known_pixels():
    image = np.zeros((16, 16, 3), np.uint8)
    image[:8, :8], image[:8, 8:] = (80, 120, 100), (160, 120, 140)  # the lower half is unknown
    check = ImageCheck()
    for rows in (slice(0, 4), slice(4, 16)):
        check.see((image[rows], np.zeros_like(image[rows])))
    bands = {f"band {number} less brightness": 0 for number in (1, 2, 3)}
    assert check.looks() == {"before": {"brightness": 120, "contrast": pytest.approx(20), **bands}}


def test_drawn_scenes_are_like_themselves():
    looks = []
    for number in range(30):
        before, after, _ = draw_scene([3, number], 64)
        assert remarks(before, after) == []
        check = ImageCheck()
        check.see((before, after))
        looks += check.looks().values()
    for name, (low, high) in DRAWN.items():
        values = sorted(each[name] for each in looks)
        assert low < np.median(values) < high
        assert values[-1] - values[0] > 0.6 * (high - low), name


@pytest.mark.parametrize(
    ("alter", "says"),
    [
        (lambda x: x // 16, "after has brightness"),  # 12 bits of which 65535 becomes 255
        (lambda x: np.minimum(x, 15) * 16 + 15, "(training 54 to 166)"),  # of which 255 becomes 255
        (lambda x: np.stack([np.minimum(2.0 * x[..., 1], 255), x[..., 0], x[..., 1]], -1).astype(np.uint8), "band 1"),
    ],
    ids=["dark", "saturated", "near infrared"],
)
def test_other_images_are_told_with_numbers(alter, says):
    before, after, _ = draw_scene([3, 1], 128, town=True)
    (said,) = remarks(before, alter(after))
    assert said.startswith("unlike the images that the network was trained on, so the map may be wrong: after has ")
    assert says in said
    assert "before has" not in said
    assert remarks(before, alter(after), seen={}) == []


@pytest.mark.parametrize(("values", "label"), [((0, 255), True), ((0, 90, 128, 160, 255), False), ((255, 255), False)])
def test_a_label_is_known_by_the_values_of_all_windows(values, label):
    check, before = ImageCheck(), draw_scene(0, 32)[0]
    for value in values:
        check.see((before, np.full_like(before, value)))
    assert check.labels() == ([("after", "only the values 0 and 255")] if label else [])


def test_most_inverted_images_are_told():
    """Their blue is brighter than their red; the others have as little colour as ordinary images."""
    dates = [255 - draw_scene([3, number], 64)[0] for number in range(12)]
    assert sum("unlike" in str(remarks(date, date[::-1])) for date in dates) >= 6


@pytest.mark.parametrize(("name", "folders"), [("levir/train", "AB"), ("fotbcd", "AB"), ("dsifn/test", ("t1", "t2"))])
def test_real_images_are_ordinary(name, folders, real_data):
    for path in sorted((real_data / name / folders[0]).iterdir())[:20]:
        dates = [
            np.array(Image.open(next((real_data / name / f).glob(f"{path.stem}.*"))).convert("RGB")) for f in folders
        ]
        assert remarks(*dates) == [], path


@pytest.mark.parametrize("blur", [0, 1])
def test_a_label_with_soft_edges_is_told(blur, tmp_path):
    before, _, mask = draw_scene([3, 3], 128, town=True)
    path = tmp_path / "label.jpg"
    Image.fromarray(mask).filter(ImageFilter.GaussianBlur(blur)).save(path, quality=75)
    soft = np.array(Image.open(path).convert("RGB"))
    (said,) = remarks(before, soft)
    assert said.startswith("the after image has mostly grey values near ")
    grey = before[..., 1:2].repeat(3, axis=-1)
    faint = 100 + soft // 8  # as little contrast as haze
    assert not any("as a label has" in said for date in (grey, faint) for said in remarks(before, date))


def test_study_widens_what_is_known(tmp_path):
    pairs = write_pairs(tmp_path, [str(number) for number in range(4)], (32, 32))
    write_image(pairs[1].after, np.array(Image.open(pairs[1].before)))
    pairs[2].before.write_bytes(b"damaged")  # its reader says so
    grey = write_image(tmp_path / "A" / "grey.png", np.full((32, 32, 3), 9, np.uint8))
    lines, seen = study(pairs, PLAIN, {"brightness": [20, 60], "other": [1, 2]})
    assert lines == ["1: both dates are the same image, so nothing can change; check the files"]
    assert seen["brightness"][0] == 20
    assert 120 < seen["brightness"][1] < 135
    assert 70 < seen["contrast"][0] < seen["contrast"][1] < 80
    assert seen["other"] == [1, 2]
    assert study([Pair("grey", grey, pairs[0].after)], PLAIN, {})[1]["brightness"][0] == pytest.approx(10, abs=2)


def test_which_ranges_a_checkpoint_has():
    assert seen_by({"recipe": "detector"}) == DRAWN
    assert seen_by({"recipe": "detector", "seen": {"brightness": [1, 2]}}) == {"brightness": [1, 2]}
    assert seen_by({"recipe": "hanet"}) == {}
    assert MARGINS.keys() < DRAWN.keys()


def test_a_kind_is_said_once():
    lines = grouped([("a", "dark: 3"), ("b", "same"), ("c", "dark: 4"), ("d", "dark: 5")])
    assert lines == ["a and 2 more pairs: dark: 3", "b: same"]


@pytest.mark.parametrize(
    ("before", "after", "swapped"),
    [
        ("2024.png", "2018.png", True),
        ("2018.png", "2024.png", False),
        ("set/2024-05-01/a_1.png", "set/2024-04-30/a_1.png", True),
        ("set/2024/a_1.png", "set/2024-04/a_1.png", False),  # the same year
        ("set/B/a_1.png", "set/A/a_1.png", True),
        ("set/A/b_1.png", "set/B/b_1.png", False),
        ("2024/after.png", "2018/before.png", True),
        ("town_post.png", "town_pre.png", True),
        ("time2/x.png", "time1/x.png", True),
        ("post_2019/x.png", "pre_2021/x.png", True),  # the dates say otherwise
        ("pre_2019/x.png", "post_2021/x.png", False),
        ("x/1.png", "y/2.png", False),  # nothing is known
        ("2024/x.png", "y/x.png", False),
    ],
)
def test_names_that_say_swapped(before, after, swapped, tmp_path):
    pair = Pair("x", tmp_path / before, tmp_path / after)
    assert bool(later_first(pair)) == swapped
    assert ("swapped: before is" in later_first(pair)) == swapped


def test_no_layout_is_told_as_swapped(drawn_set):
    assert [later_first(pair) for pair in find_pairs(drawn_set, "train")] == [""] * 12
