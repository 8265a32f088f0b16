"""Blends the probabilities of windows into those of a scene, a few finished rows at a time."""

from collections.abc import Iterator, Sequence

import numpy as np

from datasets.windows import Window, starts
from utils.prediction.resampling import resized

TILE = 512  # side of a window in scenes that are not predicted whole
BATCH = 8  # windows in a batch, if they are small
TTA = ("flips", "rotations", "swap", "scales")  # of test-time augmentation


class Cover:
    """Equal windows over a scene, row by row, and their weights, whose sum is 1 at every pixel.

    Weights rise from a window's border as sin^2 over the overlap, so that no border shows. Those of a single window
    are 1.

    Attributes:
        size: (height, width) of the scene.
        tops, lefts: first rows of the rows of windows, and first columns of their columns.
        shape: (height, width) of every window: `tile`, or the scene's where that is smaller.
        windows: all of them, row by row; neighbours share at least `overlap` pixels.
        zoom: network pixels per scene pixel.
        seen: (height, width) of a window as the network sees it.
    """

    def __init__(self, size: tuple[int, int], tile: tuple[int, int], overlap: int, zoom: float = 1.0) -> None:
        height, width = self.shape = min(size[0], tile[0]), min(size[1], tile[1])
        self.size, self.zoom = size, zoom
        self.seen = max(1, round(height * zoom)), max(1, round(width * zoom))
        self.tops, self.lefts = (
            starts(length, side, side - min(overlap, side - 1), "shift")
            for length, side in zip(size, self.shape, strict=True)
        )
        self.windows = [Window(top, left, height, width) for top in self.tops for left in self.lefts]
        self._rows = _blending(self.tops, height, overlap, size[0])
        self._columns = _blending(self.lefts, width, overlap, size[1])

    def to_network(self, dates: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Resample both dates of a window, uint8 (h, w, channels), to what the network sees."""
        return resized(dates[0], self.seen), resized(dates[1], self.seen)

    def from_network(self, probability: np.ndarray) -> np.ndarray:
        """Cut the padding of a window's probabilities, float32 (H, W), and resample them to its pixels."""
        return resized(probability[: self.seen[0], : self.seen[1]], self.shape)

    def weights(self, window: Window) -> np.ndarray:
        """Return the weights of a window, float32 (height, width)."""
        row, column = self.tops.index(window.top), self.lefts.index(window.left)
        return self._rows[row][:, None] * self._columns[column]


def _blending(starts: Sequence[int], side: int, overlap: int, length: int) -> list[np.ndarray]:
    """Weights of windows along one side, each float32 (side,)."""
    border = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5  # distance of a pixel's middle
    rising = np.sin(np.pi / 2 * np.minimum(border / overlap, 1)) ** 2 if overlap else np.ones(side)
    total = np.zeros(length)
    for start in starts:
        total[start : start + side] += rising
    return [(rising / total[start : start + side]).astype(np.float32) for start in starts]


class Blender:
    """Adds up the weighted probabilities of a cover's windows and returns finished rows.

    It holds one row of windows, so memory grows with a scene's width, not with its height. It may start at any row of
    windows; pixels that an earlier row shares are then not complete.
    """

    def __init__(self, cover: Cover) -> None:
        self.cover = cover
        self._sums = np.zeros((cover.shape[0], cover.size[1]), np.float32)

    def add(self, window: Window, probability: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Add the next window, in the cover's order; (h, w) float32 in [0, 1].

        Yields:
            after the last window of a row: the first finished row of pixels, and the finished rows (n, width).
        """
        cover = self.cover
        self._sums[:, window.slices[1]] += cover.weights(window) * probability
        if window.left == cover.lefts[-1]:
            row = cover.tops.index(window.top)
            last = row + 1 == len(cover.tops)
            done = cover.shape[0] if last else cover.tops[row + 1] - window.top
            yield window.top, self._sums[:done].clip(0, 1)  # the sum of weights is 1 only to rounding
            self._sums = np.concatenate([self._sums[done:], np.zeros_like(self._sums[:done])])
