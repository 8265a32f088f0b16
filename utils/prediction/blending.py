"""Blends the probabilities of windows to those of a scene, a few finished rows at a time."""

from collections.abc import Iterator, Sequence

import numpy as np

from datasets.windows import Window, starts

TILE = 512  # side of a window in scenes that are not seen whole
BATCH = 8  # windows at a time, if they are small
TTA = ("flips", "rotations", "swap")  # what test-time augmentation may vary
PRECISIONS = ("fp32", "bf16")  # of the arithmetic, the usual first
BACKENDS = ("torch", "compile", "onnxruntime", "openvino")  # what runs a network, the usual first


class Cover:
    """Equal windows over a whole scene, row by row, and weights with which they blend: over any pixel they sum to 1.

    The weights rise from a window's border as sin^2 over the overlap, so that no border shows; where one window covers
    the scene they are exactly 1.

    Attributes:
        tops: where the rows of windows begin; lefts: where the columns do.
        shape: (height, width) of every window; a side is shorter than a tile only where the scene is.
        windows: all of them, row by row.
    """

    def __init__(self, size: tuple[int, int], tile: tuple[int, int], overlap: int) -> None:
        """Plan it.

        Args:
            size: (height, width) of the scene.
            tile: the most that a window may hold on each side.
            overlap: pixels that neighbours share at least.
        """
        height, width = self.shape = min(size[0], tile[0]), min(size[1], tile[1])
        self.size = size
        self.tops, self.lefts = (
            starts(length, side, side - min(overlap, side - 1), "shift")
            for length, side in zip(size, self.shape, strict=True)
        )
        self.windows = [Window(top, left, height, width) for top in self.tops for left in self.lefts]
        self._rows = _blending(self.tops, height, overlap, size[0])
        self._columns = _blending(self.lefts, width, overlap, size[1])

    def weights(self, window: Window) -> np.ndarray:
        """Of one of the windows, float32 (height, width)."""
        row, column = self.tops.index(window.top), self.lefts.index(window.left)
        return self._rows[row][:, None] * self._columns[column]


def _blending(starts: Sequence[int], side: int, overlap: int, length: int) -> list[np.ndarray]:
    """Weights of windows along one side, each float32 (side,); wherever windows overlap, theirs sum to 1."""
    border = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5  # distance of a pixel's middle
    rising = np.sin(np.pi / 2 * np.minimum(border / overlap, 1)) ** 2 if overlap else np.ones(side)
    total = np.zeros(length)
    for start in starts:
        total[start : start + side] += rising
    return [(rising / total[start : start + side]).astype(np.float32) for start in starts]


class Blender:
    """Puts the probabilities of a cover's windows together and lets go of every row that is finished.

    It holds one row of windows: memory grows with the width of a scene, not with its height.

    Args:
        cover: the plan.
        first: number of the row of windows to begin with; rows of pixels that an earlier one shares are then not whole.
    """

    def __init__(self, cover: Cover, first: int = 0) -> None:
        self.cover = cover
        self._top = cover.tops[first]
        self._sums = np.zeros((cover.shape[0], cover.size[1]), np.float32)

    def add(self, window: Window, probability: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Take the next window, in the order of the plan; (h, w) float32 in [0, 1].

        Yields:
            after the last window of a row: the first row of pixels that is finished, and the finished rows (n, width).
        """
        cover = self.cover
        if len(cover.windows) == 1:
            yield 0, probability
            return
        self._sums[:, window.slices[1]] += cover.weights(window) * probability
        if window.left == cover.lefts[-1]:
            row = cover.tops.index(window.top)
            last = row + 1 == len(cover.tops)
            done = cover.shape[0] if last else cover.tops[row + 1] - window.top
            yield window.top, self._sums[:done].clip(0, 1)  # weights sum to 1 but for rounding
            self._sums = np.concatenate([self._sums[done:], np.zeros_like(self._sums[:done])])
