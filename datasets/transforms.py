"""Augmentations of one sample, with the same geometry for both dates and the label.

A sample is (before, after, mask): uint8 tensors (C, H, W), (C, H, W) with any number of bands C, and (H, W) of 0, 1 and
255. All randomness comes from the generator in the arguments.

torchvision's v2 functionals serve for colours only. To rotate a 256 x 256 image they take 0.5 ms, Pillow 0.16 ms. They
flip one axis per pass, and a spawned worker takes two seconds to import them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datasets.reading import IGNORE
from utils.console import choose

Sample = tuple[Tensor, Tensor, Tensor]
CORNERS = {"unchanged": 0, "ignored": IGNORE}  # value of the mask in corners that a rotation uncovers
BALANCED, TRIES = 0.75, 10  # Open-CD's random crop: the largest share of one class, and the number of tries


def _each(function: Callable[[Tensor], Tensor], sample: Sample) -> Sample:
    before, after, mask = sample
    return function(before), function(after), function(mask)


def amfnet_geometry(sample: Sample, rng: np.random.Generator, corners: int) -> Sample:
    """Flip with probability 0.3 per axis, then always rotate by [-180, 180] degrees (AMFNet's released code)."""
    columns, rows = rng.random() < 0.3, rng.random() < 0.3
    return rotate(flip(sample, columns, rows), rng.uniform(-180, 180), corners)


def hanet_geometry(sample: Sample, rng: np.random.Generator, corners: int) -> Sample:
    """Rotate by quarter turns, then flip with probability 0.5 per axis (HANet's released code).

    Tiles that are not square are rotated by half turns only, so that a batch keeps one size.
    """
    height, width = sample[2].shape
    turns = int(rng.integers(4)) if height == width else 2 * int(rng.integers(2))
    rows, columns = rng.random() < 0.5, rng.random() < 0.5
    if turns % 2:  # a quarter turn is a flipped transpose, so one pass over the pixels makes any of the eight
        sample = _each(lambda x: x.transpose(-2, -1), sample)
    return flip(sample, columns != (turns in (2, 3)), rows != (turns in (1, 2)))


def open_cd_geometry(sample: Sample, rng: np.random.Generator, corners: int) -> Sample:
    """Rotate by [-180, 180] degrees with probability 0.5, then flip with 0.5 per axis (Open-CD, LEVIR-CD)."""
    if rng.random() < 0.5:
        sample = rotate(sample, rng.uniform(-180, 180), corners)
    return flip(sample, rng.random() < 0.5, rng.random() < 0.5)


def our_geometry(sample: Sample, rng: np.random.Generator, corners: int) -> Sample:
    """Flip and turn as HANet, then warp once: zoom 0.85 to 1.4, and in 3 of 10 any angle."""
    sample = hanet_geometry(sample, rng, corners)
    angle = rng.uniform(-180, 180) if rng.random() < 0.3 else 0.0
    return zoom(sample, angle, math.exp(rng.uniform(math.log(0.85), math.log(1.4))), corners)


def zoom(sample: Sample, angle: float, factor: float, corners: int) -> Sample:
    """Rotate counter-clockwise by `angle` degrees and enlarge, about the middle; images are interpolated.

    Pixels from outside the tile are 0 in the images and `corners` in the mask.
    """
    height, width = sample[2].shape
    cos, sin = (f(math.radians(angle)) / factor for f in (math.cos, math.sin))
    x, y = width / 2, height / 2
    matrix = (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)  # new to old pixel

    def warped(pixels: np.ndarray, mode: Image.Resampling, fill: int) -> Tensor:
        image = Image.fromarray(pixels)
        image = image.transform((width, height), Image.Transform.AFFINE, matrix, mode, fillcolor=fill or None)
        return torch.from_numpy(np.array(image))

    before, after = (_by_bands(image, lambda x: warped(x, Image.Resampling.BILINEAR, 0)) for image in sample[:2])
    return before, after, warped(sample[2].numpy(), Image.Resampling.NEAREST, corners)


def flip(sample: Sample, columns: bool, rows: bool) -> Sample:
    """Flip all three left to right (columns), top to bottom (rows), or both."""
    axes = [-1] * columns + [-2] * rows
    return _each(lambda x: x.flip(axes), sample) if axes else sample


def rotate(sample: Sample, angle: float, corners: int) -> Sample:
    """Rotate counter-clockwise by `angle` degrees, nearest neighbour, as AMFNet's code; corners as `zoom`'s."""

    def rotated(pixels: np.ndarray, fill: int = 0) -> Tensor:
        image = Image.fromarray(pixels).rotate(angle, Image.Resampling.NEAREST, fillcolor=fill or None)
        return torch.from_numpy(np.array(image))

    before, after = (_by_bands(image, rotated) for image in sample[:2])
    return before, after, rotated(sample[2].numpy(), corners)


def _by_bands(image: Tensor, function: Callable[[np.ndarray], Tensor]) -> Tensor:
    """Apply a function of (H, W, 3) or (H, W) to an image (C, H, W)."""
    if len(image) == 3:
        return function(image.permute(1, 2, 0).numpy()).permute(2, 0, 1)
    return torch.stack([function(band.numpy()) for band in image])


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

    Brightness +-10 of 255; contrast 0.8 to 1.2, before or after the next two; saturation 0.8 to 1.2, as torchvision
    computes it (Open-CD: in HSV); hue +-10 of 180 degrees. Saturation and hue need three bands.
    """
    from torchvision.transforms.v2 import functional as F  # slow to import, see above

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
    """Change light, season and sensor of one date, (C, H, W).

    Saturation of RGB 0.6 to 1.2; per band a gain of 0.94 to 1.06 and a gamma of 0.95 to 1.05, times a gamma of 0.86 to
    1.16 for all; contrast 0.8 to 1.25 about the mean; brightness +-15 of 255.
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
    """Scale and shift as Open-CD does; torchvision adds no constant and takes one or three bands only."""
    return image.float().mul_(factor).add_(shift).clamp_(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class Augmentation:
    """(sample, rng) -> sample; plain values, so that it can be sent to a worker."""

    geometry: Callable[[Sample, np.random.Generator, int], Sample] | None = None  # takes `corners`, keeps the size
    corners: int = 0  # value of uncovered corners in the mask, 0 or 255; in the images they are black
    colours: Callable[[Tensor, np.random.Generator], Tensor] | None = None  # distorts those of one date
    crop_size: int = 0  # side of the square that `crop_balanced` then crops, pixels; 0: none
    time_swap: bool = False  # exchange the dates with probability 0.5
    drawn_share: float = 0.0  # probability that a drawn scene takes a pair's place

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Apply geometry, crop, colours and exchange of dates, in this order of draws."""
        if self.geometry:
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
    name: str, crop_size: int = 0, time_swap: bool = False, corners: str | None = None, drawn_share: float = 0.0
) -> Augmentation:
    """Return an augmentation of AUGMENTATIONS with further settings; see `Augmentation`."""
    usual = choose(AUGMENTATIONS, name, "--augmentation")
    fill = CORNERS[corners] if corners else usual.corners
    return replace(usual, crop_size=crop_size, time_swap=time_swap, corners=fill, drawn_share=drawn_share)
