"""Grids of samples: every picture in its place."""

import numpy as np
import pytest
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
    rows, columns = ({level: np.median(found, 0)[axis] for level, found in solid.items()} for axis in (0, 1))
    assert [rows[level] for level in (110, 30, 130)] == pytest.approx([rows[10]] * 3, abs=2)  # letters have greys too
    assert rows[20] > rows[10] + 192
    assert columns[20] == pytest.approx(columns[10], abs=2)
    assert columns[10] < columns[110] < columns[30] < columns[130]


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
