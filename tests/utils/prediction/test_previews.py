"""Shrunk images: the size, the means, and no window larger than it has to be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.prediction.report import STRIP, shrunk


@given(st.integers(1, 300), st.integers(1, 300), st.integers(4, 60), st.booleans())
def test_sizes_and_values(height, width, side, colour):
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
def test_an_image_is_read_in_strips(side):
    tall, windows = np.zeros((5000, 40), np.uint8), []

    def read(window):
        windows.append(window)
        return tall[window.slices]

    shrunk(read, (5000, 40), side)
    assert max(window.height for window in windows) <= STRIP
    assert [window.top for window in windows] == sorted(window.top for window in windows)
