"""Pictures of a data set: outlines where they belong, shares in the right bars."""

import numpy as np
from PIL import Image

from tools.doctor.pictures import draw_shares, outlined


def test_outline_is_drawn_in_the_shrunk_image():
    """A square of 32 x 32 in 64 x 64, shrunk to half: a red frame of 16 x 16, the picture inside and outside it."""
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    red = (outlined(np.full((64, 64, 3), 50, np.uint8), mask, side=32) == (255, 0, 0)).all(-1)
    assert red.sum() == 16 * 16 - 14 * 14
    assert red[8:24, 8:24].sum() == red.sum()
    assert not red[9:23, 9:23].any()


def test_shares_are_counted_in_the_right_bars(tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr("matplotlib.axes.Axes.bar_label", lambda self, bars, **_: counted.append(bars.datavalues))
    draw_shares({"train": [0, 0, 0.0005, 0.02, 0.5, 1], "val": [0.1]}, tmp_path / "shares.png")
    assert [list(values) for values in counted] == [[2, 1, 0, 0, 1, 0, 0, 2], [0, 0, 0, 0, 0, 0, 1, 0]]
    assert Image.open(tmp_path / "shares.png").width > 500
