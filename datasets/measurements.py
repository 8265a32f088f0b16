"""What is measured on the images of a data set before a run starts: levels, and how to read them."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from datasets.catalog import Statistics
from datasets.pairs import Pair
from datasets.raster import PLAIN, pixel_kind, read_image
from datasets.reading import Reading
from datasets.threads import threaded

log = logging.getLogger(__name__)
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


def overruled(reading: Reading, pairs: Sequence[Pair], bands: Sequence[int] = (), scale: str = "auto") -> Reading:
    """A checkpoint's reading, of which flags overrule what they say and no more; warns of values it cannot fit.

    Args:
        reading: the checkpoint's.
        pairs: what is predicted.
        bands: see `choose_reading`; none: the checkpoint's.
        scale: see `choose_reading`; "auto": the checkpoint's limits, as long as there is one for each band.

    Raises:
        ValueError: as `choose_reading`.
    """
    bands = tuple(bands) or reading.bands
    if scale != "auto" or len(reading.limits) != len(bands):
        chosen = choose_reading(pairs, bands, scale)
        return replace(reading, bands=chosen.bands, limits=chosen.limits)
    path, (_, kind) = _first_kind(pairs, skip_unreadable=True)
    if kind == "uint8" and (most := max((high for _, high in reading.limits), default=0)) > 255:
        log.warning(
            "%s has 8 bits, but this network was trained on values up to %g, so all will look dark to it; if that is "
            "not meant, say --scale 255", path, most,
        )  # fmt: skip
    return replace(reading, bands=bands)


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

    def counted(path: Path) -> tuple[np.ndarray, int] | None:
        try:
            values = read_image(path, Reading(reading.bands))
        except (ValueError, OSError):
            if not skip_unreadable:
                raise
            return None
        if str(values.dtype) not in DEEP:
            raise ValueError(f"{path}: values are {values.dtype}; say --scale NUMBER, the value that becomes white")
        offset = DEEP[str(values.dtype)]
        return level_counts(values, 2**16, offset), offset

    for found in threaded(counted, (path for pair in pairs for path in (pair.before, pair.after))):
        if found:
            counts, offset = counts + found[0], found[1]
    shares = counts.cumsum(1) / counts.sum(1, keepdims=True).clip(min=1)
    limits = [[int(np.searchsorted(row, tail)) - offset for tail in TAILS] for row in shares]
    return tuple((float(low), float(max(high, low + 1))) for low, high in limits)


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


def level_counts(image: np.ndarray, levels: int = 256, offset: int = 0) -> np.ndarray:
    """How often each level occurs in each channel: integers >= -offset (H, W, channels) -> int64 (channels, levels)."""
    channels = image.reshape(-1, image.shape[-1]).T
    return np.array([np.bincount(channel.astype(np.intp) + offset, minlength=levels) for channel in channels], np.int64)
