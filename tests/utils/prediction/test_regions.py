"""Regions of a map in strips are those of the whole map, wherever it is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from utils.prediction.regions import AreaFilter, RegionTable, Strip


@st.composite
def maps_in_strips(draw):
    heights = draw(st.lists(st.integers(1, 6), min_size=1, max_size=8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = sum(heights), draw(st.integers(1, 20))
    changed = rng.random(shape) < draw(st.sampled_from([0.0, 0.2, 0.5, 0.6, 0.8, 1.0]))
    probability = rng.random(shape, np.float32)
    tops = np.cumsum([0, *heights[:-1]])
    strips = [Strip(t, probability[t : t + h], changed[t : t + h]) for t, h in zip(tops.tolist(), heights, strict=True)]
    return changed, probability, strips


def filtered(strips, least):
    """What comes out, and the most rows that waited."""
    area_filter, done, waiting, most = AreaFilter(least), [], 0, 0
    for strip in strips:
        waiting += len(strip.changed)
        for ready in area_filter.add(strip, last=strip is strips[-1]):
            waiting -= len(ready.changed)
            done.append(ready)
        most = max(most, waiting)
    assert waiting == 0
    assert [strip.top for strip in done] == [strip.top for strip in strips]
    return np.concatenate([strip.changed for strip in done]), most


@given(maps_in_strips(), st.integers(0, 30))
def test_small_regions_go_and_others_stay_whole(case, least):
    changed, _, strips = case
    labels, count = ndimage.label(changed)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    result, most = filtered(strips, least)
    assert np.array_equal(result, changed & (sizes >= least)[labels])
    assert most <= least + 6  # 6: rows of the tallest strip


@given(maps_in_strips())
def test_regions_are_counted_across_strips(case):
    changed, probability, strips = case
    table = RegionTable()
    for strip in strips:
        table.add(strip)
    labels, count = ndimage.label(changed)
    expected = {}
    for number in range(1, count + 1):
        rows, columns = np.nonzero(labels == number)  # in raster order
        expected[rows[0], columns[0]] = len(rows), probability[labels == number].mean()
    for first, (pixels, mean) in expected.items():
        assert table.at(*first) == (pixels, pytest.approx(mean, abs=1e-5))


@given(maps_in_strips())
def test_every_region_is_drawn_once_and_whole_where_it_ends(case):
    changed, probability, strips = case
    table, drawn = RegionTable(), np.zeros(changed.shape, int)
    for strip in strips:
        table.add(strip)
    for top, regions in table.ending(lambda top, bottom: changed[top:bottom]):
        bottom = top + len(regions)
        (strip,) = [strip for strip in strips if strip.top + len(strip.changed) == bottom]
        assert (regions[strip.top - top :].any(1)).any()
        assert ndimage.label(regions)[1] == len(np.unique(ndimage.label(changed)[0][top:bottom][regions > 0]))
        drawn[top:bottom] += regions
    assert np.array_equal(drawn, changed)


def test_tall_regions_that_end_in_every_strip_are_drawn_together():
    """Each strip would else be drawn again for all that end below it: 5,050 rows."""
    changed, table = np.zeros((100, 200), bool), RegionTable()
    changed[:, ::2] = np.tri(100, dtype=bool).T  # from the first row on
    for top in range(100):
        table.add(Strip(top, np.zeros((1, 200), np.float32), changed[top : top + 1]))
    drawn = list(table.ending(lambda top, bottom: changed[top:bottom]))
    assert sum(regions.sum() for _, regions in drawn) == changed.sum()
    assert 100 < sum(len(regions) for _, regions in drawn) <= 1000
