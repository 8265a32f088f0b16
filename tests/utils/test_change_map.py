"""Colours at known pixels."""

import numpy as np
import pytest

from utils.change_map import NOT_COUNTED, OVERLAY, PALETTES, change_map, draw_legend, error_map, overlay

TRUTH = np.array([[1, 1, 0, 0, 255, 255]], np.uint8)
FOUND = np.array([[True, False, True, False, True, False]])
RED, GREEN, CYAN, YELLOW = (255, 0, 0), (0, 255, 0), (0, 255, 255), (255, 255, 0)
WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (128, 128, 128)


@pytest.mark.parametrize(
    ("name", "found", "missed", "false_alarm"),
    [("amfnet", WHITE, GREEN, RED), ("hanet", WHITE, CYAN, RED), ("open-cd", GREEN, RED, YELLOW),
     ("colour-blind", WHITE, (86, 180, 233), (213, 94, 0))],
)  # fmt: skip
def test_error_map_in_rgb(name, found, missed, false_alarm):
    """Rightly unchanged is black and what is not counted grey, whatever was predicted, in every palette."""
    drawn = error_map(FOUND, TRUTH, PALETTES[name])
    assert drawn.dtype == np.uint8
    assert [tuple(colour) for colour in drawn[0].tolist()] == [found, missed, false_alarm, BLACK, GREY, GREY]


def test_amfnets_colours_are_the_usual_ones():
    assert np.array_equal(error_map(FOUND, TRUTH), error_map(FOUND, TRUTH, PALETTES["amfnet"]))


def test_change_map_is_0_and_255():
    assert change_map(FOUND[:, :4]).tolist() == [[255, 0, 255, 0]]
    assert change_map(FOUND).dtype == np.uint8


def test_overlay_tints_changed_pixels_alone():
    image = np.full((1, 6, 3), (10, 201, 250), np.uint8)
    drawn = overlay(image, FOUND)
    assert (drawn[~FOUND] == image[~FOUND]).all()
    assert drawn[0, 0].tolist() == [5 + 127, 100, 125 + 127]
    assert (image == (10, 201, 250)).all()


@pytest.mark.parametrize("name", PALETTES)
def test_legend_shows_every_colour_once(name):
    legend = {**PALETTES[name].legend(), "changed": OVERLAY}
    drawn = np.array(draw_legend(legend))
    column = drawn[:, 16]  # through the squares
    for word, colour in legend.items():
        assert (column == colour).all(-1).sum() >= 16, word
    assert set(PALETTES[name].legend()) >= {"found", "missed", "false alarm"}
    assert len(set(legend.values())) == len(legend)
    assert NOT_COUNTED in legend.values()
