"""What figures of pairs share: settings, masks predicted by checkpoints, pairs by name, pictures of labels."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from datasets.pairs import Pair
from tools.figures.paper import PAGE, FigureConfig
from utils.change_map import NOT_COUNTED, change_map
from utils.console import UserError
from utils.flags import at_least, setting
from utils.prediction.config import PredictConfig
from utils.prediction.session import predict
from utils.settings import BandConfig

SUFFIXES = (".pt", ".pth", ".onnx")


@dataclass(frozen=True)
class PairsConfig(FigureConfig, BandConfig):
    """Settings of every figure of pairs."""

    split: str = setting("test", "split of the data set")
    scenes: list[str] = setting((), "names of the pairs to show, in order", parse=str)
    side: int = setting(256, "pixels of a picture's longer side; the images' own side keeps every pixel")
    width: float = setting(PAGE, "printed width in inches")

    def check(self) -> None:
        """Raise UserError for a wrong size, before anything is read."""
        at_least(self, side=32, width=1)


def checkpoint_of(path: Path) -> Path | None:
    """The checkpoint at a path: the file itself, or best.pt of a run folder; None for any other folder."""
    if path.is_dir():
        inner = path / "best.pt"
        return inner if inner.is_file() and not (path / "mask").is_dir() else None
    return path if path.is_file() or path.suffix.lower() in SUFFIXES else None


def predict_masks(checkpoint: Path, config: PairsConfig, output: Path) -> Path:
    """Write the masks that predict_batch.py would write, and return their folder; UserError if a pair has none."""
    how = {each.name: getattr(config, each.name) for each in fields(BandConfig)}
    wanted = PredictConfig(
        **how, checkpoint=checkpoint, split=config.split, output=output, save=("mask",), report=False
    )
    summary = logging.getLogger("utils.prediction.summary")
    before = summary.level
    summary.setLevel(logging.WARNING)  # the figure logs the scores, and the folder of masks is temporary
    try:
        failed = predict(wanted)
    finally:
        summary.setLevel(before)
    if failed:
        raise UserError(f"{checkpoint}: {failed} pairs could not be predicted; the first is named above")
    return output


def by_name(pairs: Sequence[Pair], names: Sequence[str]) -> list[Pair]:
    """The pairs of these names, in this order; UserError for a name that no pair has."""
    known = {pair.name: pair for pair in pairs}
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"{unknown[0]}: no such pair among these {len(pairs)}; the first is {pairs[0].name}")
    return [known[name] for name in names]


def label_picture(mask: np.ndarray) -> np.ndarray:
    """White where a mask is changed, black where unchanged, grey where unknown: (H, W) -> uint8 (H, W, 3)."""
    return np.where((mask <= 1)[..., None], change_map(mask == 1)[..., None], np.array(NOT_COUNTED, np.uint8))
