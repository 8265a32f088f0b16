"""Augmentations: what is drawn for one sample, with one draw of the geometry for both dates and the label.

A sample is (before, after, mask): uint8 tensors (C, H, W), (C, H, W) with any number of bands C, and (H, W) of 0, 1 and
255. All randomness comes from the generator handed in.

torchvision's v2 functionals are used where they do not cost. For geometry they do: to turn a 256 x 256 image takes them
0.5 ms, Pillow 0.16 ms; they mirror one axis a pass; and a spawned worker imports them for two seconds. To mirror an
image takes torch 0.02 ms, NumPy 0.25 ms.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets.reading import IGNORE
from utils.console import UserError

Sample = tuple[Tensor, Tensor, Tensor]
CORNERS = {"unchanged": 0, "ignored": IGNORE}  # what the mask has where a rotation uncovers a corner
BALANCED, TRIES = 0.75, 10  # Open-CD's random crop: the largest share of one class, and how often it is drawn


def _each(function: Callable[[Tensor], Tensor], sample: Sample) -> Sample:
    before, after, mask = sample
    return function(before), function(after), function(mask)


def unmoved(sample: Sample, rng: np.random.Generator, corners: int) -> Sample:
    """The sample as it is."""
    return sample


def amfnet_geometry(sample: Sample, rng: np.random.Generator, corners: int) -> Sample:
    """Flips with probability 0.3 each, then always a rotation by [-180, 180] degrees (AMFNet's released code)."""
    columns, rows = rng.random() < 0.3, rng.random() < 0.3
    return rotate(flip(sample, columns, rows), rng.uniform(-180, 180), corners)


def hanet_geometry(sample: Sample, rng: np.random.Generator, corners: int) -> Sample:
    """Quarter turns, then flips with probability 0.5 each (HANet's released code); no corners are uncovered.

    Tiles that are not square take half turns only, so that a batch keeps one size.
    """
    height, width = sample[2].shape
    turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
    rows, columns = rng.random() < 0.5, rng.random() < 0.5
    if turns % 2:  # a quarter turn is a mirrored transpose, so that one pass over the pixels makes any of the eight
        sample = _each(lambda x: x.transpose(-2, -1), sample)
    return flip(sample, columns != (turns in (2, 3)), rows != (turns in (1, 2)))


def open_cd_geometry(sample: Sample, rng: np.random.Generator, corners: int) -> Sample:
    """A rotation by [-180, 180] degrees with probability 0.5, then flips with 0.5 each (Open-CD, LEVIR-CD)."""
    if rng.random() < 0.5:
        sample = rotate(sample, rng.uniform(-180, 180), corners)
    return flip(sample, rng.random() < 0.5, rng.random() < 0.5)


def our_geometry(sample: Sample, rng: np.random.Generator, corners: int) -> Sample:
    """One of the eight flips and quarter turns, then one affine step: any angle in 3 of 10, zoom 0.85 to 1.4.

    Images are interpolated. What comes from outside the tile is 0 in the images and `corners` in the mask.
    """
    sample = hanet_geometry(sample, rng, corners)
    angle = rng.uniform(-180, 180) if rng.random() < 0.3 else 0.0
    return zoom(sample, angle, math.exp(rng.uniform(math.log(0.85), math.log(1.4))), corners)


def zoom(sample: Sample, angle: float, factor: float, corners: int) -> Sample:
    """Turn all three counter-clockwise by `angle` degrees and enlarge them, about the middle of the tile."""
    height, width = sample[2].shape
    cos, sin = (f(math.radians(angle)) / factor for f in (math.cos, math.sin))
    x, y = width / 2, height / 2
    matrix = (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)  # of a new pixel to the old one

    def seen(pixels: np.ndarray, mode: Image.Resampling, fill: int) -> Tensor:
        image = Image.fromarray(pixels)
        moved = image.transform((width, height), Image.Transform.AFFINE, matrix, mode, fillcolor=fill or None)
        return torch.from_numpy(np.array(moved))

    before, after = (_by_bands(image, lambda x: seen(x, Image.Resampling.BILINEAR, 0)) for image in sample[:2])
    return before, after, seen(sample[2].numpy(), Image.Resampling.NEAREST, corners)


def flip(sample: Sample, columns: bool, rows: bool) -> Sample:
    """Mirror all three left to right (columns), top to bottom (rows), or both at once."""
    axes = [-1] * columns + [-2] * rows
    return _each(lambda x: x.flip(axes), sample) if axes else sample


def rotate(sample: Sample, angle: float, corners: int) -> Sample:
    """Turn all three counter-clockwise by `angle` degrees, nearest neighbour.

    Corners that nothing turns into are 0 in the images and `corners` in the mask.
    """
    before, after, mask = sample
    before, after = (_by_bands(image, lambda x: _turned(x, angle)) for image in (before, after))
    return before, after, _turned(mask.numpy(), angle, corners)


def _by_bands(image: Tensor, function: Callable[[np.ndarray], Tensor]) -> Tensor:
    """Apply what takes (H, W, 3) or (H, W) to an image (C, H, W)."""
    if len(image) == 3:
        return function(image.permute(1, 2, 0).numpy()).permute(2, 0, 1)
    return torch.stack([function(band.numpy()) for band in image])


def _turned(pixels: np.ndarray, angle: float, fill: int = 0) -> Tensor:
    """Pillow's rotation of (H, W, 3) or (H, W): AMFNet's code uses it.

    It takes 0.7 ms for the three of a 256 x 256 pair, and v2's 1.0 ms even with all three in one tensor.
    """
    turned = Image.fromarray(pixels).rotate(angle, Image.Resampling.NEAREST, fillcolor=fill or None)
    return torch.from_numpy(np.array(turned))


def crop_balanced(sample: Sample, size: int, rng: np.random.Generator) -> Sample:
    """Crop a random square in which no class fills 75 % of the counted pixels: ten draws, then the last (Open-CD)."""
    height, width = sample[2].shape
    for _ in range(TRIES):
        top, left = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
        window = sample[2][top : top + size, left : left + size].numpy()
        counts = np.count_nonzero(window == 0), np.count_nonzero(window == 1)
        if max(counts) < BALANCED * sum(counts) or size == height == width:
            break
    return _each(lambda x: x[..., top : top + size, left : left + size], sample)


def distort_colours(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Open-CD's photometric distortion of one date, (C, H, W); each step with probability 0.5.

    Brightness +-10 of 255; contrast 0.8 to 1.2, before or after the next two; saturation 0.8 to 1.2, towards grey as
    torchvision has it (Open-CD: in HSV); hue +-10 of 180 degrees. Without three bands there is neither of these two.
    """
    from torchvision.transforms.v2 import functional as F  # only where it is needed, see above

    image = image.contiguous()  # v2's hue takes 3.0 ms on it, and 4.1 ms on bands that lie interleaved
    shift, contrast = rng.uniform(-10, 10), rng.uniform(0.8, 1.2)
    saturation, hue = rng.uniform(0.8, 1.2), rng.integers(-10, 10, endpoint=True) / 180
    brighten, change_contrast, first, saturate, turn_hue = rng.random(5) < 0.5
    if brighten:
        image = _linear(image, 1, shift)
    if change_contrast and first:
        image = _linear(image, contrast, 0)
    if len(image) == 3 and saturate:
        image = F.adjust_saturation(image, saturation)
    if len(image) == 3 and turn_hue:
        image = F.adjust_hue(image, hue)
    if change_contrast and not first:
        image = _linear(image, contrast, 0)
    return image


def our_colours(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Another light, season and sensor for one date, (C, H, W).

    Of RGB the saturation, 0.6 to 1.2; then each band's gain, 0.94 to 1.06, and gamma, 0.95 to 1.05, on top of a gamma
    of 0.86 to 1.16 for all; contrast 0.8 to 1.25 about the mean and brightness +-15 of 255.
    """
    contrast, shift, saturation = rng.uniform(0.8, 1.25), rng.uniform(-15, 15), rng.uniform(0.6, 1.2)
    gammas = np.exp(rng.uniform(-0.15, 0.15) + rng.uniform(-0.05, 0.05, (len(image), 1)))
    gains = rng.uniform(0.94, 1.06, (len(image), 1))
    pixels = image.float()
    middle = pixels.mean().item()
    if len(image) == 3:
        grey = pixels.mean(0, keepdim=True)
        image = pixels.sub_(grey).mul_(saturation).add_(grey).clamp_(0, 255).to(torch.uint8)
    levels = 255 * gains * (np.arange(256) / 255) ** gammas
    tables = ((levels - middle) * contrast + middle + shift).clip(0, 255).astype(np.uint8)
    return torch.from_numpy(np.stack([table[band] for table, band in zip(tables, image.numpy(), strict=True)]))


def _linear(image: Tensor, factor: float, shift: float) -> Tensor:
    """As Open-CD; v2 adds no constant, scales one or three bands only, and is no faster."""
    return image.float().mul_(factor).add_(shift).clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Augmentation:
    """(sample, rng) -> sample; plain values, so that it can be sent to a worker.

    Attributes:
        geometry: moves all three; (sample, rng, corners) -> sample of the same size.
        corners: what a rotation's corners become in the mask, 0 or 255; in the images they are black.
        colours: distorts the colours of one date; None to leave them.
        crop_size: side of the square that is then cropped by `crop_balanced`, pixels; 0 for none.
        time_swap: whether the dates are exchanged with probability 0.5.
        drawn_share: probability that a drawn scene takes a pair's place.
    """

    geometry: Callable[[Sample, np.random.Generator, int], Sample] = unmoved
    corners: int = 0
    colours: Callable[[Tensor, np.random.Generator], Tensor] | None = None
    crop_size: int = 0
    time_swap: bool = False
    drawn_share: float = 0.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Move, crop, recolour and exchange; the draws of each step follow those of the steps before."""
        sample = self.geometry(sample, rng, self.corners)
        if self.crop_size:
            sample = crop_balanced(sample, self.crop_size, rng)
        before, after, mask = sample
        if self.colours:
            before, after = self.colours(before, rng), self.colours(after, rng)
        if self.time_swap and rng.random() < 0.5:
            before, after = after, before
        return before, after, mask


AUGMENTATIONS = {
    "amfnet": Augmentation(amfnet_geometry),
    "hanet": Augmentation(hanet_geometry),
    "open-cd": Augmentation(open_cd_geometry, corners=IGNORE, colours=distort_colours),
    "ours": Augmentation(our_geometry, corners=IGNORE, colours=our_colours),
    "colours": Augmentation(hanet_geometry, colours=our_colours),
    "none": Augmentation(),
}


def build_augmentation(
    name: str,
    crop_size: int = 0,
    time_swap: bool = False,
    corners: str | None = None,
    drawn_share: float = 0.0,
) -> Augmentation:
    """An augmentation of AUGMENTATIONS, and what goes with any of them.

    Args:
        name: a key of AUGMENTATIONS.
        crop_size: side of the crop, pixels; 0 for whole tiles.
        time_swap: whether to exchange the dates with probability 0.5.
        corners: a key of CORNERS, or None for what the augmentation's authors do.
        drawn_share: probability that a drawn scene takes a pair's place.

    Raises:
        UserError: there is no such augmentation.
    """
    if name not in AUGMENTATIONS:
        raise UserError(f"--augmentation {name}: not known; choose one of {', '.join(AUGMENTATIONS)}")
    augmentation = replace(
        AUGMENTATIONS[name],
        crop_size=crop_size,
        time_swap=time_swap,
        drawn_share=drawn_share,
    )
    return replace(augmentation, corners=CORNERS[corners]) if corners else augmentation
