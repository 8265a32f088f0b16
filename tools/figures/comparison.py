"""Maps of several methods side by side, as the two papers compare them: scored, chosen, zoomed into."""

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import torch

from datasets.label_counts import decide_to_predict, mask_reading
from datasets.layouts import list_images
from datasets.measurements import choose_reading
from datasets.open_pair import read_pair
from datasets.pairs import Pair, find_pairs
from datasets.raster import read_label
from datasets.reading import Reading, as_rgb, labels_of
from datasets.threads import threaded
from datasets.windows import Window
from tools.figures.grids import ROMAN, Captions, Scene, amfnet_grid, hanet_grid
from tools.figures.paper import PAGE, known_suffix, save_sheet
from tools.figures.predicted import by_name, checkpoint_of, label_picture, predict_masks
from utils.change_map import NOT_COUNTED, PALETTES, error_map
from utils.flags import at_least, named_path, setting
from utils.metrics import count_pixels, scores
from utils.settings import BandConfig

log = logging.getLogger(__name__)
GRIDS = {"amfnet": amfnet_grid, "hanet": hanet_grid}
PICKS = ("best", "worst", "most-different")
BOX_SHARE = 7  # a box is a seventh of its scene, so that three times as large it never reaches a box in the middle
METHODS = 24  # letters a to z, but for the label's


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
class ComparisonConfig(BandConfig):
    """Settings of a comparison; the flags are made from these fields."""

    REQUIRED: ClassVar = ("data_root", "methods", "output")
    split: str = setting("test", "which split of it")
    methods: list[tuple[str, Path]] = setting(
        None,
        "folders of masks or of predict_batch.py, or best.pt of a run, in the order of the columns; ours last",
        parse=named_path,
    )
    style: str = setting("amfnet", "whose grid", tuple(GRIDS))
    scenes: list[str] = setting(None, "names of the pairs to show, in order", parse=str)
    pick: Sequence[str] = setting(
        ("most-different", "3"),
        f"in place of --scenes: {'|'.join(PICKS)} N: by F1 of the last method, or by how many pixels methods disagree",
        parse=str,
    )
    boxes: list[tuple[str, Window]] = setting(
        None, "red boxes, in pixels; without them, one where methods err most", parse=_box
    )
    zoom: bool = setting(True, "in HANet's grid, such a box in every scene, enlarged threefold in a corner")
    palette: str | None = setting(None, "colours of the maps (default: those of --style)", tuple(PALETTES), parse=str)
    side: int = setting(256, "pixels of a picture's longer side; that of the images keeps every pixel as it is")
    width: float = setting(PAGE, "printed width in inches")
    output: Path = setting(None, ".png, .pdf or .svg to write", parse=Path)


@dataclass(frozen=True)
class Judged:
    """What the methods made of a pair.

    Attributes:
        counts: int64 (2, 2) of `count_pixels`, of each method that has a mask.
        disagreement: mean over pixels of p (1 - p), p being the share of methods that say changed.
    """

    counts: Mapping[str, torch.Tensor]
    disagreement: float


def comparison(config: ComparisonConfig) -> None:
    """Maps of several methods beside the pairs and labels, with F1 below: AMFNet's grid, or HANet's Fig. 6."""
    check(config)
    pairs = find_pairs(config.data_root, config.split, folders=config.folders)
    with TemporaryDirectory() as scratch:
        places = ((Path(scratch) / f"{number}", *method) for number, method in enumerate(config.methods))
        masks = {name: masks_of(path, pairs, config, place) for place, name, path in places}
        draw(config, pairs, masks)
    log.info("%s", config.output)


