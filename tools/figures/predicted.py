"""Checkpoints where figures take masks, and what figures of pairs share."""

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from datasets.pairs import Pair
from utils.change_map import NOT_COUNTED, change_map
from utils.prediction.config import PredictConfig
from utils.prediction.session import predict
from utils.prediction.sharing import Share
from utils.settings import BandConfig

SUFFIXES = (".pt", ".pth", ".onnx")


def checkpoint_of(path: Path) -> Path | None:
    """The checkpoint that a path names: a file, or best.pt of a run folder; None: it is a folder of something else."""
    if path.is_dir():
        inner = path / "best.pt"
        return inner if inner.is_file() and not (path / "mask").is_dir() else None
    return path if path.is_file() or path.suffix.lower() in SUFFIXES else None


def predict_masks(checkpoint: Path, config: BandConfig, split: str, output: Path) -> Path:
    """Write the masks that predict_batch.py would, with a bar of progress; returns their folder.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: it is none, does not take these images, or a pair cannot be predicted.
    """
    how = {each.name: getattr(config, each.name) for each in fields(BandConfig)}
    wanted = PredictConfig(**how, checkpoint=checkpoint, split=split, output=output, save=("mask",), report=False)
    summary = logging.getLogger("utils.prediction.summary")
    before = summary.level
    summary.setLevel(logging.WARNING)  # scores are the figure's to tell, and its masks lie where nobody should look
    try:
        failed = predict(wanted, Share())
    finally:
        summary.setLevel(before)
    if failed:
        raise ValueError(f"{checkpoint}: {failed} pairs could not be predicted; the first is named above")
    return output


def by_name(pairs: Sequence[Pair], names: Sequence[str]) -> list[Pair]:
    """The pairs of these names, in this order.

    Raises:
        ValueError: a name that no pair has.
    """
    known = {pair.name: pair for pair in pairs}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{unknown[0]}: no such pair among these {len(pairs)}; the first is {pairs[0].name}")
    return [known[name] for name in names]


def label_picture(mask: np.ndarray) -> np.ndarray:
    """White where a mask is changed, black where not, grey where unknown: (H, W) -> uint8 (H, W, 3)."""
    return np.where((mask <= 1)[..., None], change_map(mask == 1)[..., None], np.array(NOT_COUNTED, np.uint8))
