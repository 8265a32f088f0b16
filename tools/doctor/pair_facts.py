"""Facts of one decoded pair: sizes, modes, counts of levels and digests, but no pixels."""

import hashlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.file_errors import refuse_huge
from datasets.label_counts import LabelFacts, facts_alone, label_facts
from datasets.measurements import level_counts
from datasets.open_pair import OpenPair
from datasets.pairs import Pair
from datasets.raster import WindowedImage, read_image
from datasets.reading import PLAIN, PixelFormat
from datasets.windows import Window

WINDOW = 256  # the side of the tiles all published splits are cut to


@dataclass(frozen=True)
class ImageFacts:
    """One readable date.

    `windows` has a digest of the counts of levels of every whole, aligned 256 x 256 window, or of the image where it is
    smaller; windows of one colour are left out. Equal pixels give equal digests. Equal digests nearly always mean equal
    pixels, which `pixel_digests` confirms.
    """

    path: Path
    size: tuple[int, int]  # (height, width)
    mode: str  # Pillow's, or bands and their type
    levels: np.ndarray  # (channels, 256), counts of the values of known pixels
    windows: tuple[bytes, ...] = ()
    constant: bool = False  # all pixels have one colour


@dataclass
class PairFacts:
    """Facts of the files of one name, and what is wrong with them."""

    name: str
    images: dict[str, ImageFacts] = field(default_factory=dict)  # by role, before and after
    label: LabelFacts | None = None
    label_path: Path | None = None
    unreadable: dict[Path, str] = field(default_factory=dict)  # files that cannot be read, and why
    problem: str = ""  # why readable files do not fit together
    identical: bool = False  # both dates have the same pixels
    unknown: bool = False  # no pixel is known at both dates and in the label


def read_facts(name: str, files: Mapping[str, Path], reading: PixelFormat = PLAIN) -> PairFacts:
    """Decode the files of one name, by role; a file that cannot be decoded is noted, not raised."""
    facts, problem = PairFacts(name), ""
    if {"before", "after"} <= files.keys():
        try:
            with OpenPair(Pair(name, files["before"], files["after"], files.get("label")), reading) as opened:
                _add_pair(facts, files, opened, reading)
            return facts
        except Exception as error:  # whatever a damaged file makes a decoder raise, it is this pair's trouble
            facts, problem = PairFacts(name), str(error)
    for role, path in files.items():
        try:
            if role == "label":
                facts.label, facts.label_path = facts_alone(path, reading), path
                continue
            with WindowedImage(path, reading) as image:
                refuse_huge(path, *image.size)
                pixels = image.read(Window(0, 0, *image.size))
                facts.images[role] = image_facts(path, image.mode, pixels, image.known(Window(0, 0, *image.size)))
        except Exception as error:
            facts.unreadable[path] = str(error).removeprefix(f"{path}: ")
    facts.problem = "" if facts.unreadable else problem
    return facts


def _add_pair(facts: PairFacts, files: Mapping[str, Path], opened: OpenPair, reading: PixelFormat) -> None:
    refuse_huge(files["before"], *opened.size)
    whole = Window(0, 0, *opened.size)
    dates, counted = opened.read(whole), opened.counted(whole)
    for role, image, pixels in zip(("before", "after"), (opened.before, opened.after), dates, strict=True):
        facts.images[role] = image_facts(files[role], image.mode, pixels, counted, own=not image.aligned)
    if opened.label:
        facts.label, facts.label_path = label_facts(opened, reading), files["label"]
    before, after = facts.images["before"], facts.images["after"]
    facts.identical = before.windows == after.windows and np.array_equal(*dates)
    facts.unknown = counted is not None and not counted.any()


def image_facts(path: Path, mode: str, pixels: np.ndarray, counted: np.ndarray | None, own: bool = True) -> ImageFacts:
    """Facts of one date, uint8 (H, W, channels).

    Hashing pixels would cost a tenth of their decoding, so the counts of levels, needed anyway, stand in for them.

    Args:
        path: the file.
        mode: of the file, in words.
        pixels: of the date.
        counted: pixels that count, bool (H, W); None: all.
        own: whether the pixels are those of the file; one that is seen on another grid has no digests.
    """
    levels, digests = np.zeros(1, np.int64), []
    for window in _windows(pixels):
        counts = _level_counts(window)
        levels = levels + counts  # (channels, 256)
        if own and _is_whole(window, pixels) and not is_constant(counts):
            digests.append(_digest(window, counts.tobytes()))
    constant = is_constant(levels)
    if counted is not None:
        levels = level_counts(pixels[counted])
    return ImageFacts(path, pixels.shape[:2], mode, levels, tuple(digests), constant)


def pixel_digests(path: Path, reading: PixelFormat = PLAIN) -> tuple[bytes, ...]:
    """A hash of the pixels of each window that `image_facts` has a digest of; decodes the file again."""
    pixels = read_image(path, reading)
    windows = (window for window in _windows(pixels) if _is_whole(window, pixels))
    return tuple(_digest(window, window.tobytes()) for window in windows if not is_constant(_level_counts(window)))


def is_constant(levels: np.ndarray) -> bool:
    """Whether counts of levels (..., 256) have one level in each channel."""
    return bool(np.count_nonzero(levels) == levels.size // 256)


def _level_counts(window: np.ndarray) -> np.ndarray:
    """uint32 (channels, 256)."""
    if window.shape[-1] == 3:  # Pillow counts sooner than NumPy
        histogram = Image.fromarray(np.ascontiguousarray(window)).histogram()
        return np.frombuffer(array("I", histogram), np.uint32).reshape(3, 256)
    return level_counts(window).astype(np.uint32)


def _windows(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Aligned windows in rows, those at the edges cut off; the image itself where it is no larger than one."""
    height, width = pixels.shape[:2]
    if min(width, height) < WINDOW or (height, width) == (WINDOW, WINDOW):
        yield pixels
        return
    for top in range(0, height, WINDOW):
        for left in range(0, width, WINDOW):
            yield pixels[top : top + WINDOW, left : left + WINDOW]


def _is_whole(window: np.ndarray, pixels: np.ndarray) -> bool:
    return window is pixels or window.shape[:2] == (WINDOW, WINDOW)


def _digest(window: np.ndarray, content: bytes) -> bytes:
    return hashlib.blake2b(f"{window.shape[:2]}".encode() + content, digest_size=16).digest()