def draw(config: ComparisonConfig, pairs: Sequence[Pair], masks: Mapping[str, Mapping[str, Path]]) -> None:
    """Score the methods' masks, choose scenes, and write the grid."""
    reading = decide_to_predict(pairs, choose_reading(pairs, config.bands, config.scale, labels_of(config)))
    how = {name: mask_reading(list(paths.values())) for name, paths in masks.items()}
    judged = dict(zip([p.name for p in pairs], threaded(partial(judge, masks, how, reading), pairs), strict=True))
    shown = choose_scenes(config, pairs, judged)
    scenes = [scene_of(pair, masks, how, reading, config) for pair in shown]
    captions = captions_of(judged, masks, config, any((scene.maps[0] == NOT_COUNTED).any() for scene in scenes))
    save_sheet(GRIDS[config.style](scenes, captions, config.side, config.width), config.output, config.width)
    for number, pair in enumerate(shown):
        log.info("%s: %s", ROMAN[number], pair.name)
    for name, score in zip(captions.names[1:], captions.scores[1:], strict=True):
        log.info("%s: F1 %s", name, score)


def check(config: ComparisonConfig) -> None:
    """Refuse what cannot be drawn, before anything is read.

    Raises:
        ValueError: a suffix or number, two methods of one name, or too many.
    """
    known_suffix(config.output)
    at_least(config, side=32, width=1)
    if len(dict(config.methods)) < len(config.methods):
        raise ValueError("--methods: two of one name; call them NAME=PATH")
    if len(config.methods) > METHODS:
        raise ValueError(f"--methods: {len(config.methods)} of them; a grid has room for {METHODS}")
    words = config.pick
    if len(words) != 2 or words[0] not in PICKS or not words[1].isdecimal() or int(words[1]) < 1:
        raise ValueError(f"--pick {' '.join(words)}: say {', '.join(PICKS)}, and how many, such as --pick worst 3")
    if (count := len(config.scenes or ()) or int(words[1])) > len(ROMAN):
        raise ValueError(f"{count} scenes; a figure has room for {len(ROMAN)}")


def masks_of(path: Path, pairs: Sequence[Pair], config: ComparisonConfig, scratch: Path) -> dict[str, Path]:
    """Masks by the name of their pair: those of a folder, or what a checkpoint or run predicts, kept in `scratch`.

    Raises:
        FileNotFoundError: no such folder or checkpoint.
        ValueError: no pair has a mask there, or one cannot be predicted.
    """
    if checkpoint := checkpoint_of(path):
        return masks_in(predict_masks(checkpoint, config, config.split, scratch), pairs)
    return masks_in(path, pairs)


def masks_in(folder: Path, pairs: Sequence[Pair]) -> dict[str, Path]:
    """Masks by the name of their pair; in an output folder of predict_batch.py, those in its mask/.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no pair has a mask there.
    """
    names = {pair.name for pair in pairs}
    inner = folder / "mask" if (folder / "mask").is_dir() else folder
    found = {path.stem: path for path in list_images(inner) if path.stem in names}
    if not found:
        raise ValueError(f"{folder}: no mask here is called like a pair, such as {pairs[0].name}.png")
    return found


def read_both(path: Path, how: Reading, truth: np.ndarray) -> np.ndarray:
    """A mask as bool (H, W).

    Raises:
        ValueError: damaged, or of another size than the label.
    """
    changed = read_label(path, how) == 1
    if changed.shape != truth.shape:
        raise ValueError(f"{path}: {changed.shape} pixels, but the label has {truth.shape}; masks are never resized")
    return changed


def judge(masks: Mapping[str, Mapping[str, Path]], how: Mapping[str, Reading], reading: Reading, pair: Pair) -> Judged:
    """Count the pixels of a pair for every method, and where they disagree."""
    truth = read_pair(pair, reading)[2]
    found = {name: read_both(paths[pair.name], how[name], truth) for name, paths in masks.items() if pair.name in paths}
    counts = {name: count_pixels(torch.from_numpy(m), torch.from_numpy(truth)) for name, m in found.items()}
    votes = np.sum(list(found.values()), axis=0) if found else np.zeros(truth.shape)
    share = votes / max(len(found), 1)
    return Judged(counts, float((share * (1 - share)).mean()))


