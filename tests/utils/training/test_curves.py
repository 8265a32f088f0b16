"""Charts of a run: nothing hides a curve."""

import numpy as np
import pytest
from PIL import Image

from utils.training.curves import draw_precision_recall


def test_the_legend_covers_no_curve(tmp_path):
    """A curve in the lower left corner, the worst there is, is drawn as if it were alone."""
    curve = {"recall": np.linspace(0.3, 0, 50), "precision": np.linspace(0.05, 0.15, 50)}
    drawn = []
    for name in ("0.001, tuned, and a long name", "0"):
        draw_precision_recall(curve, {name: {"precision": 0.9, "recall": 0.9}}, tmp_path / "curve.png")
        pixels = np.array(Image.open(tmp_path / "curve.png").convert("RGB"))
        drawn.append(int((pixels == (0x30, 0x63, 0x8E)).all(-1).sum()))
    assert drawn[0] == pytest.approx(drawn[1], rel=0.1)
    assert drawn[0] > 100
