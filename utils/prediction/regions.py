"""Finds the 4-connected regions of a change map that arrives in strips: drops small ones, counts the others."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

TALL = 8  # strips above each strip whose regions are drawn, at most: a higher number takes less memory and more time


@dataclass
class Strip:
    """Some rows of a scene's maps."""

    top: int  # the first row
    probability: np.ndarray  # float32 (n, W)
    changed: np.ndarray  # bool (n, W)
    known: np.ndarray | None = None  # bool (n, W), False where an image has no data; None: everywhere True


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
    """Counts the pixels of every region, averages their probability and draws them again."""

    def __init__(self) -> None:
        self._strips: list[np.ndarray] = []  # of each strip: pixels, sum of probability, index of the first pixel
        self._tops = [0]  # first rows of the strips, and of the next one
        self._links: list[np.ndarray] = [np.empty((0, 2), int)]  # numbers of regions that touch across strips
        self._count = 0
        self._above = np.empty(0, int)  # numbers of regions in the last row, -1 elsewhere

    def add(self, strip: Strip) -> None:
        """Count the next strip."""
        labels, count = label_regions(strip.changed)
        inside = np.flatnonzero(labels)
        region = labels.ravel()[inside] - 1
        sums = np.bincount(region, strip.probability.ravel()[inside], count)
        first = np.empty(count)
        first[region[::-1]] = inside[::-1] + strip.top * labels.shape[1]  # backwards, as the last assignment counts
        self._strips.append(np.stack([np.bincount(region, minlength=count), sums, first]))
        self._tops.append(strip.top + len(labels))
        numbers = np.where(labels[[0, -1]] > 0, labels[[0, -1]] + self._count - 1, -1)
        if len(self._above):
            touching = np.stack([self._above, numbers[0]], 1)
            self._links.append(np.unique(touching[(touching >= 0).all(1)], axis=0))
        self._above, self._count = numbers[1], self._count + count

    @cached_property
    def regions(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of each strip, its labels' regions; of each region, first pixel (ascending), last strip, pixels and mean."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        links = np.concatenate(self._links).T
        graph = coo_array((np.ones(links.shape[1]), links), (self._count, self._count))
        number, region = connected_components(graph, directed=False)
        counts = [part.shape[1] for part in self._strips]
        pixels, sums, first = np.concatenate([np.empty((3, 0)), *self._strips], 1)
        places = np.full(number, np.inf)
        np.minimum.at(places, region, first)
        first, region = np.unique(places[region], return_inverse=True)
        last = np.zeros(number, int)
        np.maximum.at(last, region, np.repeat(np.arange(len(counts)), counts))
        pixels = np.bincount(region, pixels, number)
        mean = np.bincount(region, sums, number) / pixels
        return np.split(region, np.cumsum(counts)[:-1]), first.astype(int), last, pixels, mean

    def at(self, row: int, column: int) -> tuple[int, float]:
        """Return number of pixels and mean probability of the region with this first pixel."""
        _, first, _, pixels, mean = self.regions
        number = np.searchsorted(first, row * len(self._above) + column)
        return int(pixels[number]), float(mean[number])

    def ending(self, changed: Callable[[int, int], np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
        """Draw the regions that end in each strip, whole and alone: first row, and uint8 (n, width) of 0 and 1.

        Where some are tall, they wait for those that end in the next strips, so that a strip is drawn TALL + 2 times
        on average, at most.

        `changed` returns the map from one row to another, bool (n, width).
        """
        tops, width, (regions, first, last, *_) = self._tops, len(self._above), self.regions
        begin, waiting, strips = np.searchsorted(tops, first // width, "right") - 1, 0, np.unique(last).tolist()
        for strip in strips:
            ends = (waiting <= last) & (last <= strip)
            start = begin[ends].min()
            if strip - start > TALL * (strip - waiting + 1) and strip < strips[-1]:
                continue
            waiting = strip + 1
            drawn = np.empty((tops[strip + 1] - tops[start], width), np.uint8)
            for number in range(start, strip + 1):
                labels, _ = label_regions(changed(tops[number], tops[number + 1]))
                drawn[tops[number] - tops[start] :][: len(labels)] = np.append(False, ends[regions[number]])[labels]
            yield tops[start], drawn
