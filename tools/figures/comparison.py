"""Draws maps of several methods side by side, as the two papers compare them."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from datasets.label_codes import decide_to_predict, mask_reading
from datasets.layouts import list_images
from datasets.measurements import choose_reading
from datasets.open_pair import read_pair
from datasets.pairs import Pair, find_pairs
from datasets.raster import read_label
from datasets.reading import PixelFormat, as_rgb, labels_of
from datasets.threads import threaded
from datasets.windows import Window
from tools.figures.grids import ROMAN, Captions, ComparedPair, amfnet_grid, hanet_grid
from tools.figures.paper import save_sheet, unique_names
from tools.figures.predicted import PairsConfig, by_name, checkpoint_of, label_picture, predict_masks
from utils.change_map import NOT_COUNTED, PALETTES, error_map
from utils.console import UserError
from utils.flags import named_path, setting
from utils.metrics import count_pixels, scores

log = logging.getLogger(__name__)
GRIDS = {"amfnet": (amfnet_grid, "label"), "hanet": (hanet_grid, "GT")}  # style: grid, its word for the label
PICKS = ("best", "worst", "most-different")
BOX_SHARE = 7  # a box is a seventh of its scene; enlarged threefold in a corner, it never covers a box in the middle
METHODS = 24  # most methods; with the label, letters a to y


def _box(word: str) -> tuple[str, Window]:
    name, _, numbers = word.rpartition("=")
    try:
        left, top, side = (int(number) for number in numbers.split(","))
    except ValueError:
        left = top = side = -1
    if not name or min(left, top) < 0 or side < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not SCENE=LEFT,TOP,SIDE in pixels, such as scene_3=40,12,32")
    return name, Window(top, left, side, side)


@dataclass(frozen=True)
class ComparisonConfig(PairsConfig):
    """Settings of a comparison."""

    REQUIRED: ClassVar = ("data_root", "methods", "output")
    methods: list[tuple[str, Path]] = setting(
        None,
        "folders of masks or of predict_batch.py, or best.pt of a run, in the order of the columns; your own last",
        parse=named_path,
    )
    style: str = setting("amfnet", "whose grid", tuple(GRIDS))
    pick: Sequence[str] = setting(
        ("most-different", "3"),
        f"in place of --scenes: {'|'.join(PICKS)} N: by F1 of the last method, or by how many pixels methods disagree",
        parse=str,
    )
    boxes: list[tuple[str, Window]] = setting(
        (), "red boxes, in pixels; without them, one where methods err most", parse=_box
    )
    zoom: bool = setting(True, "in HANet's grid, such a box in every scene, enlarged threefold in a corner")
    palette: str | None = setting(None, "colours of the maps (default: those of --style)", tuple(PALETTES), parse=str)


@dataclass(frozen=True)
class Masks:
    """Masks of the methods."""

    paths: Mapping[str, Mapping[str, Path]]  # by method and by name of the pair
    reading: Mapping[str, PixelFormat]  # how the masks of each method are read

    def read(self, name: str, truth: np.ndarray) -> dict[str, np.ndarray]:
        """Masks of a pair by method, bool (H, W); UserError if one is damaged or differs in size from the label."""
        found = {}
        for method, paths in self.paths.items():
            if name in paths:
                found[method] = changed = read_label(paths[name], self.reading[method]) == 1
                if changed.shape != truth.shape:
                    sizes = f"{changed.shape} pixels, but the label has {truth.shape}"
                    raise UserError(f"{paths[name]}: {sizes}; masks are never resized")
        return found


class Judged(NamedTuple):
    """Scores of the methods on a pair."""

    counts: Mapping[str, torch.Tensor]  # int64 (2, 2) of `count_pixels`, of each method that has a mask
    disagreement: float  # mean over pixels of p (1 - p), where p is the share of methods that predict change


def comparison(config: ComparisonConfig) -> None:
    """Maps of several methods beside the pairs and labels, with F1 below: AMFNet's grid, or HANet's Fig. 6."""
    check(config)
    pairs = find_pairs(config.data_root, config.split, folders=config.folders)
    with TemporaryDirectory() as scratch:
        paths = {
            name: masks_of(path, pairs, config, Path(scratch) / f"{number}")
            for number, (name, path) in enumerate(config.methods)
        }
        masks = Masks(paths, {name: mask_reading(list(found.values())) for name, found in paths.items()})
        reading = decide_to_predict(pairs, choose_reading(pairs, config.bands, config.scale, labels_of(config)))
        judged = dict(zip([p.name for p in pairs], threaded(partial(judge, masks, reading), pairs), strict=True))
        shown = choose_pairs(config, pairs, judged)
        compared = [pictures_of(pair, masks, reading, config) for pair in shown]
    unknown = any((pair.maps[0] == NOT_COUNTED).any() for pair in compared)
    captions = captions_of(judged, masks, config, unknown)
    grid, _ = GRIDS[config.style]
    save_sheet(grid(compared, captions, config.side, config.width), config.output, config.width)
    for numeral, pair in zip(ROMAN, shown, strict=False):
        log.info("%s: %s", numeral, pair.name)
    for name, score in zip(captions.names[1:], captions.scores[1:], strict=True):
        log.info("%s: F1 %s", name, score)
    log.info("%s", config.output)


def check(config: ComparisonConfig) -> None:
    """Raise UserError for wrong settings, before anything is read."""
    config.check()
    unique_names("--methods", config.methods)
    if len(config.methods) > METHODS:
        raise UserError(f"--methods: {len(config.methods)} given; a grid has room for {METHODS}")
    words = config.pick
    if len(words) != 2 or words[0] not in PICKS or not words[1].isdecimal() or int(words[1]) < 1:
        raise UserError(f"--pick {' '.join(words)}: pass {', '.join(PICKS)}, and how many, such as --pick worst 3")
    if (count := len(config.scenes) or int(words[1])) > len(ROMAN):
        raise UserError(f"{count} scenes; a figure has room for {len(ROMAN)}")


def masks_of(path: Path, pairs: Sequence[Pair], config: ComparisonConfig, scratch: Path) -> dict[str, Path]:
    """Masks by the name of their pair, of a folder or predicted by a checkpoint into `scratch`; UserError if none."""
    checkpoint = checkpoint_of(path)
    folder = predict_masks(checkpoint, config, scratch) if checkpoint else path
    names = {pair.name for pair in pairs}
    inner = folder / "mask" if (folder / "mask").is_dir() else folder
    found = {path.stem: path for path in list_images(inner) if path.stem in names}
    if not found:
        raise UserError(f"{folder}: no mask here has the name of a pair, such as {pairs[0].name}.png")
    return found


def judge(masks: Masks, reading: PixelFormat, pair: Pair) -> Judged:
    """Count the pixels of a pair for every method, and measure how much the methods disagree."""
    truth = read_pair(pair, reading)[2]
    found = masks.read(pair.name, truth)
    counts = {name: count_pixels(torch.from_numpy(m), torch.from_numpy(truth)) for name, m in found.items()}
    share = np.mean(list(found.values()), axis=0) if found else np.zeros(truth.shape)
    return Judged(counts, float((share * (1 - share)).mean()))


def choose_pairs(config: ComparisonConfig, pairs: Sequence[Pair], judged: Mapping[str, Judged]) -> list[Pair]:
    """The pairs to show: those named, or the first by `pick`; UserError if there are none.

    Best and worst leave out pairs whose label has no change: their F1 is 0 for every method.
    """
    by_name(pairs, list(dict(config.boxes)))
    if config.scenes:
        return by_name(pairs, config.scenes)
    how, count = config.pick[0], int(config.pick[1])
    if how == "most-different":
        order = {name: -result.disagreement for name, result in judged.items()}
    else:
        sign, last = 1 if how == "worst" else -1, config.methods[-1][0]
        counts = {name: result.counts[last] for name, result in judged.items() if last in result.counts}
        order = {name: sign * scores(each)["f1"] for name, each in counts.items() if each[1].any()}
    if not order:
        raise UserError(f"--pick {how}: no label has a changed pixel; name pairs with --scenes")
    return by_name(pairs, sorted(order, key=lambda name: (order[name], name))[:count])


def pictures_of(pair: Pair, masks: Masks, reading: PixelFormat, config: ComparisonConfig) -> ComparedPair:
    """The pictures of a pair, with the box that is enlarged."""
    before, after, truth = read_pair(pair, reading)
    found, palette = masks.read(pair.name, truth), PALETTES[config.palette or config.style]
    maps = [error_map(found[name], truth, palette) if name in found else None for name in masks.paths]
    box = dict(config.boxes).get(pair.name)
    if not box and config.zoom and config.style == "hanet":
        box = worst_window(truth, list(found.values()))
    if box and (box.top + box.height > truth.shape[0] or box.left + box.width > truth.shape[1]):
        raise UserError(f"--boxes {pair.name}: reaches beyond the scene's {truth.shape[1]} x {truth.shape[0]} pixels")
    return ComparedPair((as_rgb(before), as_rgb(after)), [label_picture(truth), *maps], box)


def worst_window(truth: np.ndarray, found: Sequence[np.ndarray]) -> Window:
    """The square with most errors of all methods; without errors, the one with most change."""
    side = min(max(1, max(truth.shape) // BOX_SHARE), *truth.shape)
    wrong = sum(((changed != (truth == 1)) & (truth <= 1)).astype(float) for changed in found)
    total = np.pad((wrong + 1e-6 * (truth == 1)).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    top, left = np.unravel_index(sums.round(9).argmax(), sums.shape)
    return Window(int(top), int(left), side, side)


def captions_of(judged: Mapping[str, Judged], masks: Masks, config: ComparisonConfig, unknown: bool) -> Captions:
    """Names, F1 over all pixels of all pairs, and notes on incomplete methods; unknown: maps have unscored pixels."""
    notes, numbers = [], []
    for name, paths in masks.paths.items():
        counts = [result.counts[name] for result in judged.values() if name in result.counts]
        star = "*" if len(paths) < len(judged) else ""
        numbers.append(f"{100 * scores(torch.stack(counts).sum(0))['f1']:.2f}{star}")
        if star:
            notes.append(f"* {name}: F1 over the {len(paths)} of {len(judged)} pairs that have masks")
    legend = PALETTES[config.palette or config.style].legend()
    if not unknown:
        del legend["not counted"]
    return Captions([GRIDS[config.style][1], *masks.paths], ["F1 (%)", *numbers], notes, legend)
