"""Grids of samples: every picture in its place."""

import numpy as np
from PIL import Image

from tools.figures.grids import draw_grid


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
