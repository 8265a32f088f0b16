"""What is measured on the files of a data set before a run starts: changed pixels, levels, and how to read them."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from datasets.catalog import Statistics
from datasets.pairs import Pair
from datasets.raster import PLAIN, pixel_kind, read_image, read_label_values
from datasets.reading import Reading

log = logging.getLogger(__name__)
Result = TypeVar("Result")
TAILS = (0.02, 0.98)  # shares of all values below and up to the limits that `percentile` sets
DEEP = {"uint8": 0, "uint16": 0, "int16": 2**15}  # types whose values can be counted one by one, and their offset


def choose_reading(
    pairs: Sequence[Pair],
    bands: Sequence[int] = (),
    scale: str = "auto",
    change_value: int | None = None,
    ignore_value: int | None = None,
    skip_unreadable: bool = False,
) -> Reading:
    """Settle how a data set is read, and log it where it is more than 8-bit grey or RGB.

    Args:
        pairs: what limits are measured on.
        bands: bands to read, counted from 1; none: RGB, or one grey band as three channels.
        scale: "auto" leaves 8-bit values as they are and takes "percentile" for deeper ones; "percentile" stretches
            each band between the 2nd and the 98th percentile of all pixels of both dates; a number is the value that
            becomes 255, such as 10000 for reflectances.
        change_value: see `Reading`.
        ignore_value: see `Reading`.
        skip_unreadable: whether images that cannot be read are left to be found later.

    Raises:
        ValueError: an image cannot be read, bands have to be chosen, or their type wants a number as scale.
    """
    labels = Reading(change_value=change_value, ignore_value=ignore_value)
    path, (count, kind) = _first_kind(pairs, skip_unreadable)
    if not bands and scale == "auto" and (count, kind) == (3, "uint8"):
        return labels
    if not bands and count not in (1, 3, 4):
        raise ValueError(f"{path}: {count} bands; choose some with --bands, such as --bands 3,2,1")
    chosen = tuple(bands) or ((1, 2, 3) if count > 1 else (1, 1, 1))
    reading = Reading(chosen, (), change_value, ignore_value)
    if scale == "percentile" or (scale == "auto" and kind != "uint8"):
        limits = measure_limits(pairs, reading, skip_unreadable)
    else:
        limits = ((0.0, 255.0 if scale == "auto" else float(scale)),) * len(chosen)
    listed = ", ".join(f"{band}: {low:g} to {high:g}" for band, (low, high) in zip(chosen, limits, strict=True))
    log.info("images of %d bands, %s; read as 0 to 255 from band %s", count, kind, listed)
    return Reading(chosen, limits, change_value, ignore_value)


def _first_kind(pairs: Sequence[Pair], skip_unreadable: bool) -> tuple[Path, tuple[int, str]]:
    """The first image, of those that can be read, and its bands and type; of none, 8-bit RGB."""
    for pair in pairs:
        try:
            return pair.before, pixel_kind(pair.before)
        except (ValueError, OSError):
            if not skip_unreadable:
                raise
    return Path(), (3, "uint8")


def measure_limits(
    pairs: Sequence[Pair], reading: Reading, skip_unreadable: bool = False
) -> tuple[tuple[float, float], ...]:
    """The 2nd and 98th percentile of each band over all pixels of both dates.

    Raises:
        ValueError: an image cannot be read, or its values are not integers of at most 16 bits.
    """
    counts, offset = np.zeros((len(reading.bands), 2**16), np.int64), 0

    def values_of(path: Path) -> tuple[Path, np.ndarray | None]:
        try:
            return path, read_image(path, Reading(reading.bands))
        except (ValueError, OSError):
            if not skip_unreadable:
                raise
            return path, None

    for path, values in threaded(values_of, (p for pair in pairs for p in (pair.before, pair.after))):
        if values is None:
            continue
        if str(values.dtype) not in DEEP:
            raise ValueError(f"{path}: values are {values.dtype}; say --scale NUMBER, the value that becomes white")
        offset = DEEP[str(values.dtype)]
        for band, row in enumerate(counts):
            row += np.bincount(values[..., band].ravel().astype(np.int64) + offset, minlength=2**16)
    shares = counts.cumsum(1) / counts.sum(1, keepdims=True).clip(min=1)
    limits = [[int(np.searchsorted(row, tail)) - offset for tail in TAILS] for row in shares]
    return tuple((float(low), float(max(high, low + 1))) for low, high in limits)


def count_changed(pairs: Sequence[Pair], reading: Reading = PLAIN) -> list[int]:
    """Changed pixels of each pair, from the labels; logs the label values found and the changed share.

    Raises:
        ValueError: no label has a changed pixel, or values are coded in a way that could be read wrongly.
    """
    labels = [pair.label for pair in pairs if pair.label]
    changed, histogram = [], np.zeros(256, np.int64)
    for count, values in threaded(partial(_label_counts, reading=reading), labels):
        changed.append(count)
        histogram += values
    most = sorted(np.flatnonzero(histogram).tolist(), key=lambda value: -histogram[value])[:6]
    shares = ", ".join(f"{value}: {histogram[value] / histogram.sum():.2%}" for value in most)
    where = f"{labels[0].parent}: {len(labels)} labels of values {shares}"
    problem = coding_problem(histogram, reading)
    if problem or not any(changed):
        problem = problem or "no changed pixel to be seen; changed must be coded 1 (beside 0) or at least 128"
        raise ValueError(f"{where}: {problem}")
    known = histogram.sum() - (0 if reading.ignore_value is None else histogram[reading.ignore_value])
    with_change = np.count_nonzero(changed)
    log.info("%s; %.2f %% of pixels changed, in %d pairs", where, 100 * sum(changed) / known, with_change)
    return changed


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


def _label_counts(label: Path, reading: Reading) -> tuple[int, np.ndarray]:
    """Changed pixels, and how often each of the 256 label values occurs."""
    values = read_label_values(label, reading)
    return int((reading.mask(values) == 1).sum()), np.bincount(values.ravel(), minlength=256)


def measure_statistics(pairs: Sequence[Pair], reading: Reading = PLAIN) -> Statistics:
    """Mean and standard deviation a date and channel over all pixels, in [0, 1]."""
    histograms = np.zeros((2, reading.channels, 256), np.int64)
    for counts in threaded(partial(_channel_histograms, reading=reading), pairs):
        histograms += counts
    return histogram_statistics(histograms)


def histogram_statistics(histograms: np.ndarray) -> Statistics:
    """Mean and standard deviation of counted levels: int64 (2, channels, 256), date by channel by level."""
    levels = np.arange(256) / 255
    total = histograms.sum(-1)
    mean = (histograms * levels).sum(-1) / total
    variance = (histograms * levels**2).sum(-1) / total - mean**2
    return {"mean": mean.tolist(), "std": np.sqrt(variance.clip(min=1e-12)).tolist()}


def _channel_histograms(pair: Pair, reading: Reading) -> np.ndarray:
    """Exact whatever the order of summing: int64 (2, channels, 256)."""
    images = (read_image(path, reading) for path in (pair.before, pair.after))
    return np.stack([level_counts(image) for image in images])


def level_counts(image: np.ndarray) -> np.ndarray:
    """How often each level occurs in each channel: uint8 (H, W, channels) -> int64 (channels, 256)."""
    channels = image.reshape(-1, image.shape[-1]).T
    return np.array([np.bincount(channel, minlength=256) for channel in channels], np.int64)


def threaded(function: Callable[..., Result], items: Iterable[object]) -> Iterator[Result]:
    """Results in order, each let go once it is consumed."""
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter lock, so threads are enough
        yield from pool.map(function, items)
