"""Plans how windows cover an image and how what they hold is blended, and says where on earth it lies.

The pixels are read elsewhere.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

TILE = 512  # side of a window in scenes that are not seen whole
SCAN = 2048  # side of a window where a scene is looked through
BATCH = 8  # windows at a time, if they are small
TTA = ("flips", "rotations", "swap")  # what test-time augmentation may vary
PRECISIONS = ("fp32", "bf16")  # of the arithmetic, the usual first
BACKENDS = ("torch", "compile", "onnxruntime", "openvino", "auto")  # what runs a network, the usual first
Edge = Literal["shift", "pad", "drop"]
EDGES: tuple[Edge, ...] = get_args(Edge)


@dataclass(frozen=True)
class Window:
    """A part of an image, in pixels from its top left corner."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns: indexes an array of (H, W) or (H, W, channels)."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def seen_from(self, outer: "Window") -> "Window":
        """The same window, counted from the top left corner of another."""
        return Window(self.top - outer.top, self.left - outer.left, self.height, self.width)


@dataclass(frozen=True)
class Grid:
    """Where on earth the pixels of an image lie.

    Attributes:
        size: (height, width) in pixels.
        crs: coordinate reference system, as WKT; "" where only the transform is known.
        transform: (a, b, c, d, e, f), so that x = a * column + b * row + c and y = d * column + e * row + f are the
            coordinates of a pixel's top left corner.
    """

    size: tuple[int, int]
    crs: str
    transform: tuple[float, ...]

    def place(self, column: Any, row: Any) -> tuple[Any, Any]:
        """Coordinates (x, y) of points in pixels, numbers or arrays."""
        a, b, c, d, e, f = self.transform
        return a * column + b * row + c, d * column + e * row + f

    def part(self, window: Window) -> "Grid":
        """The grid of a window."""
        a, b, _, d, e, _ = self.transform
        x, y = self.place(window.left, window.top)
        return Grid((window.height, window.width), self.crs, (a, b, x, d, e, y))


def plan_windows(height: int, width: int, tile: int, overlap: int = 0, edge: Edge = "shift") -> list[Window]:
    """Cover an image with square windows, row by row.

    Args:
        height: of the image, in pixels.
        width: of the image, in pixels.
        tile: side of a window.
        overlap: pixels that neighbours share.
        edge: what happens where the last window of a row or column would reach over the image. "shift" moves it back
            until it is full; "pad" ends it at the border, to be filled up later; "drop" leaves it out.

    Returns:
        Windows within the image, full ones but for "pad"; "drop" may give none.

    Raises:
        ValueError: an empty image, an overlap that is not in [0, tile), an unknown edge, or, for "shift", an image
            smaller than one tile.
    """
    if height < 1 or width < 1 or tile < 1:
        raise ValueError(f"an image of {height} x {width} pixels cannot be cut to tiles of {tile}")
    if not 0 <= overlap < tile:
        raise ValueError(f"an overlap of {overlap} does not go with tiles of {tile}; it must be at least 0 and smaller")
    if edge not in EDGES:
        raise ValueError(f"edge {edge!r}: not known; choose one of {', '.join(EDGES)}")
    if edge == "shift" and min(height, width) < tile:
        raise ValueError(f"{height} x {width} pixels hold no tile of {tile}; use --edge pad, or a smaller --tile-size")
    rows, columns = (_starts(length, tile, tile - overlap, edge) for length in (height, width))
    return [Window(t, s, min(tile, height - t), min(tile, width - s)) for t in rows for s in columns]


def scan(size: tuple[int, int]) -> list[Window]:
    """Windows in which a whole image, (height, width), is looked through with bounded memory."""
    return plan_windows(size[0], size[1], SCAN, edge="pad")


def _starts(length: int, tile: int, stride: int, edge: Edge) -> list[int]:
    """Where the windows begin along one side."""
    starts = list(range(0, length - tile + 1, stride))  # the full ones
    reached = starts[-1] + tile if starts else 0
    if reached < length and edge != "drop":
        starts.append(length - tile if edge == "shift" else len(starts) * stride)
    return starts


def bounding(windows: Sequence[Window]) -> Window:
    """The smallest window around all of these."""
    top, left = min(w.top for w in windows), min(w.left for w in windows)
    bottom, right = max(w.top + w.height for w in windows), max(w.left + w.width for w in windows)
    return Window(top, left, bottom - top, right - left)


def group_windows(windows: Iterable[Window], pixels: int) -> list[list[Window]]:
    """Group neighbours of one row that are worth reading at once, in order.

    Args:
        windows: as `plan_windows` gives them.
        pixels: the most that the bounding window of a group may hold; a larger window is a group of its own.
    """
    groups: list[list[Window]] = []
    for window in windows:
        first = groups[-1][0] if groups else None
        reach = window.left + window.width - first.left if first else 0
        if first and first.top == window.top and first.height * reach <= pixels:
            groups[-1].append(window)
        else:
            groups.append([window])
    return groups


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
            _starts(length, side, side - min(overlap, side - 1), "shift")
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
