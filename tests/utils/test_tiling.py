"""Windows cover an image, stay in it, and put together give it back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.tiling import EDGES, Window, bounding, group_windows, plan_windows

SIDES = st.integers(1, 90)


@st.composite
def plans(draw, edges=EDGES):
    tile = draw(st.integers(1, 40))
    edge = draw(st.sampled_from(edges))
    smallest = tile if edge == "shift" else 1
    height, width = (draw(st.integers(smallest, smallest + 80)) for _ in range(2))
    return height, width, tile, draw(st.integers(0, tile - 1)), edge


@given(plans(edges=("shift", "pad")))
def test_tiles_put_together_give_the_image_back(plan):
    height, width, *_ = plan
    image = np.random.default_rng(0).integers(1, 256, (height, width), np.uint8)
    joined = np.zeros_like(image)
    for window in plan_windows(*plan):
        joined[window.slices] = image[window.slices]
    assert np.array_equal(joined, image)


@given(plans())
def test_windows_lie_inside_in_order_once_and_full(plan):
    height, width, tile, overlap, edge = plan
    windows = plan_windows(*plan)
    assert windows == sorted(set(windows), key=lambda w: (w.top, w.left))
    for window in windows:
        assert 0 <= window.top < window.top + window.height <= height
        assert 0 <= window.left < window.left + window.width <= width
        full = (window.height, window.width) == (tile, tile)
        reaches_the_border = window.top + window.height == height or window.left + window.width == width
        assert full or (edge == "pad" and reaches_the_border)
    tops = sorted({window.top for window in windows})
    steps = np.diff(tops)
    assert all(steps[:-1] == tile - overlap)
    assert all(steps[-1:] <= tile - overlap)


@given(plans(edges=("drop",)))
def test_dropped_is_only_what_does_not_fit(plan):
    height, width, tile, overlap, _ = plan
    stride = tile - overlap
    fits = [max(0, (length - tile) // stride + 1) if length >= tile else 0 for length in (height, width)]
    assert len(plan_windows(*plan)) == fits[0] * fits[1]


@pytest.mark.parametrize(
    ("edge", "count", "last"),
    [
        ("shift", 12, Window(384, 696, 256, 256)),
        ("pad", 12, Window(512, 768, 128, 184)),
        ("drop", 6, Window(256, 512, 256, 256)),
    ],
)
def test_640_x_952_by_256(edge, count, last):
    windows = plan_windows(640, 952, 256, edge=edge)
    assert (len(windows), windows[-1]) == (count, last)


def test_sixteen_tiles_of_an_image_of_1024_whatever_the_edge():
    assert {len(plan_windows(1024, 1024, 256, edge=edge)) for edge in EDGES} == {16}


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ((100, 300, 256), "100 x 300 pixels hold no tile of 256; use --edge pad"),
        ((0, 300, 256), "an image of 0 x 300"),
        ((300, 300, 0), "tiles of 0"),
        ((300, 300, 256, 256), "overlap of 256"),
        ((300, 300, 256, -1), "overlap of -1"),
        ((300, 300, 256, 0, "mirror"), "edge 'mirror'.*shift, pad, drop"),
    ],
)
def test_what_cannot_be_planned_is_said(plan, says):
    with pytest.raises(ValueError, match=says):
        plan_windows(*plan)


@given(plans(), st.integers(1, 4000))
def test_groups_keep_the_order_and_the_limit(plan, pixels):
    windows = plan_windows(*plan)
    groups = group_windows(windows, pixels)
    assert [window for group in groups for window in group] == windows
    for group in groups:
        around = bounding(group)
        assert len({window.top for window in group}) == 1
        assert len(group) == 1 or around.height * around.width <= pixels
        image = np.arange(around.height * around.width).reshape(around.height, around.width)
        for window in group:
            assert image[window.seen_from(around).slices].shape == (window.height, window.width)
