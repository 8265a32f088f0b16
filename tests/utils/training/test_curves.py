"""Pictures: the right colours in the right places."""

import numpy as np
import pytest
from PIL import Image

from utils.training.curves import draw_grid, draw_precision_recall, draw_shares, outlined


def test_grid_puts_every_image_in_its_line_and_block(tmp_path):
    """Three pairs in two blocks: the third stands at the top of the second."""
    levels = {"before": (10, 20, 30), "error map": (110, 120, 130)}
    columns = {name: [np.full((8, 8, 3), level, np.uint8) for level in row] for name, row in levels.items()}
    draw_grid(columns, tmp_path / "grid.png", side=40)
    grey = np.array(Image.open(tmp_path / "grid.png"))[..., 0]
    centres = {level: np.argwhere(grey[26:] == level).mean(0) for row in levels.values() for level in row}
    top = centres[10][0]
    assert [centres[level][0] for level in (110, 30, 130)] == [top] * 3
    assert centres[20][0] == top + 44
    assert centres[10][1] == centres[20][1] < centres[110][1] < centres[30][1] < centres[130][1]
    assert all((grey[26:] == level).sum() == 40 * 40 for level in centres)
    assert (grey[:26] < 100).any()  # the columns' names


def test_grid_keeps_shapes_and_names_pairs(tmp_path):
    columns = {"label": [np.full((10, 40), 177, np.uint8)]}
    draw_grid(columns, tmp_path / "grid.png", side=40, names=["scene_1"])
    grey = np.array(Image.open(tmp_path / "grid.png"))[..., 0]
    assert (grey == 177).sum() == 10 * 40
    assert grey.shape[1] < 2 * 40  # one pair makes one block
    assert (grey[26 + 10 :] < 70).any()  # its name


def test_outline_is_drawn_in_the_shrunk_image():
    """A square of 32 x 32 in 64 x 64, shrunk to half: a red frame of 16 x 16, the picture inside and outside it."""
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    red = (outlined(np.full((64, 64, 3), 50, np.uint8), mask, side=32) == (255, 0, 0)).all(-1)
    assert red.sum() == 16 * 16 - 14 * 14
    assert red[8:24, 8:24].sum() == red.sum()
    assert not red[9:23, 9:23].any()


def test_the_legend_covers_no_curve(tmp_path):
    """A curve in the lower left corner, the worst there is, is drawn as if it were alone."""
    curve = {"recall": np.linspace(0.3, 0, 50), "precision": np.linspace(0.05, 0.15, 50)}
    drawn = []
    for name in ("0.001, tuned, and a long name", "0"):
        draw_precision_recall(curve, {name: (0.9, 0.9)}, tmp_path / "curve.png")
        pixels = np.array(Image.open(tmp_path / "curve.png").convert("RGB"))
        drawn.append(int((pixels == (0x30, 0x63, 0x8E)).all(-1).sum()))
    assert drawn[0] == pytest.approx(drawn[1], rel=0.1)
    assert drawn[0] > 100


def test_shares_are_counted_in_the_right_bars(tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr("matplotlib.axes.Axes.bar_label", lambda self, bars, **_: counted.append(bars.datavalues))
    draw_shares({"train": [0, 0, 0.0005, 0.02, 0.5, 1], "val": [0.1]}, tmp_path / "shares.png")
    assert [list(values) for values in counted] == [[2, 1, 0, 0, 1, 0, 0, 2], [0, 0, 0, 0, 0, 0, 1, 0]]
    assert Image.open(tmp_path / "shares.png").width > 500
