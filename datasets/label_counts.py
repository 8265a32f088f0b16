"""What the labels of a data set hold: how often each value occurs, which means changed, and what could be misread."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.pairs import Pair
from datasets.raster import PLAIN, read_label_values
from datasets.reading import Reading
from datasets.threads import threaded

log = logging.getLogger(__name__)
LOOKED_AT = 8  # labels, to tell how all are coded before anything is predicted


class LabelCounts:
    """Counts the values of labels; those counted by an earlier run are not decoded again.

    A kept count serves a label of the same path, size and time of change, read in the same way. What is kept of it is
    one line, "SIZE TIME VALUE:PIXELS ...", the time in nanoseconds.
    """

    def __init__(self, reading: Reading = PLAIN, path: Path | None = None) -> None:
        """Take what an earlier run kept.

        Args:
            reading: how labels are read.
            path: the earlier run's `as_text`; without it, or where it cannot be understood, everything is counted.
        """
        self.reading = reading
        self._by_indices = reading.change_value is not None
        self._kept = _kept_lines(path, self._by_indices) if path else {}
        self._lines: dict[str, str] = {}

    def levels(self, label: Path) -> np.ndarray:
        """How often each value occurs in a label, int64 (256,); errors as `read_label_values`."""
        name, stat = str(label.resolve()), label.stat()
        stamp = f"{stat.st_size} {stat.st_mtime_ns}"
        levels = _levels_from(self._kept.get(name, ""), stamp)
        if levels is None:
            levels = np.bincount(read_label_values(label, self.reading).ravel(), minlength=256)
        present = np.flatnonzero(levels)
        self._lines[name] = " ".join([stamp, *(f"{value}:{levels[value]}" for value in present)])
        return levels

    def as_text(self) -> str:
        """Everything counted, as JSON for the next run."""
        return json.dumps({"by_indices": self._by_indices, "labels": self._lines}, indent=0, sort_keys=True) + "\n"


def _kept_lines(path: Path, by_indices: bool) -> dict[str, str]:
    """Lines by label, or nothing: a file that is missing, damaged or of another reading costs a count, no more."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lines = content["labels"] if content["by_indices"] == by_indices else {}
        return {name: str(line) for name, line in lines.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _levels_from(line: str, stamp: str) -> np.ndarray | None:
    levels = np.zeros(256, np.int64)
    try:
        if not line.startswith(f"{stamp} "):
            return None
        for value, count in (word.split(":") for word in line.removeprefix(stamp).split()):
            levels[int(value)] = int(count)
    except (ValueError, IndexError):
        return None
    return levels if levels.any() else None


def count_changed(pairs: Sequence[Pair], reading: Reading = PLAIN, counts: LabelCounts | None = None) -> list[int]:
    """Changed pixels of each pair, from the labels; logs the label values found and the changed share.

    Args:
        pairs: with labels.
        reading: how labels are read.
        counts: of the same reading; gives and takes what need not be counted again.

    Raises:
        ValueError: no label has a changed pixel, or values are coded in a way that could be read wrongly.
    """
    labels = [pair.label for pair in pairs if pair.label]
    changed, histogram = [], np.zeros(256, np.int64)
    for levels in threaded((counts or LabelCounts(reading)).levels, labels):
        changed.append(changed_pixels(levels, reading))
        histogram += levels
    most = sorted(np.flatnonzero(histogram).tolist(), key=lambda value: -histogram[value])[:6]
    shares = ", ".join(f"{value}: {histogram[value] / histogram.sum():.2%}" for value in most)
    where = f"{labels[0].parent}: {len(labels)} labels of values {shares}"
    problem = coding_problem(histogram, reading)
    if problem or not any(changed):
        problem = problem or "no changed pixel to be seen; changed must be coded 1 (beside 0) or at least 128"
        raise ValueError(f"{where}: {problem}")
    share = sum(changed) / known_levels(histogram, reading).sum()
    log.info("%s; %.2f %% of pixels changed, in %d pairs", where, 100 * share, np.count_nonzero(changed))
    return changed


def refuse_other_codes(pairs: Sequence[Pair], reading: Reading) -> None:
    """Look at a few labels, whether they can be coded as a checkpoint says; those without any change tell nothing.

    Raises:
        ValueError: they cannot.
    """
    labels, histogram = [pair.label for pair in pairs if pair.label], np.zeros(256, np.int64)
    for label in labels[:: -(-len(labels) // LOOKED_AT) or 1]:
        try:
            histogram += LabelCounts(reading).levels(label)
        except (ValueError, OSError):  # damaged, which is told when it is its turn, or too large to look at
            continue
    found = np.flatnonzero(histogram).tolist()
    if set(found) - {0, reading.ignore_value} and (problem := coding_problem(histogram, reading)):
        values = ", ".join(map(str, found[:6]))
        raise ValueError(
            f"{labels[0].parent}: labels of values {values}: {problem}, as the checkpoint has it; if these are coded "
            f"otherwise than what it was trained on, say --change-value and --ignore-value"
        )


def coding_problem(histogram: np.ndarray, reading: Reading) -> str:
    """What could be read wrongly in labels of these values, counts (256,); empty if nothing."""
    values = set(np.flatnonzero(histogram).tolist()) - {reading.ignore_value}
    if reading.change_value is not None:
        return "" if reading.change_value in values else f"no pixel has --change-value {reading.change_value}"
    if values and 1 < max(values) < 128:
        return "no changed pixel to be seen; say --change-value N, the value that means changed"
    if {1, 255} <= values <= {0, 1, 255}:
        return "1 and 255 cannot both mean changed; say --change-value 1 or 255, or --ignore-value 255 for unknown"
    return ""


def known_levels(levels: np.ndarray, reading: Reading) -> np.ndarray:
    """Counts of label values (256,) without the one that means unknown."""
    return levels if reading.ignore_value is None else np.where(np.arange(256) == reading.ignore_value, 0, levels)


def changed_pixels(levels: np.ndarray, reading: Reading) -> int:
    """Pixels that the label reader takes as changed, from counts of values (256,)."""
    values = np.flatnonzero(levels)
    return int(levels[values[reading.mask(values) == 1]].sum())
