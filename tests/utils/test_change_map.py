"""Colours at known pixels."""

import numpy as np

from utils.change_map import change_map, error_map

TRUTH = np.array([[1, 1, 0, 0]], np.uint8)
FOUND = np.array([[True, False, True, False]])


def test_error_map_in_rgb():
    """Found white, missed green, false alarm red, rightly unchanged black."""
    assert error_map(FOUND, TRUTH).tolist() == [[[255] * 3, [0, 255, 0], [255, 0, 0], [0, 0, 0]]]
    assert error_map(FOUND, TRUTH).dtype == np.uint8


def test_change_map_is_0_and_255():
    assert change_map(FOUND).tolist() == [[255, 0, 255, 0]]
    assert change_map(FOUND).dtype == np.uint8
