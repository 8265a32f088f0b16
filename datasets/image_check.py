"""Looks at both dates of a pair as they are read: are they two images, and like those a network was trained on?"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Any

import numpy as np

from datasets.open_pair import OpenPair
from datasets.pairs import Pair, later_first
from datasets.reading import PixelFormat
from datasets.threads import readable, threaded
from datasets.windows import scan
from utils.console import quantity

STUDIED = 50  # pairs of a training split, evenly spaced, that are looked at before a run
STEP = 4  # every such row and column is measured
# levels beyond the range of training images that are still ordinary; COLOUR is that of each band
MARGINS, COLOUR = {"brightness": 30, "contrast": 10}, 10
# a label with soft edges, or as JPEG: pixels further than EDGE levels from two values, APART or more, are fewer than
# SOFT times those near either; in 812 bands of real images they are at least 5.9 times as many
EDGE, APART, SOFT = 16, 128, 2
SHARES = (1, 99)  # percent of the images at both ends of a range
NO_DATA = "no pixel has data in both dates; check that they show one place"
Ranges = dict[str, list[float]]  # by measure, the range of most training images in levels of 0..255
DRAWN: Ranges = {  # of 1000 images of draw_scene
    "brightness": [54, 166], "contrast": [16, 72],
    "band 1 less brightness": [-3, 25], "band 2 less brightness": [-2, 18], "band 3 less brightness": [-33, -1],
}  # fmt: skip


class ImageCheck:
    """Finds dates that are identical, that have two grey values as a label has, or that look unlike training images.

    Several threads may use it. `seen` are the ranges of the training images; without them, none is unlike these.
    """

    def __init__(self, seen: Ranges | None = None) -> None:
        self._equal = self._different = False
        # by date: pixels of each grey level; None: it has colours
        self._levels: dict[str, Any] = {role: np.zeros(256, np.int64) for role in ("before", "after")}
        # by date (3, channels): number of known pixels, their sum, and that of their squares
        self._sums: dict[str, Any] = {"before": 0, "after": 0}
        self._seen, self._lock = seen or {}, Lock()

    def see(self, dates: tuple[np.ndarray, np.ndarray]) -> None:
        """Look at both dates of a window, uint8 (h, w, channels); pixels that are 0 in all channels are unknown."""
        if not self._different:
            self._different = not np.array_equal(*dates)
            self._equal |= bool(dates[0].min() < dates[0].max())  # the border of a mosaic is constant
        for role, image in zip(self._levels, dates, strict=True):
            grey, levels = image[..., :1], None
            if self._levels[role] is not None and (image == grey).all():
                levels = np.bincount(grey.ravel(), minlength=256)
            some = image[::STEP, ::STEP].reshape(-1, image.shape[-1]).astype(np.int64)
            some = some[some.any(1)]
            sums = np.stack([np.full(some.shape[1], len(some)), some.sum(0), (some**2).sum(0)])
            with self._lock:
                self._sums[role] = self._sums[role] + sums
                so_far = self._levels[role]
                self._levels[role] = None if levels is None or so_far is None else so_far + levels

    def looks(self) -> dict[str, dict[str, float]]:
        """Return the measures of each date that has known pixels, in levels of 0..255."""
        found = {}
        for role, sums in self._sums.items():
            if np.any(sums):
                mean, square = sums[1:] / sums[0]
                brightness, contrast = float(mean.mean()), float(np.sqrt((square - mean**2).clip(0)).mean())
                bands = {f"band {n} less brightness": each - brightness for n, each in enumerate(mean.tolist(), 1)}
                found[role] = {"brightness": brightness, "contrast": contrast, **bands}
        return found

    def labels(self) -> list[tuple[str, str]]:
        """Return the dates that look like a label, and what they have in common with one."""
        found = {role: _two_values(levels) for role, levels in self._levels.items() if levels is not None}
        return [(role, what) for role, what in found.items() if what]

    def remarks(self) -> list[str]:
        """Return what is wrong, as text that is alike up to its colon for all pairs; empty for two ordinary images."""
        said = []
        if self._equal and not self._different:
            said.append("both dates are the same image, so nothing can change; check the files")
        said += [f"the {role} image has {what}, as a label has; check the files" for role, what in self.labels()]
        odd = [f"{role} has {what}" for role, looks in self.looks().items() if (what := _unlike(looks, self._seen))]
        if odd and not said:
            what = "unlike the images that the network was trained on, so the map may be wrong"
            said.append(f"{what}: {'; '.join(odd)}; in levels of 0 to 255")
        return said


def _two_values(levels: np.ndarray) -> str:
    """Return which two values a grey image has, from its pixels by level; empty if there are more."""
    found = np.flatnonzero(levels)
    low, high = (found[0], found[-1]) if found.size else (0, 0)
    if found.size == 2:
        return f"only the values {low} and {high}"
    ends = levels[: low + EDGE + 1].sum(), levels[high - EDGE :].sum()
    if high - low >= APART and levels.sum() - sum(ends) < SOFT * min(ends):
        return f"mostly grey values near {low} and {high}"
    return ""


def _unlike(looks: Mapping[str, float], seen: Ranges) -> str:
    """Return the measures that lie far outside their range, with both; empty if there are none."""
    odd = []
    for name, value in looks.items():
        (low, high), margin = seen.get(name, (value, value)), MARGINS.get(name, COLOUR)
        if not low - margin <= value <= high + margin:
            odd.append(f"{name} {value:.0f} (training {low:.0f} to {high:.0f})")
    return ", ".join(odd)


def study(pairs: Sequence[Pair], reading: PixelFormat, known: Ranges) -> tuple[list[str], Ranges]:
    """Look at all names and at some pairs of a training split; files that cannot be read are left to their reader.

    Returns:
        Lines about dates that seem swapped or are no two images; and the ranges of most images, widened by `known`.
    """
    some = pairs[:: -(-len(pairs) // STUDIED)]
    checks = zip(some, threaded(readable(partial(_look_at, reading=reading), True), some), strict=True)
    found = {pair.name: check for pair, check in checks if check}
    remarks = [(name, remark) for name, check in found.items() for remark in check.remarks()]
    looks = [each for check in found.values() if not check.remarks() for each in check.looks().values()]
    ranges = dict(known)
    for measure in looks[0] if looks else ():
        both = [*np.percentile([each[measure] for each in looks], SHARES).tolist(), *known.get(measure, [])]
        ranges[measure] = [min(both), max(both)]
    swapped = [(pair.name, remark) for pair in pairs if (remark := later_first(pair))]
    return grouped(swapped + remarks), ranges


def _look_at(pair: Pair, reading: PixelFormat) -> ImageCheck:
    check = ImageCheck()
    with OpenPair(pair, reading) as opened:
        for window in scan(opened.size):
            check.see(opened.read(window))
    return check


def seen_by(about: Mapping[str, Any]) -> Ranges:
    """Return the ranges that a checkpoint holds; of an older one none, but the detector's are known."""
    return about.get("seen") or (DRAWN if about.get("recipe") == "detector" else {})


def grouped(remarks: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each kind of remark on pairs: the first pair's name and text, and how many more there are."""
    kinds: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, remark in remarks:
        kinds[remark.partition(": ")[0]].append((name, remark))
    return [
        name + f" and {quantity(len(others), 'more pair')}" * bool(others) + f": {remark}"
        for (name, remark), *others in kinds.values()
    ]
