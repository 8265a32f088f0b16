"""Finds the 4-connected regions of a change map that arrives in strips: drops small ones, counts the others."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass
class Strip:
    """Rows of one scene's maps, from `top` on.

    Attributes:
        top: the first row.
        probability: float32 (n, W).
        changed: bool (n, W).
        known: bool (n, W), False where an image has no data; None: everywhere True.
    """

    top: int
    probability: np.ndarray
    changed: np.ndarray
    known: np.ndarray | None = None


def label_regions(changed: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the regions of a map, bool (n, W), from 1 on, with 0 elsewhere, and count them."""
    from scipy import ndimage  # slow to import, and seldom needed

    labels, count = ndimage.label(changed)
    return labels, count


class AreaFilter:
    """Makes regions of fewer than `least` pixels unchanged.

    A strip waits while a region that touches its lower border may still grow. Such a region has fewer than `least`
    pixels so far, so at most `least` rows above it wait.
    """

    def __init__(self, least: int) -> None:
        self.least = least
        self._held: list[Strip] = []
        self._above: np.ndarray | None = None  # last row returned; all its regions are large enough

    def add(self, strip: Strip, last: bool) -> Iterator[Strip]:
        """Take the next strip; return the strips that are final, in order, and with the last one all of them."""
        if self.least <= 1:
            yield strip
            return
        self._held.append(strip)
        above = np.zeros_like(strip.changed[:1]) if self._above is None else self._above
        labels, count = label_regions(np.concatenate([above, *(held.changed for held in self._held)]))
        large = np.bincount(labels.ravel(), minlength=count + 1) >= self.least
        large[labels[0]] = True
        large[0] = False
        growing = np.zeros_like(large)
        if not last:
            growing[labels[-1]] = ~large[labels[-1]]
            growing[0] = False
        undecided = growing[labels].any(1)
        first = int(undecided.argmax()) if undecided.any() else len(labels)  # row of `labels`, of which 0 is `above`
        row = 1
        while self._held and row + len(self._held[0].changed) <= first:
            ready = self._held.pop(0)
            ready.changed = large[labels[row : row + len(ready.changed)]]
            row += len(ready.changed)
            self._above = ready.changed[-1:]
            yield ready


class RegionTable:
    """Counts the pixels of every region and averages their probability."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []  # of each strip: pixels, sum of probability, index of the first pixel
        self._links: list[np.ndarray] = [np.empty((0, 2), int)]  # numbers of regions that touch across strips
        self._count = 0
        self._above = np.empty(0, int)  # numbers of regions in the last row, -1 elsewhere

    def add(self, strip: Strip) -> None:
        """Count the next strip."""
        labels, count = label_regions(strip.changed)
        pixels = np.bincount(labels.ravel(), minlength=count + 1)
        sums = np.bincount(labels.ravel(), strip.probability.ravel(), count + 1)
        present, first = np.unique(labels, return_index=True)
        self._parts.append(np.stack([pixels[1:], sums[1:], strip.top * labels.shape[1] + first[present > 0]]))
        numbers = np.where(labels[[0, -1]] > 0, labels[[0, -1]] + self._count - 1, -1)
        if len(self._above):
            touching = np.stack([self._above, numbers[0]], 1)
            self._links.append(np.unique(touching[(touching >= 0).all(1)], axis=0))
        self._above, self._count = numbers[1], self._count + count

    def regions(self) -> dict[tuple[int, int], tuple[int, float]]:
        """Return (row, column) of each region's first pixel, in raster order -> number of pixels, mean probability."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if not self._count:
            return {}
        links = np.concatenate(self._links).T
        graph = coo_array((np.ones(links.shape[1]), links), (self._count, self._count))
        number, region = connected_components(graph, directed=False)
        pixels, sums, first = np.concatenate(self._parts, 1)
        places = np.full(number, np.inf)
        np.minimum.at(places, region, first)
        totals = zip(places.tolist(), *(np.bincount(region, part).tolist() for part in (pixels, sums)), strict=True)
        return {divmod(int(place), len(self._above)): (int(size), total / size) for place, size, total in totals}
