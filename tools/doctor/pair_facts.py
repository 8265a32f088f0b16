"""Facts of one decoded pair: sizes, modes, counts of levels, hashes of windows, and findings; no pixels."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets.file_errors import refuse_huge
from datasets.image_check import ImageCheck
from datasets.label_counts import LabelFacts, facts_alone, label_facts
from datasets.measurements import level_counts
from datasets.open_pair import OpenPair
from datasets.pairs import Pair, later_first
from datasets.pixel_size import metres_a_pixel
from datasets.raster import WindowedImage
from datasets.reading import PLAIN, PixelFormat
from datasets.registration import Shift
from datasets.windows import Window
from tools.doctor.findings import Finding

DATES = ("before", "after")
WINDOW = 256  # side of the tiles of all published splits
BLOCK = 4


@dataclass(frozen=True)
class ImageFacts:
    """One readable date.

    `windows` has hashes of the pixels of all whole, aligned windows of WINDOW x WINDOW, or of the whole image if it is
    smaller. Windows of one colour are left out.
    """

    path: Path
    size: tuple[int, int]  # (height, width)
    mode: str  # Pillow's, or bands and their type
    constant: bool  # all pixels have one colour
    windows: tuple[bytes, ...]
    levels: np.ndarray  # int64 (channels, 256), how often each level occurs in known pixels


@dataclass
class PairFacts:
    """Facts of the files of one name; images are listed by role."""

    images: dict[str, ImageFacts] = field(default_factory=dict)
    label: LabelFacts | None = None
    shift: Shift | None = None  # of the later image, if it was measured and is reliable
    metres: float | None = None  # a pixel, if the georeference gives it
    likeness: float | None = None  # correlation of the edges of both dates, if it was measured and both have edges
    findings: list[Finding] = field(default_factory=list)


def read_facts(name: str, files: Mapping[str, Path], reading: PixelFormat = PLAIN, measure: bool = False) -> PairFacts:
    """Decode the files of one name, by role. A file that cannot be decoded becomes a finding, not an error.

    With `measure`, shift and likeness of the dates are measured, which costs more than decoding small tiles.
    """
    problem, facts = "", PairFacts()
    if files.keys() >= set(DATES):
        pair = Pair(name, files["before"], files["after"], files.get("label"))
        try:
            with OpenPair(pair, reading) as opened:
                facts = _pair_facts(opened, reading)
                if remark := later_first(pair):
                    facts.findings.append(Finding("swapped dates", str(pair.before), remark))
                if measure:
                    opened.measure_shift(correct=False)
                    facts.shift, facts.metres = opened.shift, metres_a_pixel(opened.grid)
                    whole = Window(0, 0, *opened.size)
                    facts.likeness = edges_in_common(*opened.read(whole), opened.known(whole))
                return facts
        except Exception as error:  # damaged files can raise any exception
            problem = str(error)
    for role, path in files.items():
        try:
            if role == "label":
                facts.label = facts_alone(path, reading)
                continue
            with WindowedImage(path, reading) as image:
                refuse_huge(path, *image.size)
                whole = Window(0, 0, *image.size)
                facts.images[role] = image_facts(path, image.mode, image.read(whole), image.known(whole))
        except Exception as error:
            facts.findings.append(Finding("unreadable", str(path), str(error).removeprefix(f"{path}: ")))
    if problem and not facts.findings:
        sizes = len({image.size for image in facts.images.values()}) > 1 or "differs in size" in problem
        facts.findings.append(Finding("sizes in a pair" if sizes else "pair", str(files["before"]), problem))
    return _judged(facts)


def _pair_facts(opened: OpenPair, reading: PixelFormat) -> PairFacts:
    refuse_huge(opened.before.path, *opened.size)
    whole, facts = Window(0, 0, *opened.size), PairFacts()
    opened.check_scale()
    dates, counted = (opened.before.read(whole), opened.after.read(whole)), opened.counted(whole)
    for role, image, pixels in zip(DATES, (opened.before, opened.after), dates, strict=True):
        facts.images[role] = image_facts(image.path, image.mode, pixels, counted, hashed=not image.aligned)
    facts.label = label_facts(opened, reading) if opened.label else None
    where = str(opened.before.path)
    if counted is not None and not counted.any():
        facts.findings.append(Finding("all unknown", where, "no pixel is known at both dates and in the label"))
    if np.array_equal(*dates) and not facts.images["before"].constant:
        facts.findings.append(Finding("identical dates", where, "before and after have the same pixels"))
    check = ImageCheck()
    check.see(dates)
    for role, what in check.labels():
        facts.findings.append(Finding("label as date", str(getattr(opened, role).path), f"has {what}"))
    return _judged(facts)


def _judged(facts: PairFacts) -> PairFacts:
    """Add the findings that need no pixels."""
    constant = [image for image in facts.images.values() if image.constant]
    facts.findings += [Finding("constant image", str(image.path), "every pixel has one colour") for image in constant]
    modes = [image.mode for image in facts.images.values()]
    if len(set(modes)) > 1:
        where = str(facts.images["before"].path)
        facts.findings.append(Finding("modes in a pair", where, "before {}, after {}".format(*modes)))
    return facts


def image_facts(path: Path, mode: str, pixels: np.ndarray, known: np.ndarray | None, hashed: bool = True) -> ImageFacts:
    """Facts of one date, uint8 (H, W, channels), of which only pixels that are `known`, bool (H, W), count.

    If the pixels were resampled, they are not `hashed`: their hashes would identify nothing.
    """
    levels = level_counts(pixels if known is None else pixels[known])
    windows = tuple(_hash(window) for window in _windows(pixels) if hashed and not _is_constant(window))
    return ImageFacts(path, pixels.shape[:2], mode, _is_constant(pixels), windows, levels)


def edges_in_common(before: np.ndarray, after: np.ndarray, known: np.ndarray | None = None) -> float | None:
    """Correlation of the strength of edges in means of BLOCK x BLOCK pixels of two dates, uint8 (H, W, channels).

    Of unlike places it is about 0; of one place it is mostly above 0.1, whatever the season. None without
    edges in a date. Blocks at pixels that are not `known`, bool (H, W), do not count.
    """
    from scipy.ndimage import binary_erosion

    height, width = (side // BLOCK for side in before.shape[:2])
    if min(height, width) < 2:
        return None

    def in_blocks(image: np.ndarray) -> np.ndarray:
        return image[: height * BLOCK, : width * BLOCK].reshape(height, BLOCK, width, BLOCK, -1)

    counted = np.ones((height, width), bool) if known is None else in_blocks(known).all((1, 3, 4))
    counted = binary_erosion(counted, np.ones((3, 3)), border_value=1)  # an edge is seen by its neighbours
    means = [in_blocks(image).mean((1, 3, 4)) for image in (before, after)]
    strengths = [np.log1p(np.hypot(*np.gradient(mean)))[counted] for mean in means]
    flat = any(strength.size < 2 or strength.std() == 0 for strength in strengths)
    return None if flat else float(np.corrcoef(*strengths)[0, 1])


def _is_constant(pixels: np.ndarray) -> bool:
    return pixels.tobytes() == pixels[0, 0].tobytes() * (pixels.shape[0] * pixels.shape[1])


def _hash(window: np.ndarray) -> bytes:
    return hashlib.sha256(f"{window.shape[:2]}".encode() + window.tobytes()).digest()[:16]


def _windows(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Whole aligned windows, row by row; the image itself if it is smaller than a window."""
    height, width = pixels.shape[:2]
    if min(height, width) < WINDOW:
        yield pixels
    for top in range(0, height - WINDOW + 1, WINDOW):
        for left in range(0, width - WINDOW + 1, WINDOW):
            yield pixels[top : top + WINDOW, left : left + WINDOW]
