"""Windows cover an image, stay in it, and put together, or blended, give it back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.windows import EDGES, Window, bounding, group_windows, plan_windows
from utils.prediction.blending import Blender, Cover


@st.composite
def plans(draw, edges=EDGES):
    tile = draw(st.integers(1, 40))
    edge = draw(st.sampled_from(edges))
    smallest = tile if edge == "shift" else 1
    height, width = (draw(st.integers(smallest, smallest + 80)) for _ in range(2))
    return height, width, tile, draw(st.integers(0, tile - 1)), edge


@given(plans())
def test_windows_lie_inside_in_order_once_and_cover_what_they_can(plan):
    height, width, tile, overlap, edge = plan
    windows, covered = plan_windows(*plan), np.zeros((height, width), bool)
    assert windows == sorted(set(windows), key=lambda w: (w.top, w.left))
    for window in windows:
        assert 0 <= window.top < window.top + window.height <= height
        assert 0 <= window.left < window.left + window.width <= width
        reaches_the_border = window.top + window.height == height or window.left + window.width == width
        assert (window.height, window.width) == (tile, tile) or (edge == "pad" and reaches_the_border)
        covered[window.slices] = True
    steps = np.diff(sorted({window.top for window in windows}))
    assert all(steps[:-1] == tile - overlap)
    assert all(steps[-1:] <= tile - overlap)
    if edge == "drop":
        fits = [(length - tile) // (tile - overlap) + 1 if length >= tile else 0 for length in (height, width)]
        assert len(windows) == fits[0] * fits[1]
    else:
        assert covered.all()


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


@st.composite
def covers(draw):
    tile = draw(st.integers(1, 24))
    size = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    return Cover(size, (tile, draw(st.integers(1, 24))), draw(st.integers(0, tile)))


@given(covers())
def test_equal_windows_cover_a_scene_with_weights_that_sum_to_1(cover):
    total = np.zeros(cover.size)
    for window in cover.windows:
        assert (window.height, window.width) == cover.shape
        assert (cover.weights(window) > 0).all()
        total[window.slices] += cover.weights(window)
    assert np.abs(total - 1).max() < 1e-6


@given(covers(), st.integers(0, 2**32 - 1), st.data())
def test_blending_is_the_weighted_mean_and_gives_every_row_once(cover, seed, data):
    """Also from a later row of windows on, where rows that only its own windows hold are the same bits."""
    values = np.random.default_rng(seed).random((len(cover.windows), *cover.shape), np.float32)
    expected = np.zeros(cover.size)
    for window, value in zip(cover.windows, values, strict=True):
        expected[window.slices] += cover.weights(window).astype(float) * value
    blended = _blended(cover, values, 0)
    assert np.abs(blended - expected).max() < 1e-5
    first = data.draw(st.integers(0, len(cover.tops) - 1))
    whole_from = 0 if not first else cover.tops[first - 1] + cover.shape[0]
    assert np.array_equal(_blended(cover, values, first)[whole_from:], blended[whole_from:])


def _blended(cover, values, first):
    blender, result, end = Blender(cover), np.full(cover.size, np.nan, np.float32), cover.tops[first]
    for window, value in zip(cover.windows, values, strict=True):
        if window.top >= cover.tops[first]:
            for top, rows in blender.add(window, value):
                assert top == end
                end = top + len(rows)
                result[top:end] = rows
    assert end == cover.size[0]
    return result


def test_one_window_is_not_weighted():
    cover, value = Cover((30, 50), (64, 64), 16), np.random.default_rng(0).random((30, 50), np.float32)
    assert cover.shape == (30, 50)
    assert np.array_equal(_blended(cover, [value], 0), value)


def test_weights_fade_at_a_border_that_has_a_neighbour_and_nowhere_else():
    cover = Cover((64, 100), (64, 64), 16)
    assert cover.lefts == [0, 36]
    row = cover.weights(cover.windows[0])[5]
    assert (row[:36] == 1).all()
    assert (np.diff(row[36:]) < 0).all()
    assert row[-1] < 0.01
