"""The bi-temporal data set both networks share, and the checks of what goes into a batch."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.pairs import Pair
from datasets.pfbs import Draw
from datasets.raster import PLAIN, image_size, read_image, read_label
from datasets.reading import IGNORE, Reading
from datasets.threads import threaded
from datasets.transforms import Augmentation, Sample, no_augmentation


def read_sample(pair: Pair, reading: Reading = PLAIN) -> Sample:
    """Read before and after, uint8 (H, W, channels), and the mask, uint8 (H, W); without a label it is all IGNORE.

    Raises:
        ValueError: a file cannot be read, or the sizes differ.
    """
    before, after = read_image(pair.before, reading), read_image(pair.after, reading)
    mask = read_label(pair.label, reading) if pair.label else np.full(before.shape[:2], IGNORE, np.uint8)
    if not before.shape[:2] == after.shape[:2] == mask.shape:
        sizes = " / ".join(f"{a.shape[0]} x {a.shape[1]}" for a in (before, after, mask))
        raise ValueError(f"{pair.before}: before, after and label differ in size ({sizes}); cut them alike")
    return before, after, mask


class ChangePairs(Dataset):
    """Pairs as samples: `before`, `after` uint8 (channels, H, W), `mask` int64 (H, W) of 0, 1 and 255, `name`.

    Without a label every mask pixel is 255, which neither loss nor scores count. A plain index gives the sample as
    it lies on disk; a draw (index, key) from a sampler gives it augmented, from the key's random numbers alone.
    """

    def __init__(
        self, pairs: Sequence[Pair], augmentation: Augmentation = no_augmentation, reading: Reading = PLAIN
    ) -> None:
        self.pairs = list(pairs)
        self.augmentation = augmentation
        self.reading = reading

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: int | Draw) -> dict[str, Tensor | str]:
        index, draw = key if isinstance(key, tuple) else (key, None)
        pair = self.pairs[index]
        before, after, mask = read_sample(pair, self.reading)
        if draw is not None:
            before, after, mask = self.augmentation((before, after, mask), np.random.default_rng(draw))
        return {
            "before": torch.from_numpy(before.transpose(2, 0, 1).copy()),
            "after": torch.from_numpy(after.transpose(2, 0, 1).copy()),
            "mask": torch.from_numpy(mask.astype(np.int64)),
            "name": pair.name,
        }


def check_sizes(pairs: Sequence[Pair], divisor: int, alike: bool, reading: Reading = PLAIN) -> list[tuple[int, int]]:
    """Read every image's size from its header.

    Args:
        pairs: what to look at.
        divisor: height and width must be multiples of it.
        alike: whether all pairs must have one size, as the tiles of a training batch.
        reading: how the images will be read; one that cannot be is found here.

    Returns:
        (height, width) of each pair.

    Raises:
        ValueError: the first file that does not fit, and what to do.
    """

    def sizes_of(pair: Pair) -> list[tuple[int, int]]:
        dates = [image_size(path, reading) for path in (pair.before, pair.after)]
        return dates + ([image_size(pair.label, label=True)] if pair.label else [])

    sizes = list(threaded(sizes_of, pairs))
    for pair, found in zip(pairs, sizes, strict=True):
        height, width = found[0]
        if len(set(found)) > 1:
            listed = " / ".join(f"{h} x {w}" for h, w in found)
            raise ValueError(f"{pair.before}: before, after and label differ in size ({listed}); cut them alike")
        if height % divisor or width % divisor:
            raise ValueError(
                f"{pair.before}: {height} x {width} pixels, but this network takes multiples of {divisor}; "
                f"cut the images to tiles: python -m tools.prepare_tiles (never resize them)"
            )
        if alike and found[0] != sizes[0][0]:
            first = "{} x {}".format(*sizes[0][0])
            raise ValueError(
                f"{pair.before}: {height} x {width} pixels among tiles of {first}; cut all to tiles of one size: "
                f"python -m tools.prepare_tiles"
            )
    return [found[0] for found in sizes]


def same_size_batches(sizes: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Indices in batches of one image size each, every index once; order is kept within a size."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, size in enumerate(sizes):
        groups[size].append(index)
    return [g[i : i + batch_size] for g in groups.values() for i in range(0, len(g), batch_size)]
