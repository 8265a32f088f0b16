"""Counts the codes in labels, and keeps the counts from run to run."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.open_pair import OpenPair
from datasets.pairs import Pair
from datasets.raster import WindowedImage
from datasets.reading import PLAIN, PixelFormat, code_of, luminance
from datasets.threads import readable, threaded
from datasets.windows import scan
from utils.console import UserError

log = logging.getLogger(__name__)
FORMAT = 3  # of the kept counts
MOST_CODES = 512  # a file of more values is an image, not a label


@dataclass(frozen=True)
class LabelFacts:
    """Codes of one label."""

    known: Counter[int]  # pixels by code, where the label holds data
    counted: Counter[int]  # pixels by code, where both dates hold data too
    nodata: float | None = None  # the file's nodata value, if any pixel has it
    hidden: bool = False  # the file marks pixels as unknown: by nodata value, mask or transparency
    palette: bool = False  # its codes are colours of a palette


def label_facts(opened: OpenPair, reading: PixelFormat) -> LabelFacts:
    """Count the codes of an open pair's label; one that is an image is a UserError."""
    assert opened.label is not None
    parts = ((*opened.codes(window), opened.known(window)) for window in scan(opened.size))
    return _facts(opened.label, parts, reading)


def facts_alone(path: Path, reading: PixelFormat) -> LabelFacts:
    """Count the codes of a label without its dates; errors as `label_facts`."""
    with WindowedImage(path, reading, label=True) as label:
        return _facts(label, ((*label.content(window), None) for window in scan(label.size)), reading)


def _facts(label: WindowedImage, parts: Iterable[tuple[Any, Any, Any]], reading: PixelFormat) -> LabelFacts:
    """Count codes from parts: codes (h, w), where the label and where the dates hold data, None: everywhere."""
    known, counted, hidden = Counter[int](), Counter[int](), False
    for codes, in_label, in_dates in parts:
        if reading.change_from is not None:
            codes = luminance(codes)
        found = _count(codes, in_label)
        known.update(found)
        both = in_dates if in_label is None or in_dates is None else in_dates & in_label
        counted.update(found if in_dates is None else _count(codes, both))
        hidden |= in_label is not None and not in_label.all()
        if len(known) > MOST_CODES:
            raise UserError(
                f"{label.path}: more than {MOST_CODES} different values, so it is an image and no label; for grey "
                f"levels pass --change-from 128"
            )
    nodata = label.nodata if hidden else None
    return LabelFacts(known, counted, nodata, hidden, label.palette and not reading.by_index)


def _count(codes: np.ndarray, where: np.ndarray | None) -> dict[int, int]:
    some = codes.ravel() if where is None else codes[where]
    if some.dtype == np.uint8:
        levels = np.bincount(some, minlength=256)
        return {int(code): int(levels[code]) for code in np.flatnonzero(levels)}
    values, counts = np.unique(some, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


class LabelCounts:
    """Counts the codes of labels; those counted by an earlier run are not decoded again.

    Kept counts, at `path`, are an earlier run's `as_text`. They serve a pair whose files have the same paths, sizes and
    times of change, read in the same way. If they are damaged, all labels are counted.
    """

    def __init__(self, reading: PixelFormat = PLAIN, path: Path | None = None) -> None:
        self.reading = reading
        self._how = json.dumps([FORMAT, reading.by_index, reading.change_from is not None, list(reading.bands)])
        self._kept: dict[str, Any] = {}
        self._lines: dict[str, Any] = {}
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8")) if path else {"how": ""}
            if content["how"] == self._how:
                self._kept = dict(content["labels"])
        except (OSError, ValueError, LookupError, TypeError):
            pass

    def facts(self, pair: Pair) -> LabelFacts:
        """Return the codes of a pair's label; if the dates cannot be read, all their pixels count as data."""
        assert pair.label is not None
        name, stamp = str(pair.label.resolve()), pair.stamp
        facts = _facts_from(self._lines.get(name) or self._kept.get(name), stamp)
        if facts is None:
            try:
                with OpenPair(pair, self.reading) as opened:
                    facts = label_facts(opened, self.reading)
            except UserError:  # perhaps of the dates, which their reader reports
                facts = facts_alone(pair.label, self.reading)
        counted = None if facts.counted == facts.known else _as_text(facts.counted)
        self._lines[name] = [stamp, _as_text(facts.known), counted, facts.nodata, facts.hidden, facts.palette]
        return facts

    def as_text(self) -> str:
        """Return all counts as JSON for the next run."""
        return json.dumps({"how": self._how, "labels": self._lines}, indent=0, sort_keys=True) + "\n"


def _as_text(counts: Mapping[int, int]) -> str:
    return " ".join(f"{code}:{pixels}" for code, pixels in sorted(counts.items()))


def _facts_from(line: Any, stamp: str) -> LabelFacts | None:
    """Return kept facts; None if they are of other files, or damaged."""
    try:
        known, counted = (
            Counter({int(code): int(pixels) for code, pixels in (word.split(":") for word in text.split())})
            for text in (line[1], line[1] if line[2] is None else line[2])
        )
        fits = line[0] == stamp and (known or line[4])
        return LabelFacts(known, counted, line[3], bool(line[4]), bool(line[5])) if fits else None
    except (TypeError, ValueError, LookupError, AttributeError):
        return None


def collect(pairs: Sequence[Pair], counts: LabelCounts, skip_unreadable: bool = False) -> dict[Path, LabelFacts]:
    """Return the codes of all labels of some pairs; with `skip_unreadable` without those that cannot be read."""
    labelled = [pair for pair in pairs if pair.label]
    found = zip(labelled, threaded(readable(counts.facts, skip_unreadable), labelled), strict=True)
    return {pair.label: facts for pair, facts in found if pair.label and facts}


def known_codes(codes: Mapping[int, int], reading: PixelFormat) -> dict[int, int]:
    """Return pixels by code, without the code that means unknown."""
    ignored = None if reading.ignore_value is None else code_of(reading.ignore_value)
    return {code: pixels for code, pixels in codes.items() if code != ignored}


def changed_pixels(codes: Mapping[int, int], reading: PixelFormat) -> int:
    """Return how many pixels a decided format takes as changed, from pixels by code."""
    return sum(pixels for code, pixels in known_codes(codes, reading).items() if means_changed(code, reading))


def means_changed(code: int, reading: PixelFormat) -> bool:
    """Return True if a decided format takes a code as changed."""
    if reading.change_from is not None:
        return code >= reading.change_from
    assert reading.change_value is not None
    return code == code_of(reading.change_value)


def total_codes(facts: Iterable[LabelFacts], reading: PixelFormat) -> dict[int, int]:
    """Return the known pixels of all labels by code, without the code that means unknown."""
    total = Counter[int]()
    for each in facts:
        total.update(each.known)
    return known_codes(total, reading)
