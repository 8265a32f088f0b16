"""Windows of an image, how they cover it, and its grid on earth."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from utils.console import UserError

SCAN = 2048  # side of the windows in which a whole scene is read
Edge = Literal["shift", "pad", "drop"]
EDGES: tuple[Edge, ...] = get_args(Edge)
Content = tuple[np.ndarray, np.ndarray | None]  # values (h, w, ...), and where they are data, bool (h, w); None: all


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

    def clipped(self, size: tuple[int, int]) -> "Window":
        """Return the part inside an image of (height, width); nothing is 0 pixels high or wide."""
        top, left = min(max(self.top, 0), size[0]), min(max(self.left, 0), size[1])
        bottom, right = min(self.top + self.height, size[0]), min(self.left + self.width, size[1])
        return Window(top, left, max(bottom - top, 0), max(right - left, 0))

    def seen_from(self, outer: "Window") -> "Window":
        """Return the same window, counted from the top left corner of another."""
        return Window(self.top - outer.top, self.left - outer.left, self.height, self.width)


def read_over(window: Window, size: tuple[int, int], read: Callable[[Window], Content]) -> Content:
    """Read a window that may reach over an image of (height, width); what lies outside is 0 and unknown."""
    part, shape = window.clipped(size), (window.height, window.width)
    if not (part.height and part.width):
        pixel, _ = read(Window(0, 0, 1, 1))  # for its type and bands
        return np.zeros((*shape, *pixel.shape[2:]), pixel.dtype), np.zeros(shape, bool)
    values, known = read(part)
    if part == window:
        return values, known
    before = part.top - window.top, part.left - window.left
    margins = [(before[0], window.height - part.height - before[0]), (before[1], window.width - part.width - before[1])]
    inside = np.ones(values.shape[:2], bool) if known is None else known
    return np.pad(values, [*margins, (0, 0)][: values.ndim]), np.pad(inside, margins)


@dataclass(frozen=True)
class Grid:
    """Where on earth the pixels of an image lie.

    x = a * column + b * row + c and y = d * column + e * row + f are the coordinates of a pixel's top left corner.
    """

    size: tuple[int, int]  # (height, width) in pixels
    crs: str  # coordinate reference system, as WKT; "" if only the transform is known
    transform: tuple[float, ...]  # (a, b, c, d, e, f)

    def place(self, column: Any, row: Any) -> tuple[Any, Any]:
        """Return the coordinates (x, y) of positions in pixels, numbers or arrays."""
        a, b, c, d, e, f = self.transform
        return a * column + b * row + c, d * column + e * row + f

    def part(self, window: Window) -> "Grid":
        """Return the grid of a window."""
        a, b, _, d, e, _ = self.transform
        x, y = self.place(window.left, window.top)
        return Grid((window.height, window.width), self.crs, (a, b, x, d, e, y))


def plan_windows(height: int, width: int, tile: int, overlap: int = 0, edge: Edge = "shift") -> list[Window]:
    """Cover an image with square windows of side `tile`, row by row; neighbours share `overlap` pixels.

    If the last window of a row or column would exceed the image, the edge "shift" moves it back until it is full, "pad"
    ends it at the border, and "drop" leaves it out.

    Raises:
        UserError: the image is empty, the overlap is not in [0, tile), the edge is unknown, or, for "shift", the image
            is smaller than one tile.
    """
    if height < 1 or width < 1 or tile < 1:
        raise UserError(f"an image of {height} x {width} pixels cannot be cut to tiles of {tile}")
    if not 0 <= overlap < tile:
        raise UserError(f"an overlap of {overlap} does not go with tiles of {tile}; it must be at least 0 and smaller")
    if edge not in EDGES:
        raise UserError(f"edge {edge!r}: not known; choose one of {', '.join(EDGES)}")
    if edge == "shift" and min(height, width) < tile:
        raise UserError(f"{height} x {width} pixels hold no tile of {tile}; use --edge pad, or a smaller --tile-size")
    rows, columns = (starts(length, tile, tile - overlap, edge) for length in (height, width))
    return [Window(t, s, min(tile, height - t), min(tile, width - s)) for t in rows for s in columns]


def scan(size: tuple[int, int]) -> list[Window]:
    """Cover an image of (height, width) with windows, for reading all of it with bounded memory."""
    return plan_windows(*size, SCAN, edge="pad")


def starts(length: int, tile: int, stride: int, edge: Edge) -> list[int]:
    """Return where the windows begin along one side."""
    found = list(range(0, length - tile + 1, stride))  # the full ones
    reached = found[-1] + tile if found else 0
    if reached < length and edge != "drop":
        found.append(length - tile if edge == "shift" else len(found) * stride)
    return found


def nine_places(size: tuple[int, int], side: int = 64) -> list[Window]:
    """Return windows at the corners, the edges and in the middle of an image; the whole of a small one."""
    rows, columns = (
        [(0, length)] if length <= 3 * side else [(round(at * (length - side)), side) for at in (0, 0.5, 1)]
        for length in size
    )
    return [Window(top, left, h, w) for top, h in rows for left, w in columns]


def bounding(windows: Sequence[Window]) -> Window:
    """Return the smallest window around all of these."""
    top, left = min(w.top for w in windows), min(w.left for w in windows)
    bottom, right = max(w.top + w.height for w in windows), max(w.left + w.width for w in windows)
    return Window(top, left, bottom - top, right - left)


def group_windows(windows: Iterable[Window], pixels: int) -> list[list[Window]]:
    """Group neighbours of one row, in order, so that a group's bounding window has at most so many pixels.

    A larger window is a group of its own.
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