def choose_scenes(config: ComparisonConfig, pairs: Sequence[Pair], judged: Mapping[str, Judged]) -> list[Pair]:
    """The pairs to show: those named, or the first by `pick`.

    Of best and worst, pairs whose label has no change are left out: every one of them has an F1 of 0, or none.

    Raises:
        ValueError: a name that no pair has, or no pair has an F1.
    """
    by_name(pairs, list(dict(config.boxes or ())))
    if config.scenes:
        return by_name(pairs, config.scenes)
    how, count = config.pick[0], int(config.pick[1])
    if how == "most-different":
        order = {name: -result.disagreement for name, result in judged.items()}
    else:
        ours = {name: result.counts[config.methods[-1][0]] for name, result in judged.items()
                if config.methods[-1][0] in result.counts}  # fmt: skip
        sign = 1 if how == "worst" else -1
        order = {name: sign * scores(c)["f1"] for name, c in ours.items() if c[1].any()}
    if not order:
        raise ValueError(f"--pick {how}: no label has a changed pixel; name some with --scenes")
    return by_name(pairs, sorted(order, key=lambda name: (order[name], name))[:count])


def scene_of(
    pair: Pair,
    masks: Mapping[str, Mapping[str, Path]],
    how: Mapping[str, Reading],
    reading: Reading,
    config: ComparisonConfig,
) -> Scene:
    """The pictures of a pair."""
    before, after, truth = read_pair(pair, reading)
    dates = as_rgb(before), as_rgb(after)
    palette = PALETTES[config.palette or config.style]
    found = {name: read_both(paths[pair.name], how[name], truth) for name, paths in masks.items() if pair.name in paths}
    maps = [error_map(found[name], truth, palette) if name in found else None for name in masks]
    zoom = config.zoom and config.style == "hanet"
    box = dict(config.boxes or ()).get(pair.name) or (worst_window(truth, list(found.values())) if zoom else None)
    if box and (box.top + box.height > truth.shape[0] or box.left + box.width > truth.shape[1]):
        raise ValueError(f"--boxes {pair.name}: reaches beyond the scene's {truth.shape[1]} x {truth.shape[0]} pixels")
    return Scene(dates, [label_picture(truth), *maps], box)


def worst_window(truth: np.ndarray, found: Sequence[np.ndarray]) -> Window:
    """The square in which the methods err most, all together; without errors, the one with most change."""
    side = min(max(1, max(truth.shape) // BOX_SHARE), *truth.shape)
    wrong = sum(((changed != (truth == 1)) & (truth <= 1)).astype(float) for changed in found)
    total = np.pad((wrong + 1e-6 * (truth == 1)).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    top, left = np.unravel_index(sums.round(9).argmax(), sums.shape)
    return Window(int(top), int(left), side, side)


def captions_of(
    judged: Mapping[str, Judged], masks: Mapping[str, Mapping[str, Path]], config: ComparisonConfig, unknown: bool
) -> Captions:
    """Names, F1 over all pixels of all pairs, and what has to be said of them."""
    notes, numbers = [], []
    for name, paths in masks.items():
        counts = [result.counts[name] for result in judged.values() if name in result.counts]
        f1 = 100 * scores(torch.stack(counts).sum(0))["f1"]
        partial_set = len(paths) < len(judged)
        numbers.append(f"{f1:.2f}{'*' if partial_set else ''}")
        if partial_set:
            notes.append(f"* {name}: F1 over the {len(paths)} of {len(judged)} pairs of which there are masks")
    legend = PALETTES[config.palette or config.style].legend()
    if not unknown:
        del legend["not counted"]
    head = {"amfnet": "label", "hanet": "GT"}[config.style]
    return Captions([head, *masks], ["F1 (%)", *numbers], notes, legend)
