"""What decoding one pair tells, kept small: sizes, modes, counts of levels and digests, never pixels."""

import hashlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.measurements import level_counts
from datasets.raster import PLAIN, load_image, load_label, pixel_kind, read_image
from datasets.reading import Reading

Pixels = Image.Image | np.ndarray  # RGB, or uint8 (H, W, channels)
WINDOW = 256  # the side of the tiles all published splits are cut to


@dataclass(frozen=True)
class ImageFacts:
    """One readable file.

    size is (height, width), mode Pillow's, or bands and their type. levels counts values: (channels, 256) of an image,
    (256,) of a label read as grey. windows has, for every whole, aligned 256 x 256 window, a digest of its
    counts of levels, or the image's own where it is smaller; windows of one colour (no-data) are left out. Equal
    pixels give equal digests; equal digests nearly always mean equal pixels, and `pixel_digests` makes sure.
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


def read_facts(name: str, files: Mapping[str, Path], reading: Reading = PLAIN) -> PairFacts:
    """Decode the files of one name, by role; a file that cannot be decoded is noted, not raised."""
    facts, dates = PairFacts(name), {}
    for role, path in files.items():
        try:
            if role == "label":
                facts.images[role] = label_facts(path, load_label(path, reading.change_value is not None))
            else:
                mode, dates[role] = decoded(path, reading)
                facts.images[role] = image_facts(path, mode, dates[role])
        except Exception as error:  # whatever a damaged file makes a decoder raise, it is this file's trouble
            facts.unreadable[path] = str(error).removeprefix(f"{path}: ")
    if {"before", "after"} <= facts.images.keys():
        before, after = facts.images["before"], facts.images["after"]
        alike = (before.size, before.windows) == (after.size, after.windows) and np.array_equal(
            before.levels, after.levels
        )
        facts.identical = alike and dates["before"].tobytes() == dates["after"].tobytes()
    return facts


def decoded(path: Path, reading: Reading) -> tuple[str, Pixels]:
    """One date's mode in words, and its pixels: an RGB image, or an array where bands are chosen."""
    if reading.bands:
        count, kind = pixel_kind(path)
        return f"{count} x {kind}", read_image(path, reading)
    image = load_image(path)
    return image.mode, image if image.mode == "RGB" else image.convert("RGB")


def label_facts(path: Path, grey: Image.Image) -> ImageFacts:
    """Facts of a label, by its values as grey."""
    pixels = np.asarray(grey)
    levels, left = np.zeros(256, np.int64), pixels.size
    for value in (0, 255, 1):  # nearly always all there is, and three comparisons beat a histogram of few values
        if left:
            levels[value] = np.count_nonzero(pixels == value)
            left -= levels[value]
    if left:
        levels = np.array(grey.histogram(), np.int64)
    return ImageFacts(path, (grey.height, grey.width), grey.mode, levels)


def image_facts(path: Path, mode: str, pixels: Pixels) -> ImageFacts:
    """Facts of one date.

    Hashing pixels would cost a tenth of their decoding, so the counts of levels, needed anyway, stand in for them.
    """
    levels, digests = np.zeros(1, np.int64), []
    for window in _windows(pixels):
        counts = _level_counts(window)
        levels = levels + counts  # (channels, 256)
        if _is_whole(window, pixels) and not is_constant(counts):
            digests.append(_digest(window, counts.tobytes()))
    return ImageFacts(path, _size(pixels), mode, levels, tuple(digests))


def pixel_digests(path: Path, reading: Reading = PLAIN) -> tuple[bytes, ...]:
    """A hash of the pixels of each window that `image_facts` has a digest of; decodes the file again."""
    pixels = decoded(path, reading)[1]
    windows = (window for window in _windows(pixels) if _is_whole(window, pixels))
    return tuple(_digest(window, window.tobytes()) for window in windows if not is_constant(_level_counts(window)))


def is_constant(levels: np.ndarray) -> bool:
    """Whether counts of levels (..., 256) have one level in each channel."""
    return bool(np.count_nonzero(levels) == levels.size // 256)


def _level_counts(window: Pixels) -> np.ndarray:
    """uint32 (channels, 256)."""
    if isinstance(window, Image.Image):  # Pillow counts sooner than NumPy
        return np.frombuffer(array("I", window.histogram()), np.uint32).reshape(3, 256)
    return level_counts(window).astype(np.uint32)


def _size(pixels: Pixels) -> tuple[int, int]:
    return (pixels.height, pixels.width) if isinstance(pixels, Image.Image) else (pixels.shape[0], pixels.shape[1])


def _windows(pixels: Pixels) -> Iterator[Pixels]:
    """Aligned windows in rows, those at the edges cut off; the image itself where it is no larger than one."""
    height, width = _size(pixels)
    if min(width, height) < WINDOW or (height, width) == (WINDOW, WINDOW):
        yield pixels
        return
    for top in range(0, height, WINDOW):
        for left in range(0, width, WINDOW):
            bottom, right = min(top + WINDOW, height), min(left + WINDOW, width)
            if isinstance(pixels, Image.Image):
                yield pixels.crop((left, top, right, bottom))
            else:
                yield pixels[top:bottom, left:right]


def _is_whole(window: Pixels, pixels: Pixels) -> bool:
    return window is pixels or _size(window) == (WINDOW, WINDOW)


def _digest(window: Pixels, content: bytes) -> bytes:
    return hashlib.blake2b(f"{_size(window)}".encode() + content, digest_size=16).digest()
