"""Measures the images of a data set before a run starts: pixel type, value range, mean and standard deviation."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets.catalog import Statistics
from datasets.open_pair import OpenPair
from datasets.pairs import Pair
from datasets.raster import pixel_kind
from datasets.reading import COUNTED, PLAIN, PixelFormat, scale_advice
from datasets.threads import readable, threaded
from datasets.windows import scan
from utils.console import UserError

log = logging.getLogger(__name__)
TAILS = (0.02, 0.98)  # shares of all values at or below the two limits of `percentile`
LOWEST = -(2**15)  # of the values that are counted one by one


def choose_reading(
    pairs: Sequence[Pair],
    bands: Sequence[int] = (),
    scale: str = "auto",
    labels: PixelFormat = PLAIN,
    lenient: bool = False,
) -> PixelFormat:
    """Choose how the images of a data set are read, and log it if they are not 8-bit grey or RGB.

    Args:
        pairs: all are opened for their type; limits are measured on them.
        bands: bands to read, counted from 1; none: RGB, or one grey band as three channels.
        scale: "percentile" maps the 2nd to 98th percentile of each band, over all pixels of both dates that count, to
            0..255; a number becomes 255; "auto" keeps 8-bit values and takes "percentile" for deeper ones.
        labels: how labels are read.
        lenient: leave out files that cannot be read, or have another type than most.

    Raises:
        UserError: an image cannot be read, files differ in type, or `bands` is needed, or a number as `scale`.
    """
    path, (count, kind), odd = _common_kind(pairs, lenient)
    if not bands and scale == "auto" and (count, kind) == (3, "uint8"):
        return labels
    if not bands and count not in (1, 3, 4):
        raise UserError(f"{path}: {count} bands; choose some with --bands, such as --bands 3,2,1")
    chosen = tuple(bands) or ((1, 2, 3) if count > 1 else (1, 1, 1))
    reading = replace(labels, bands=chosen)
    if scale == "percentile" or (scale == "auto" and kind != "uint8"):
        if kind not in COUNTED:
            raise UserError(f"{path}: values are {kind}; {scale_advice(kind)}")
        limits = measure_limits([p for p in pairs if not {p.before, p.after} & odd], reading, lenient)
    else:
        limits = ((0.0, 255.0 if scale == "auto" else float(scale)),) * len(chosen)
    listed = ", ".join(f"band {band} from {low:g}..{high:g}" for band, (low, high) in zip(chosen, limits, strict=True))
    log.info("scaling: %s of %d bands read as uint8, %s", kind, count, listed)
    return replace(reading, limits=limits)


def overruled(
    reading: PixelFormat, pairs: Sequence[Pair], bands: Sequence[int] = (), scale: str = "auto"
) -> PixelFormat:
    """Replace in a checkpoint's format what flags name; arguments and errors as `choose_reading`.

    Without `bands` it keeps the checkpoint's; with scale "auto" its limits, if there is one for each band.
    """
    bands = tuple(bands) or reading.bands
    if scale != "auto" or len(reading.limits) != len(bands):
        return choose_reading(pairs, bands, scale, reading, lenient=True)
    return replace(reading, bands=bands)


def _common_kind(pairs: Sequence[Pair], lenient: bool) -> tuple[Path, tuple[int, str], set[Path]]:
    """Return the first image of the most frequent type, its bands and type, and all images of other types."""
    paths = [path for pair in pairs for path in (pair.before, pair.after)]
    kinds = zip(paths, threaded(readable(pixel_kind, lenient), paths), strict=True)
    found = {path: kind for path, kind in kinds if kind}
    if not found:
        return Path(), (3, "uint8"), set()
    types = Counter(kind for _, kind in found.values())
    usual = types.most_common(1)[0][0]
    first = next(path for path, kind in found.items() if kind[1] == usual)
    odd = [path for path, kind in found.items() if kind[1] != usual]
    if odd and not lenient:
        raise UserError(
            f"{odd[0]}: has {found[odd[0]][1]} pixels, but {types[usual]} of {len(found)} images have {usual}, such as "
            f"{first}; convert it, so that all have one type and scale"
        )
    return first, found[first], set(odd)


def measure_limits(
    pairs: Sequence[Pair], reading: PixelFormat, lenient: bool = False
) -> tuple[tuple[float, float], ...]:
    """Measure the 2nd and 98th percentile of each band over all pixels that count; UserError if none does."""
    counts = np.zeros((len(reading.bands), 2**16 - LOWEST), np.int64)
    counted = readable(partial(_counted_levels, reading=replace(reading, limits=())), lenient)
    for found in threaded(counted, pairs):
        if found is not None:
            first = -LOWEST if found.shape[-1] == 256 else 0
            counts[:, first : first + found.shape[-1]] += found.sum(0)
    if not counts.any():
        raise UserError("no pixel is known at both dates, so no percentile can be measured; pass --scale NUMBER")
    shares = counts.cumsum(1) / counts.sum(1, keepdims=True)
    limits = [[int(np.searchsorted(row, tail)) + LOWEST for tail in TAILS] for row in shares]
    return tuple((float(low), float(max(high, low + 1))) for low, high in limits)


def _counted_levels(pair: Pair, reading: PixelFormat) -> np.ndarray:
    """Count the pixels of a pair by date, channel and level: (2, channels, 256), or all levels from LOWEST on."""
    counts: Any = 0
    with OpenPair(pair, reading) as opened:
        for window in scan(opened.size):
            dates, some = opened.read(window), opened.counted(window)
            levels, offset = (256, 0) if dates[0].dtype == np.uint8 else (2**16 - LOWEST, -LOWEST)
            chosen = [date if some is None else date[some] for date in dates]
            counts = counts + np.stack([level_counts(date, levels, offset) for date in chosen])
    return np.asarray(counts)


def measure_statistics(pairs: Sequence[Pair], reading: PixelFormat = PLAIN) -> Statistics:
    """Measure mean and deviation per date and channel, in [0, 1], over pixels that count; UserError if none does."""
    counted = threaded(partial(_counted_levels, reading=reading), pairs)
    histograms = sum(counted, np.zeros((2, reading.channels, 256), np.int64))
    if not histograms.any():
        raise UserError("no pixel is known at both dates and in the label, so --statistics train measures nothing")
    return histogram_statistics(histograms)


def histogram_statistics(histograms: np.ndarray) -> Statistics:
    """Return mean and standard deviation of counts by date, channel and level, int64 (2, channels, 256)."""
    levels = np.arange(256) / 255
    total = histograms.sum(-1)
    mean = (histograms * levels).sum(-1) / total
    variance = (histograms * levels**2).sum(-1) / total - mean**2
    return {"mean": mean.tolist(), "std": np.sqrt(variance.clip(min=1e-12)).tolist()}


def level_counts(image: np.ndarray, levels: int = 256, offset: int = 0) -> np.ndarray:
    """Count each level in each channel: integers >= -offset (..., channels) -> int64 (channels, levels)."""
    channels = image.reshape(-1, image.shape[-1]).T
    return np.array([np.bincount(channel.astype(np.intp) + offset, minlength=levels) for channel in channels], np.int64)
