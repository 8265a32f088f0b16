"""Draws F1 against a shift of the later image, with and without its correction."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from datasets.label_codes import decide_to_predict
from datasets.open_pair import read_pair
from datasets.pairs import find_pairs
from datasets.reading import IGNORE, reading_from
from datasets.registration import Unshifted, shift_between
from datasets.windows import Content, Window
from tools.figures.paper import COLUMN, OUTPUT, chart, known_suffix
from utils.console import UserError
from utils.flags import at_least, setting
from utils.settings import DataConfig

if TYPE_CHECKING:  # flags are answered before PyTorch is imported
    from utils.prediction.predictor import ChangePredictor

LINES = {"as it is": ("--", "#d55e00"), "corrected": ("-", "#0072b2")}
DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # whole pixels, so that adding a shift interpolates nothing
Dates = tuple[np.ndarray, np.ndarray, np.ndarray]  # before and after, uint8 (H, W, channels), and mask, uint8 (H, W)


@dataclass(frozen=True)
class ShiftsConfig(DataConfig):
    """Settings of F1 against a shift; the flags are made from these fields."""

    REQUIRED: ClassVar = ("output",)
    checkpoint: Path = setting(Path("detector"), "best.pt of a run, its folder, or detector")
    split: str = setting("test", "which split of the data set, with labels")
    largest: int = setting(6, "pixels; shifts of 0, 1, ... up to this are added")
    pairs: int = setting(100, "use at most so many pairs, evenly from the split")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")
    output: Path = setting(None, OUTPUT, parse=Path)


def shifts(config: ShiftsConfig) -> None:
    """F1 against a shift that is added to the later images, as they are and corrected as by --register auto."""
    known_suffix(config.output)
    at_least(config, largest=1, pairs=1)
    from utils.prediction.predictor import ChangePredictor

    predictor = ChangePredictor(config.checkpoint, config.device)
    pairs = find_pairs(config.data_root, config.split, labels=True, folders=config.folders)
    pairs = pairs[:: math.ceil(len(pairs) / config.pairs)]
    reading = decide_to_predict(pairs, reading_from(predictor.about.get("reading")))
    lengths = range(config.largest + 1)
    dates = (read_pair(pair, reading) for pair in pairs)
    scores = f1_by_shift(predictor, dates, lengths)
    with chart(config.output, COLUMN, 2.4) as figure:
        axes = figure.subplots()
        for name, values in scores.items():
            style, colour = LINES[name]
            how: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 2.5, "label": name, "gid": name}
            axes.plot(lengths, [100 * value for value in values], style, **how)
        axes.set(xlabel="added shift of the later image (pixels)", ylabel="F1 (%)", ylim=(0, 100), xticks=lengths)
        axes.grid(alpha=0.25, linewidth=0.4)
        axes.legend(title=f"{len(pairs)} pairs")


def f1_by_shift(predictor: "ChangePredictor", pairs: Iterator[Dates], lengths: range) -> Mapping[str, list[float]]:
    """Return F1 of all pairs together for each length of an added shift, for both names of LINES.

    Pairs are shifted to the right, down, left and up in turn. The same pixels count at all lengths: those
    that every shift leaves known.

    Raises:
        UserError: a pair is too small.
    """
    counts = {name: np.zeros((len(lengths), 3)) for name in LINES}  # true positives, predicted, true
    border = 2 * (lengths[-1] + 3)  # a shift, and its correction
    for number, (before, after, mask) in enumerate(pairs):
        if min(mask.shape) <= 2 * border:
            raise UserError(f"images of {mask.shape[0]} x {mask.shape[1]} pixels are too small for these shifts")
        inner = np.s_[border:-border, border:-border]
        counted, truth = (mask != IGNORE)[inner], (mask == 1)[inner]
        for place, length in enumerate(lengths):
            down, right = DIRECTIONS[number % len(DIRECTIONS)]
            moved, known = unshifted(after, None, -down * length, -right * length)
            for name, (image, _) in {"as it is": (moved, known), "corrected": corrected(before, moved, known)}.items():
                changed = predictor.mask(before, image)[inner] & counted
                counts[name][place] += (changed & truth).sum(), changed.sum(), (truth & counted).sum()
    return {name: (2 * c[:, 0] / np.maximum(c[:, 1] + c[:, 2], 1)).tolist() for name, c in counts.items()}


def unshifted(image: np.ndarray, known: np.ndarray | None, rows: float, columns: float) -> Content:
    """Return an image without a shift, and where it is known; see `Unshifted`."""
    size = image.shape[:2]

    def stored(window: Window) -> Content:
        return image[window.slices], None if known is None else known[window.slices]

    return Unshifted(size, rows, columns).read(Window(0, 0, *size), stored)


def corrected(before: np.ndarray, after: np.ndarray, known: np.ndarray | None) -> Content:
    """Return the later image without its estimated shift, where that is relevant, and where it is known."""
    shift = shift_between(before, after, known)
    return unshifted(after, known, shift.rows, shift.columns) if shift and shift.relevant else (after, known)
