"""The bi-temporal data set both networks share, and what is measured on it before a run starts."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.catalog import Statistics
from datasets.pairs import Pair
from datasets.pfbs import Draw
from datasets.raster import binarise, image_size, read_image, read_label, read_label_values
from datasets.transforms import Augmentation, no_augmentation

log = logging.getLogger(__name__)
IGNORE = 255
Result = TypeVar("Result")


class ChangePairs(Dataset):
    """Pairs as samples: `before`, `after` uint8 (3, H, W), `mask` int64 (H, W) of 0, 1 and 255, `name`.

    Without a label every mask pixel is 255, which neither loss nor scores count. A plain index gives the sample as
    it lies on disk; a draw (index, key) from a sampler gives it augmented, from the key's random numbers alone.
    """

    def __init__(self, pairs: Sequence[Pair], augmentation: Augmentation = no_augmentation) -> None:
        self.pairs = list(pairs)
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | Draw) -> dict[str, Tensor | str]:
        index, draw = key if isinstance(key, tuple) else (key, None)
        pair = self.pairs[index]
        before, after = read_image(pair.before), read_image(pair.after)
        mask = read_label(pair.label) if pair.label else np.full(before.shape[:2], IGNORE, np.uint8)
        if not before.shape[:2] == after.shape[:2] == mask.shape:
            sizes = " / ".join(f"{a.shape[0]} x {a.shape[1]}" for a in (before, after, mask))
            raise ValueError(f"{pair.before}: before, after and label differ in size ({sizes}); cut them alike")
        if draw is not None:
            before, after, mask = self.augmentation((before, after, mask), np.random.default_rng(draw))
        return {
            "before": torch.from_numpy(before.transpose(2, 0, 1).copy()),
            "after": torch.from_numpy(after.transpose(2, 0, 1).copy()),
            "mask": torch.from_numpy(mask.astype(np.int64)),
            "name": pair.name,
        }


def check_sizes(pairs: Sequence[Pair], divisor: int, alike: bool) -> list[tuple[int, int]]:
    """Read every image's size from its header.

    Args:
        pairs: what to look at.
        divisor: height and width must be multiples of it.
        alike: whether all pairs must have one size, as the tiles of a training batch.

    Returns:
        (height, width) of each pair.

    Raises:
        ValueError: the first file that does not fit, and what to do.
    """
    paths = [(p.before, p.after, p.label) for p in pairs]
    sizes = list(_threaded(lambda files: [image_size(f) for f in files if f], paths))
    for files, found in zip(paths, sizes, strict=True):
        height, width = found[0]
        if len(set(found)) > 1:
            listed = " / ".join(f"{h} x {w}" for h, w in found)
            raise ValueError(f"{files[0]}: before, after and label differ in size ({listed}); cut them alike")
        if height % divisor or width % divisor:
            raise ValueError(
                f"{files[0]}: {height} x {width} pixels, but this network takes multiples of {divisor}; "
                f"cut the images to tiles: python -m tools.prepare_tiles (never resize them)"
            )
        if alike and found[0] != sizes[0][0]:
            first = "{} x {}".format(*sizes[0][0])
            raise ValueError(
                f"{files[0]}: {height} x {width} pixels among tiles of {first}; cut all to tiles of one size: "
                f"python -m tools.prepare_tiles"
            )
    return [found[0] for found in sizes]


def same_size_batches(sizes: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Indices in batches of one image size each, every index once; order is kept within a size."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, size in enumerate(sizes):
        groups[size].append(index)
    return [g[i : i + batch_size] for g in groups.values() for i in range(0, len(g), batch_size)]


def count_changed(pairs: Sequence[Pair]) -> list[int]:
    """Changed pixels of each pair, from the labels; logs the label values found and the changed share.

    Raises:
        ValueError: no label has a changed pixel, or values are coded in a way that could be read wrongly.
    """
    labels = [pair.label for pair in pairs if pair.label]
    changed, histogram = [], np.zeros(256, np.int64)
    for count, values in _threaded(_label_counts, labels):
        changed.append(count)
        histogram += values
    present = np.flatnonzero(histogram).tolist()
    most = sorted(present, key=lambda value: -histogram[value])[:6]
    shares = ", ".join(f"{value}: {histogram[value] / histogram.sum():.2%}" for value in most)
    where = f"{labels[0].parent}: {len(labels)} labels of values {shares}"
    if not any(changed) or 1 < present[-1] < 128:
        raise ValueError(f"{where}: no changed pixel to be seen; changed must be coded 1 (beside 0) or at least 128")
    if {1, 255} <= set(present) <= {0, 1, 255}:
        raise ValueError(f"{where}: 1 and 255 cannot both mean changed; code unknown pixels 0 and changed ones 255")
    share, with_change = sum(changed) / histogram.sum(), np.count_nonzero(changed)
    log.info("%s; %.2f %% of pixels changed, in %d pairs", where, 100 * share, with_change)
    return changed


def _label_counts(label: Path) -> tuple[int, np.ndarray]:
    """Changed pixels, and how often each of the 256 label values occurs."""
    values = read_label_values(label)
    return int(binarise(values).sum()), np.bincount(values.ravel(), minlength=256)


def measure_statistics(pairs: Sequence[Pair]) -> Statistics:
    """Mean and standard deviation a date and channel over all pixels, RGB in [0, 1]."""
    histograms = np.zeros((2, 3, 256), np.int64)
    for counts in _threaded(_channel_histograms, pairs):
        histograms += counts
    return histogram_statistics(histograms)


def histogram_statistics(histograms: np.ndarray) -> Statistics:
    """Mean and standard deviation of counted levels: int64 (2, 3, 256), date by channel by level."""
    levels = np.arange(256) / 255
    total = histograms.sum(-1)
    mean = (histograms * levels).sum(-1) / total
    variance = (histograms * levels**2).sum(-1) / total - mean**2
    return {"mean": mean.tolist(), "std": np.sqrt(variance.clip(min=1e-12)).tolist()}


def _channel_histograms(pair: Pair) -> np.ndarray:
    """Exact whatever the order of summing: int64 (2, 3, 256)."""
    images = (read_image(path).reshape(-1, 3).T for path in (pair.before, pair.after))
    return np.stack([[np.bincount(channel, minlength=256) for channel in image] for image in images])


def _threaded(function: Callable[..., Result], items: Iterable[object]) -> Iterator[Result]:
    """Results in order, each let go once it is consumed."""
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter lock, so threads are enough
        yield from pool.map(function, items)
