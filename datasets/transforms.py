"""The two papers' augmentations. Each takes and returns (before, after, mask) and draws once for all three.

Arrays are uint8: images (H, W, 3), mask (H, W). All randomness comes from the generator handed in.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]
Augmentation = Callable[[Sample, np.random.Generator], Sample]


def amfnet_augmentation(sample: Sample, rng: np.random.Generator) -> Sample:
    """Flips with probability 0.3 each, then always a rotation by [-180, 180] degrees (AMFNet's released code).

    Nearest neighbour; the corners that turn in are 0: black, and unchanged in the mask.
    """
    flip_columns, flip_rows = rng.random() < 0.3, rng.random() < 0.3
    angle = rng.uniform(-180, 180)
    before, after, mask = (_rotate(_flip(array, flip_columns, flip_rows), angle) for array in sample)
    return before, after, mask


def hanet_augmentation(sample: Sample, rng: np.random.Generator) -> Sample:
    """Quarter turns, then flips with probability 0.5 each (HANet's released code).

    Tiles that are not square take half turns only, so that a batch keeps one size.
    """
    height, width = sample[2].shape
    turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
    flip_rows, flip_columns = rng.random() < 0.5, rng.random() < 0.5
    before, after, mask = (_flip(np.rot90(array, turns), flip_columns, flip_rows) for array in sample)
    return before, after, mask


def no_augmentation(sample: Sample, rng: np.random.Generator) -> Sample:
    """The sample as it is."""
    return sample


AUGMENTATIONS: dict[str, Augmentation] = {
    "amfnet": amfnet_augmentation,
    "hanet": hanet_augmentation,
    "none": no_augmentation,
}


def _flip(array: np.ndarray, columns: bool, rows: bool) -> np.ndarray:
    return array[:: -1 if rows else 1, :: -1 if columns else 1]


def _rotate(array: np.ndarray, angle: float) -> np.ndarray:
    # Pillow's rotation takes a twelfth of the time of torchvision's, and is what the published code used
    return np.asarray(Image.fromarray(np.ascontiguousarray(array)).rotate(angle, Image.Resampling.NEAREST))
