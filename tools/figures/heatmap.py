"""Draws heat maps: a network's evidence for change, and the outputs of its modules."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from datasets.label_codes import decide_alone
from datasets.open_pair import OpenPair
from datasets.pairs import Pair, find_pairs
from datasets.raster import read_label
from datasets.reading import as_rgb, labels_of
from datasets.windows import Window
from tools.figures.grids import Panel, Sheet
from tools.figures.paper import save_sheet, unique_names
from tools.figures.predicted import PairsConfig, by_name, label_picture
from utils.console import UserError
from utils.flags import named_path, setting
from utils.prediction.predictor import ChangePredictor, Dates
from utils.prediction.session import how_to_read
from utils.runtimes.torch_network import TorchNetwork

log = logging.getLogger(__name__)
SHOWN = 3  # scenes, where none are named
KINDS = {  # classes of modules whose outputs are drawn, and the names of the outputs
    "BFAM": ("BFAM T1", "BFAM T2"),
    "BFM": ("BFM",),
    "IAM": ("IAM",),
    "CAM": ("CAM",),
    "AxialAttention": ("axial attention",),
}
EVIDENCE = {
    "unchanged": "A network's map is its logit of “unchanged”; low values are evidence for change.",
    "difference": "A network's map is its logit of “unchanged” minus that of “changed”; below 0 it predicts change.",
}
STAGES = "The other maps are means over the channels of modules' outputs; 1/4: at a quarter of the image's side."
RANGES = "Every map has the colours of the bar over its own range, which is written below it."


@dataclass(frozen=True)
class HeatmapConfig(PairsConfig):
    """Settings of heat maps."""

    REQUIRED: ClassVar = ("data_root", "checkpoints", "output")
    checkpoints: list[tuple[str, Path]] = setting(
        None, "best.pt files or run folders, such as those of an ablation; a column each", parse=named_path
    )
    scenes: list[str] = setting(
        (), f"names of the pairs to show, in order (default: the first {SHOWN} with a change)", parse=str
    )
    evidence: str = setting(
        "unchanged", "the logit of “unchanged”, as published, or its difference to that of “changed”, which decides",
        tuple(EVIDENCE),
    )  # fmt: skip
    stages: bool = setting(False, "show also what BFAM, BFM and IAM, or CAM and axial attention, give at every stage")
    colours: str = setting("jet", "jet, as published, or viridis, whose steps are even to the eye", ("jet", "viridis"))


@dataclass(frozen=True)
class Heat:
    """Outputs of a network and its modules for a pair of (H, W) pixels."""

    logits: np.ndarray  # float (2, H, W), of "unchanged" and "changed"
    stages: dict[str, list[tuple[int, np.ndarray]]]  # by kind of output: stride and mean over channels, float (H, W)


def heatmap(config: HeatmapConfig) -> None:
    """Evidence for change of one or several networks beside the pairs; with --stages, outputs of their modules too."""
    config.check()
    checkpoints = unique_names("--checkpoints", config.checkpoints)
    pairs = pairs_to_show(config)
    predictors = {name: ChangePredictor(path) for name, path in checkpoints.items()}
    scenes = [rows_of(pair, predictors, pairs, config) for pair in pairs]
    save_sheet(sheet_of(scenes, config), config.output, config.width)
    log.info("from the top: %s", ", ".join(pair.name for pair in pairs))
    log.info("%s", config.output)


def pairs_to_show(config: HeatmapConfig) -> list[Pair]:
    """The pairs that --scenes names, or the first with a change; UserError if there are none."""
    pairs = find_pairs(config.data_root, config.split, labels=False, folders=config.folders)
    if config.scenes:
        return by_name(pairs, config.scenes)
    reading = decide_alone([pair.label for pair in pairs if pair.label], labels_of(config))
    changed = (pair for pair in pairs if pair.label and (read_label(pair.label, reading) == 1).any())
    if found := list(islice(changed, SHOWN)):
        return found
    raise UserError(f"{config.data_root}: no pair of {config.split} has a label with a change; name some by --scenes")


def rows_of(
    pair: Pair, predictors: dict[str, ChangePredictor], pairs: Sequence[Pair], config: HeatmapConfig
) -> list[list[Panel]]:
    """The pictures of a pair: one row, or with --stages two rows a network, every second kind of output below."""
    networks, photographs, stages = [], [], []
    for name, predictor in predictors.items():
        with OpenPair(pair, how_to_read(config, predictor, pairs)) as scene:
            whole = Window(0, 0, *scene.size)
            dates, mask = scene.read(whole), scene.mask(whole)
        heat = heat_of(predictor, dates, pair.name)
        evidence = heat.logits[0] - (heat.logits[1] if config.evidence == "difference" else 0)
        networks.append(heat_panel(evidence, name, f"{config.colours}_r"))
        photographs.append([Panel(as_rgb(date), (f"T{n}",), True) for n, date in enumerate(dates, 1)])
        label = Panel(None if mask is None else label_picture(mask), ("label",))
        kinds, colours = heat.stages.items(), config.colours
        stages.append([[heat_panel(values, f"{kind}, 1/{n}", colours) for n, values in maps] for kind, maps in kinds])
    if not config.stages:
        return [[*photographs[0], label, *networks]]
    rows = []
    for (first, second), network, outputs in zip(photographs, networks, stages, strict=True):
        rows += [[first, second, *sum(outputs[::2], [])], [label, network, *sum(outputs[1::2], [])]]
    return rows


@torch.inference_mode()
def heat_of(predictor: ChangePredictor, dates: Dates, name: str = "") -> Heat:
    """Outputs of a network and of its modules for a pair, uint8 (H, W, channels) twice, padded as in prediction.

    An ONNX file, which has no logits, and a pair that needs several windows are UserErrors.
    """
    model, (height, width) = predictor.model, dates[0].shape[:2]
    if not isinstance(model, TorchNetwork):
        raise UserError("--checkpoints: a .onnx file gives probabilities only; name the best.pt that it is made of")
    if height * width > model.at_once:
        raise UserError(f"{name}: {height} x {width} pixels are too many at once; cut tiles: tools.prepare_tiles")
    before, after = (x.to(predictor.device) for x in predictor.collate([dates]))
    with watched(model.network) as found:
        logits = model.network(*model.scaling(before, after))[0]  # (1, 2, H, W), padded
    full = (before.shape[-2], before.shape[-1])

    def cut(values: Tensor) -> np.ndarray:
        """(n, h, w) -> (n, H, W), nearest neighbour, without the padding."""
        return F.interpolate(values[None].float(), full, mode="nearest")[0, :, :height, :width].cpu().numpy()

    stages = {kind: [(full[1] // x.shape[-1], cut(x)[0]) for x in maps.values()] for kind, maps in found.items()}
    return Heat(cut(logits[0]), stages)


@contextmanager
def watched(network: nn.Module) -> Iterator[dict[str, dict[str, Tensor]]]:
    """Within the block, record means over channels of the outputs of modules of KINDS, by kind and stage.

    A stage is a module's path up to its last number. Modules within another of these are left out. If a stage has
    several of a kind, the last counts, which is row(column(p)) of HANet's two attentions.
    """
    found: dict[str, dict[str, Tensor]] = {}

    def see(stage: str, module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        outputs = (output,) if isinstance(output, Tensor) else output
        for kind, values in zip(KINDS[kind_of(module)], outputs, strict=True):
            found.setdefault(kind, {})[stage] = values.mean(1)  # (B, h, w)

    names = [name for name, module in network.named_modules() if kind_of(module)]
    outermost = [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
    stages = {name: match[0] if (match := re.match(r".*\d", name)) else name for name in outermost}
    hooks = [network.get_submodule(n).register_forward_hook(partial(see, stage)) for n, stage in stages.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def kind_of(module: nn.Module) -> str:
    """The key of KINDS that a module, or the class it was rewritten from for prediction, has; empty if none."""
    return next((parent.__name__ for parent in type(module).__mro__ if parent.__name__ in KINDS), "")


def heat_panel(values: np.ndarray, name: str, colours: str) -> Panel:
    """A map in colours over its own range, with the range below."""
    return Panel(coloured(values, colours), (name, f"{values.min():.3g} to {values.max():.3g}"))


def coloured(values: np.ndarray, colours: str) -> np.ndarray:
    """Float (H, W) -> uint8 (H, W, 3), from the lowest value to the highest; a constant has the middle colour."""
    import matplotlib

    low, high = values.min(), values.max()
    shares = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
    return np.asarray(matplotlib.colormaps[colours](shares, bytes=True)[..., :3])


def sheet_of(scenes: Sequence[Sequence[Sequence[Panel]]], config: HeatmapConfig) -> Image.Image:
    """The rows of all scenes as one picture, with notes and the colour bar below."""
    side, gap, rows = config.side, max(6, config.side // 24), [row for scene in scenes for row in scene]
    sheet = Sheet(max(map(len, rows)) * (side + gap) + gap, config.width)
    points = sheet.size_for((line for row in rows for panel in row for line in panel.lines), side)
    for scene in scenes:
        sheet.grow(gap)
        for row in scene:
            sheet.row(row, side, gap, points)
    for note in (EVIDENCE[config.evidence], *[STAGES] * config.stages, RANGES):
        for line in sheet.lines_of(note, sheet.image.width - 2 * gap):
            sheet.text(gap, sheet.grow(sheet.line) + sheet.line / 2, line, anchor="lm")
    what = "logit" if config.evidence == "unchanged" else "difference"
    left, right = f"highest {what}", f"lowest {what}: change"
    if config.stages:
        left, right = f"{left}, lowest mean", f"{right}, highest mean"
    y, size = sheet.grow(2 * sheet.line) + sheet.line, (round(90 * sheet.point), round(6 * sheet.point))
    x = round(sheet.image.width / 2 - size[0] / 2)
    bar = coloured(np.linspace(0, 1, 256)[None], config.colours)
    sheet.picture(bar, x, y - size[1] // 2, size, photograph=False)
    sheet.text(x - sheet.line / 2, y, left, anchor="rm")
    sheet.text(x + size[0] + sheet.line / 2, y, right, anchor="lm")
    return sheet.image
