"""Grids of samples: every picture in its place."""

import numpy as np
from PIL import Image

from tools.figures.grids import draw_grid


def test_grid_puts_every_image_in_its_line_and_block(tmp_path):
    """Three pairs in two blocks: the third stands at the top of the second."""
    levels = {"before": (10, 20, 30), "error map": (110, 120, 130)}
    columns = {name: [np.full((8, 8, 3), level, np.uint8) for level in row] for name, row in levels.items()}
    draw_grid(columns, tmp_path / "grid.png")
    grey = np.array(Image.open(tmp_path / "grid.png"))[..., 0]
    solid = {level: np.argwhere(grey == level) for row in levels.values() for level in row}
    assert all(len(found) >= 192 * 192 for found in solid.values())
    centres = {level: np.median(found, 0) for level, found in solid.items()}
    assert [centres[level][0] for level in (110, 30, 130)] == [centres[10][0]] * 3
    assert centres[20][0] > centres[10][0] + 192
    assert centres[10][1] == centres[20][1] < centres[110][1] < centres[30][1] < centres[130][1]


def test_grid_keeps_shapes_and_names_pairs(tmp_path):
    columns = {"label": [np.full((48, 192), 177, np.uint8)]}
    dark = []
    for names in ([], ["scene_1"]):
        draw_grid(columns, tmp_path / "grid.png", names=names)
        grey = np.array(Image.open(tmp_path / "grid.png"))[..., 0]
        assert (grey == 177).sum() >= 48 * 192
        assert grey.shape[1] < 2 * 192, "one pair makes one block"
        dark.append((grey < 100).sum())
    assert dark[1] > dark[0] > 0, "the name of the column, and that of the pair"
