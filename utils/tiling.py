"""Plans how windows cover an image; pure arithmetic, the pixels are read elsewhere."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

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
