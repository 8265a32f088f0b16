"""The bi-temporal data set of all networks, and checks of the sizes of its images."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from datasets.open_pair import OpenPair, read_pair
from datasets.pairs import Pair
from datasets.pfbs import Draw
from datasets.reading import PLAIN, PixelFormat
from datasets.scenes import draw_scene
from datasets.threads import threaded
from datasets.transforms import Augmentation, Sample
from utils.console import UserError

DECODERS = 2  # threads of one process that read a batch; Pillow decodes outside the interpreter lock
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


class ChangePairs(Dataset):
    """Pairs as samples: `before`, `after` uint8 (channels, H, W), `mask` uint8 (H, W) of 0, 1 and 255, `name`.

    Without a label every mask pixel is 255, which neither loss nor scores count. A plain index returns the sample as
    it is on disk. A draw (index, key) of a sampler returns it augmented by the key's random numbers; with a
    `drawn_share` a drawn scene may take its place. `cached`, a TileCache, stands in for `read_pair`.

    A list of either returns a batch, so a DataLoader takes a sampler of lists and batch_size=None. Images are stored as
    they were decoded, (B, H, W, channels), so a network in channels_last needs no transposition.

    Raises:
        UserError: scenes are to be drawn, and images have other than three bands.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        augmentation: Augmentation = Augmentation(),  # noqa: B008, frozen
        reading: PixelFormat = PLAIN,
        cached: Callable[[Pair], Arrays] | None = None,
    ) -> None:
        if augmentation.drawn_share and reading.channels != 3:
            raise UserError(f"--drawn: scenes are drawn in RGB, and these images have {reading.channels} bands")
        self.pairs, self.augmentation, self.reading, self.cached = list(pairs), augmentation, reading, cached

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, draw: int | Draw | list[int | Draw]) -> dict[str, Any]:
        if isinstance(draw, list):
            return self._batch(draw)
        index, key = draw if isinstance(draw, tuple) else (draw, None)
        name = self.pairs[index].name
        if key is None:
            before, after, mask = self._read(index)
        else:
            rng, share = np.random.default_rng(key), self.augmentation.drawn_share
            if share and rng.random() < share:
                sample, name = self._drawn(index, rng), f"drawn in place of {name}"
            else:
                sample = self._read(index)
            before, after, mask = self.augmentation(sample, rng)
        return {"before": before, "after": after, "mask": mask, "name": name}

    def _read(self, index: int) -> Sample:
        pair = self.pairs[index]
        arrays = self.cached(pair) if self.cached else read_pair(pair, self.reading)
        before, after, mask = (torch.from_numpy(array) for array in arrays)
        return before.permute(2, 0, 1), after.permute(2, 0, 1), mask

    def _drawn(self, index: int, rng: np.random.Generator) -> Sample:
        """Draw a scene like the demo's, of the size that is trained on."""
        size = self.augmentation.crop_size
        height, width = (size, size) if size else size_of(self.pairs[index], self.reading)
        scene = draw_scene(int(rng.integers(2**63)), max(height, width), town=True)
        before, after, mask = (torch.tensor(array[:height, :width]) for array in scene)
        return before.permute(2, 0, 1), after.permute(2, 0, 1), mask // 255

    def _batch(self, keys: Sequence[int | Draw]) -> dict[str, Any]:
        """Copy each sample into the batch while the processor's cache still holds it."""
        samples = map(self.__getitem__, keys) if self.cached else threaded(self.__getitem__, keys, DECODERS)
        first = next(samples)
        in_worker = get_worker_info() is not None
        shape = len(keys), *first["before"].shape
        pixels = _empty(shape, in_worker)
        batch = unpacked(pixels, shape, [])
        for place, sample in enumerate(chain([first], samples)):
            if sample["before"].shape != shape[1:]:
                names = f"{first['name']} and {sample['name']}"
                raise UserError(f"{names}: differ in size since the run began; restore the images")
            for role in ("before", "after", "mask"):
                batch[role][place] = sample[role]
            batch["name"].append(sample["name"])
        return _OnePiece(batch, pixels) if in_worker else batch


class _OnePiece(dict):
    """A batch that leaves its worker as one tensor; sending three would take as long as decoding an image."""

    def __init__(self, batch: dict[str, Any], pixels: Tensor) -> None:
        super().__init__(batch)
        self.pixels = pixels

    def __reduce__(self) -> tuple[Any, ...]:
        return unpacked, (self.pixels, tuple(self["before"].shape), self["name"])


def unpacked(pixels: Tensor, shape: tuple[int, ...], names: list[str]) -> dict[str, Any]:
    """Return the batch in a flat uint8 tensor: before and after of `shape`, stored (B, H, W, channels), and mask."""
    count, channels, height, width = shape
    images, mask = pixels.tensor_split([2 * count * channels * height * width])
    before, after = images.view(2, count, height, width, channels).permute(0, 1, 4, 2, 3)
    return {"before": before, "after": after, "mask": mask.view(count, height, width), "name": names}


def _empty(shape: tuple[int, ...], shared: bool) -> Tensor:
    """Allocate a batch, uint8; shared between processes as torch's own collation does, which saves a copy."""
    count, channels, height, width = shape
    size = (2 * channels + 1) * count * height * width
    storage = torch.UntypedStorage._new_shared(size) if shared else torch.UntypedStorage(size)
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def size_of(pair: Pair, reading: PixelFormat = PLAIN) -> tuple[int, int]:
    """Return (height, width) of a pair, from its headers; errors as `OpenPair` and `OpenPair.check_scale`."""
    with OpenPair(pair, reading) as opened:
        opened.check_scale()
        return opened.size


def sizes_of(pairs: Sequence[Pair], reading: PixelFormat = PLAIN) -> list[tuple[int, int]]:
    """Return (height, width) of each pair; errors as `size_of`."""
    return list(threaded(partial(size_of, reading=reading), pairs))


def check_sizes(
    pairs: Sequence[Pair], divisor: int, alike: bool, reading: PixelFormat = PLAIN, crop_size: int = 0
) -> list[tuple[int, int]]:
    """Return (height, width) of each pair, if a network takes multiples of `divisor`.

    All must be `alike`, as the tiles of a training batch, unless squares of side `crop_size` are trained on, if not 0.

    Raises:
        UserError: the first file that does not fit or cannot be read, and what to do.
    """
    if crop_size % divisor:
        raise UserError(f"--crop-size {crop_size}: this network takes multiples of {divisor}")
    sizes = sizes_of(pairs, reading)
    for pair, (height, width) in zip(pairs, sizes, strict=True):
        found, first = f"{pair.before}: {height} x {width} pixels", "{} x {}".format(*sizes[0])
        if crop_size:
            if min(height, width) < crop_size:
                raise UserError(f"{found} do not hold a crop of {crop_size}; lower --crop-size")
        elif height % divisor or width % divisor:
            raise UserError(
                f"{found}, but this network takes multiples of {divisor}; cut the images to tiles: python -m "
                f"tools.prepare_tiles (never resize them)"
            )
        elif alike and (height, width) != sizes[0]:
            what = f"{found} among tiles of {first}"
            raise UserError(f"{what}; cut all to tiles of one size: python -m tools.prepare_tiles")
    return sizes


def same_size_batches(sizes: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Return indices in batches of one image size each, every index once; order is kept within a size."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, size in enumerate(sizes):
        groups[size].append(index)
    return [g[i : i + batch_size] for g in groups.values() for i in range(0, len(g), batch_size)]
