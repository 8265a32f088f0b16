"""What decoding one pair tells, kept small: sizes, modes, counts of levels and digests, never pixels."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.raster import load_image

WINDOW = 256  # the side of the tiles all published splits are cut to


@dataclass(frozen=True)
class ImageFacts:
    """One readable file.

    size is (height, width), mode Pillow's. levels counts values: int64 (3, 256) of an image read as RGB, (256,) of a
    label read as grey. windows has, for every whole, aligned 256 x 256 window, a digest of its counts of levels, or
    the image's own where it is smaller; windows of one colour (no-data) are left out. Equal pixels give equal
    digests; equal digests nearly always mean equal pixels, and `pixel_digests` makes sure.
    """

    path: Path
    size: tuple[int, int]
    mode: str
    levels: np.ndarray
    windows: tuple[bytes, ...] = ()


@dataclass
class PairFacts:
    """The files of one name: facts by role (before, after, label), and what could not be read."""

    name: str
    images: dict[str, ImageFacts] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    identical: bool = False  # the dates have the same pixels


def read_facts(name: str, files: Mapping[str, Path]) -> PairFacts:
    """Decode the files of one name, by role; a file that cannot be decoded is noted, not raised."""
    facts, decoded = PairFacts(name), {}
    for role, path in files.items():
        try:
            decoded[role] = image = load_image(path)
        except Exception as error:  # whatever a damaged file makes a decoder raise, it is this file's trouble
            facts.unreadable[path] = str(error).removeprefix(f"{path}: ")
        else:
            facts.images[role] = label_facts(path, image) if role == "label" else image_facts(path, image)
    if {"before", "after"} <= facts.images.keys():
        before, after = facts.images["before"], facts.images["after"]
        alike = before.size == after.size and np.array_equal(before.levels, after.levels)
        facts.identical = alike and _as_rgb(decoded["before"]).tobytes() == _as_rgb(decoded["after"]).tobytes()
    return facts


def label_facts(path: Path, image: Image.Image) -> ImageFacts:
    """Facts of a label, by its values as grey."""
    grey = image if image.mode == "L" else image.convert("L")
    pixels = np.asarray(grey)
    levels = np.zeros(256, np.int64)
    for value in (0, 1, 255):  # nearly always all there is, and three comparisons beat a histogram of few values
        levels[value] = np.count_nonzero(pixels == value)
    if levels.sum() < pixels.size:
        levels = np.array(grey.histogram(), np.int64)
    return ImageFacts(path, (image.height, image.width), image.mode, levels)


def image_facts(path: Path, image: Image.Image) -> ImageFacts:
    """Facts of one date, by its pixels as RGB.

    Hashing pixels would cost a tenth of their decoding, so the counts of levels, needed anyway, stand in for them.
    """
    rgb = _as_rgb(image)
    levels = np.zeros((3, 256), np.int64)
    windows = []
    for window in _windows(rgb):
        counts = _level_counts(window)
        levels += counts
        if _is_whole(window, rgb) and not is_constant(counts):
            windows.append(_digest(window, counts.tobytes()))
    return ImageFacts(path, (image.height, image.width), image.mode, levels, tuple(windows))


def pixel_digests(path: Path) -> tuple[bytes, ...]:
    """A hash of the pixels of each window that `image_facts` has a digest of; decodes the file again."""
    rgb = _as_rgb(load_image(path))
    windows = (window for window in _windows(rgb) if _is_whole(window, rgb))
    return tuple(_digest(window, window.tobytes()) for window in windows if not is_constant(_level_counts(window)))


def is_constant(levels: np.ndarray) -> bool:
    """Whether counts of levels (..., 256) have one level in each channel."""
    return bool((np.count_nonzero(levels, axis=-1) == 1).all())


def _level_counts(window: Image.Image) -> np.ndarray:
    return np.array(window.histogram(), np.int64).reshape(3, 256)


def _as_rgb(image: Image.Image) -> Image.Image:
    return image if image.mode == "RGB" else image.convert("RGB")


def _windows(image: Image.Image) -> Iterator[Image.Image]:
    """Aligned windows in rows, those at the edges cut off; the image itself where it is no larger than one."""
    width, height = image.size
    if min(width, height) < WINDOW or image.size == (WINDOW, WINDOW):
        yield image
        return
    for top in range(0, height, WINDOW):
        for left in range(0, width, WINDOW):
            yield image.crop((left, top, min(left + WINDOW, width), min(top + WINDOW, height)))


def _is_whole(window: Image.Image, image: Image.Image) -> bool:
    return window is image or window.size == (WINDOW, WINDOW)


def _digest(window: Image.Image, content: bytes) -> bytes:
    return hashlib.blake2b(f"{window.size}".encode() + content, digest_size=16).digest()
