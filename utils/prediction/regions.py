"""4-connected regions of a change map that comes in strips: drops the small ones, counts the others."""

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

    @property
    def end(self) -> int:
        """The row after the last."""
        return self.top + len(self.changed)


def label_regions(changed: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the regions of a map, bool (n, W), from 1 on, 0 being none, and count them."""
    from scipy import ndimage  # here, as most predictions need no regions

    labels, count = ndimage.label(changed)
    return labels, count


class AreaFilter:
    """Calls regions of fewer than `least` pixels unchanged.

    A strip is held back while a region that touches its lower border may still grow; such a region has fewer than
    `least` pixels so far, so no more than `least` rows above it wait.
    """

    def __init__(self, least: int) -> None:
        self.least = least
        self._held: list[Strip] = []
        self._above: np.ndarray | None = None  # last row let go of; all its regions are large enough

    def add(self, strip: Strip, last: bool) -> Iterator[Strip]:
        """Take the next strip; gives those that are decided, in order, and with the last one all of them."""
        if self.least <= 1:
            yield strip
            return
        self._held.append(strip)
        above = np.zeros_like(strip.changed[:1]) if self._above is None else self._above
        labels, count = label_regions(np.concatenate([above, *(held.changed for held in self._held)]))
        large = np.bincount(labels.ravel(), minlength=count + 1) >= self.least
        large[labels[0]] = True
        large[0] = False
        open_ones = np.zeros_like(large) if last else np.isin(np.arange(count + 1), labels[-1]) & ~large
        open_ones[0] = False
        undecided = open_ones[labels].any(1)
        first = int(undecided.argmax()) if undecided.any() else len(labels)  # row of `labels`, of which 0 is `above`
        row = 1
        while self._held and row + len(self._held[0].changed) <= first:
            ready = self._held.pop(0)
            ready.changed = large[labels[row : row + len(ready.changed)]]
            row += len(ready.changed)
            self._above = ready.changed[-1:]
            yield ready


class RegionTable:
    """Pixels and mean probability of every region, by its first pixel, the leftmost of its top row."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._pixels: list[int] = []
        self._sums: list[float] = []
        self._first: list[tuple[int, int]] = []
        self._above: np.ndarray | None = None  # numbers of regions in the last row, -1 where there is none

    def add(self, strip: Strip) -> None:
        """Count the next strip."""
        labels, count = label_regions(strip.changed)
        offset, width = len(self._parents), labels.shape[1]
        present, first = np.unique(labels, return_index=True)
        first = first[-count:] if count else first[:0]  # without that of 0; of n labels there are n or n + 1 values
        self._parents += range(offset, offset + count)
        self._pixels += np.bincount(labels.ravel(), minlength=count + 1)[1:].tolist()
        self._sums += np.bincount(labels.ravel(), strip.probability.ravel(), count + 1)[1:].tolist()
        self._first += [(strip.top + index // width, index % width) for index in first.tolist()]
        numbers = np.where(labels[[0, -1]] > 0, labels[[0, -1]] + offset - 1, -1)
        if self._above is not None:
            touching = (self._above >= 0) & (numbers[0] >= 0)
            for one, other in set(zip(self._above[touching].tolist(), numbers[0][touching].tolist(), strict=True)):
                self._join(self._root(one), self._root(other))
        self._above = numbers[1]

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def _join(self, one: int, other: int) -> None:
        if one != other:
            self._parents[other] = one
            self._pixels[one] += self._pixels[other]
            self._sums[one] += self._sums[other]
            self._first[one] = min(self._first[one], self._first[other])

    def regions(self) -> dict[tuple[int, int], tuple[int, float]]:
        """First pixel (row, column) to number of pixels and mean probability."""
        roots = (number for number, parent in enumerate(self._parents) if number == parent)
        return {self._first[n]: (self._pixels[n], self._sums[n] / self._pixels[n]) for n in roots}
