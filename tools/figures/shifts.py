"""Draws F1 against a shift of the later image, with and without its correction, and the error of estimated shifts."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.label_codes import decide_to_predict
from datasets.open_pair import read_pair
from datasets.pairs import Pair, find_pairs
from datasets.reading import IGNORE, PLAIN, reading_from
from datasets.registration import LEAST, SIDES, Shift, Unshifted, shift_between
from datasets.windows import Content, Window
from tools.figures.paper import COLUMN, FigureConfig, chart
from utils.console import UserError
from utils.flags import at_least, setting
from utils.prediction.predictor import ChangePredictor
from utils.settings import DataConfig

log = logging.getLogger(__name__)
MEASURABLE = 2 * min(SIDES)  # pixels; in smaller images no window fits twice, see datasets/registration.py
LINES = {"as it is": ("--", "#d55e00"), "corrected": ("-", "#0072b2")}
DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # whole pixels, so that adding a shift interpolates nothing
Points = dict[str, list[tuple[float, float]]]  # by kind of pair: length of an added shift, and error of the estimate
Dates = tuple[np.ndarray, np.ndarray, np.ndarray]  # before and after, uint8 (H, W, channels), and mask, uint8 (H, W)


@dataclass(frozen=True)
class ShiftErrorsConfig(FigureConfig, DataConfig):
    """Settings of the error of estimated shifts."""

    split: str = setting("test", "which split of the data set, with labels")
    largest: int = setting(20, "pixels; longest shift that is added")
    pairs: int = setting(100, "use at most so many pairs, evenly from the split")


@dataclass(frozen=True)
class ShiftsConfig(ShiftErrorsConfig):
    """Settings of F1 against a shift."""

    largest: int = setting(6, "pixels; shifts of 0, 1, ... up to this are added")
    checkpoint: Path = setting(Path("detector"), "best.pt of a run, its folder, or detector")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")


def pairs_of(config: ShiftErrorsConfig) -> list[Pair]:
    """The pairs to use, evenly from the split."""
    at_least(config, largest=1, pairs=1)
    pairs = find_pairs(config.data_root, config.split, labels=True, folders=config.folders)
    return pairs[:: math.ceil(len(pairs) / config.pairs)]


def shifts(config: ShiftsConfig) -> None:
    """F1 against a shift that is added to the later images, as they are and corrected as by --register auto."""
    pairs, lengths = pairs_of(config), range(config.largest + 1)
    predictor = ChangePredictor(config.checkpoint, config.device)
    reading = decide_to_predict(pairs, reading_from(predictor.about.get("reading")))
    scores = f1_by_shift(predictor, (read_pair(pair, reading) for pair in pairs), lengths)
    with chart(config.output, COLUMN, 2.4) as figure:
        axes = figure.subplots()
        for name, values in scores.items():
            style, colour = LINES[name]
            how: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 2.5, "label": name, "gid": name}
            axes.plot(lengths, [100 * value for value in values], style, **how)
        axes.set(xlabel="added shift of the later image (pixels)", ylabel="F1 (%)", ylim=(0, 100), xticks=lengths)
        axes.grid(alpha=0.25, linewidth=0.4)
        axes.legend(title=f"{len(pairs)} pairs")


def shift_errors(config: ShiftErrorsConfig) -> None:
    """Error of the estimated shift of images that were shifted, and how often unlike places seem shifted."""
    pairs = pairs_of(config)
    reading = decide_to_predict(pairs, PLAIN)
    dates = [read_pair(pair, reading) for pair in pairs]
    if max(min(mask.shape) for _, _, mask in dates) < MEASURABLE:
        raise UserError(f"{config.data_root}: too small to measure shifts; pass images of {MEASURABLE} pixels or more")
    found, claims = errors_by_kind(dates, config.largest)
    with chart(config.output, COLUMN, 2.4) as figure:
        axes = figure.subplots()
        for (name, points), colour in zip(found.items(), ("#d55e00", "#0072b2"), strict=True):
            reliable = np.array([point for point in points if math.isfinite(point[1])]).reshape(-1, 2)
            axes.plot(*reliable.T, ".", color=colour, markersize=3, label=name, gid=name)
            errors = np.quantile(reliable[:, 1], (0.5, 0.9)) if len(reliable) else ()
            said = ", median error {:.2f}, 90 % below {:.2f} pixels".format(*errors) if len(errors) else ""
            log.info("%s: reliable %d of %d%s", name, len(reliable), len(points), said)
        axes.set(xlabel="added shift (pixels)", ylabel="error of the estimate (pixels)", ylim=(0, 1))
        axes.legend()
    log.info("unlike places: reliable %d of %d", sum(claims), len(claims))


def errors_by_kind(pairs: Sequence[Dates], largest: float) -> tuple[Points, list[bool]]:
    """Return errors against the pair's own shift, infinite if not reliable; whether unlike places seem shifted."""
    rng, found = np.random.default_rng(0), Points({"one date": [], "two dates": []})
    for before, after, _ in pairs:
        darker = np.uint8((0.7 * before + rng.normal(0, 4, before.shape)).clip(0, 255))
        cases = ("one date", darker, Shift(0, 0, 0, LEAST, LEAST)), ("two dates", after, shift_between(before, after))
        for length, turn in rng.random((4, 2)) * (largest, math.tau):
            rows, columns = length * math.cos(turn), length * math.sin(turn)
            for name, image, own in cases:
                shift, error = shift_between(before, *displaced(image, rows, columns)), math.inf
                if own and shift and own.confident and shift.confident:
                    error = math.hypot(shift.rows - own.rows - rows, shift.columns - own.columns - columns)
                found[name].append((length, error))
    others = [(pairs[i][0], pairs[i - step][1]) for step in range(1, min(4, len(pairs))) for i in range(len(pairs))]
    unlike = [shift_between(*dates) for dates in others if dates[0].shape == dates[1].shape]
    return found, [shift is not None and shift.confident for shift in unlike]


def displaced(image: np.ndarray, rows: float, columns: float) -> Content:
    """Return uint8 (H, W, channels) moved down and to the right, by splines, and where it is known."""
    from scipy import ndimage

    stored = np.moveaxis(image.astype(np.float32), -1, 0)
    bands = [ndimage.shift(band, (rows, columns), order=5, mode="mirror") for band in stored]
    known = ndimage.shift(np.ones(image.shape[:2], np.uint8), (rows, columns), order=0) > 0
    return np.stack(bands, -1).round().clip(0, 255).astype(np.uint8), known


def f1_by_shift(predictor: ChangePredictor, pairs: Iterator[Dates], lengths: range) -> Mapping[str, list[float]]:
    """Return F1 of all pairs together for each length of an added shift, for both names of LINES.

    Pairs are shifted to the right, down, left and up in turn. The same pixels count at all lengths: those that every
    shift leaves known. A pair without any is a UserError.
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
