"""Every setting of prediction; precedence is default < flag, and what neither says the checkpoint does."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from utils.change_map import PALETTES
from utils.console import UserError
from utils.flags import at_least, given_flags, named_path, setting
from utils.prediction.blending import BATCH, TILE, TTA
from utils.prediction.geo import NO_DATA
from utils.settings import BACKENDS, PRECISIONS, BandConfig

# what can be saved, and utils.prediction.maps draws: PNGs with their channels and bits
PNGS = {
    "mask": (1, 8),
    "error": (3, 8),
    "overlay": (3, 8),
    "probability": (1, 8),
    "probability16": (1, 16),
}
TIFFS = {  # value that means 1, value that means no data, type
    "geo": (255, NO_DATA, "uint8"),
    "geo-probability": (254, 255, "uint8"),
    "geo-probability16": (65534, 65535, "uint16"),
}
PLACED = {**dict.fromkeys(TIFFS, "tif"), "polygons": "geojson"}  # suffix; of scenes that say where on earth they lie
KINDS = (*PNGS, *PLACED)


def _threshold(word: str) -> float | str:
    try:
        return word if word == "tuned" else float(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is neither a number nor tuned") from None


def _some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A parser of words with commas between them, each of which must be known."""

    def parse(word: str) -> tuple[str, ...]:
        words = known if word == "all" else tuple(word.split(","))
        if unknown := [each for each in words if each not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not known; choose of {', '.join(known)}, or all")
        return tuple(each for each in known if each in words)

    return parse


@dataclass(frozen=True)
class PredictConfig(BandConfig):
    """Settings of a prediction; the flags of predict_batch.py are made from these fields."""

    checkpoint: Path = setting(Path("best.pt"), "best.pt of a run; it says which network, statistics and threshold")
    split: str = setting("test", "which split of it")
    before: Path | None = setting(None, "earlier image, or folder of them, in place of --data-root", parse=Path)
    after: Path | None = setting(None, "later image, or folder of them", parse=Path)
    label: Path | None = setting(None, "label, or folder of them, if there is any", parse=Path)
    output: Path | None = setting(None, "folder of the maps (default: predict-SPLIT beside the checkpoint)", parse=Path)
    save: tuple[str, ...] = setting(
        ("mask", "error", "geo", "polygons"), f"what to write, as far as a pair can have it: {','.join(KINDS)}, or all",
        parse=_some_of(KINDS),
    )  # fmt: skip
    palette: str = setting("amfnet", "colours of error maps", tuple(PALETTES))
    threshold: float | str | None = setting(
        None, "probability in [0, 1] over which a pixel is changed, or tuned: the best one on val", parse=_threshold
    )
    min_area: int = setting(0, "pixels; smaller changed regions are called unchanged")
    tile_size: int | None = setting(
        None, f"side of a window in pixels; 0: every image whole (default: whole up to 1024 x 1024, then {TILE})",
        parse=int,
    )  # fmt: skip
    overlap: int | None = setting(None, "pixels that windows share (default: a quarter of their side)", parse=int)
    tta: tuple[str, ...] = setting(
        (), f"take the mean over views: {','.join(TTA)}, or all; as many times slower", parse=_some_of(TTA)
    )
    batch_size: int | None = setting(None, f"windows at a time (default: {BATCH}, fewer of large ones)", parse=int)
    precision: str = setting(
        PRECISIONS[0], "bf16: faster on processors that know it; moves some pixels, and metrics.json has how many",
        PRECISIONS,
    )  # fmt: skip
    backend: str = setting(
        BACKENDS[0], "what runs the network; compile takes minutes for every size of windows; onnxruntime and openvino "
        "want requirements-export.txt",
        BACKENDS,
    )  # fmt: skip
    keep_memory: bool = setting(
        True, "keep freed memory for the next batch in place of giving it back to the system (Linux): faster"
    )
    report: bool = setting(True, "write report.html, a page that shows every pair with its map")
    skip_existing: bool = setting(False, "go on: leave out pairs whose maps are there")
    overwrite: bool = setting(False, "remove the maps of an earlier prediction from the output folder, and start again")
    masks: list[tuple[str, Path]] = setting(
        None, "score folders of masks against --label, without a network", parse=named_path
    )
    num_workers: int = setting(min(4, os.cpu_count() or 1), "threads that read, and as many that write")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")


def parse_predict_config(argv: Sequence[str] | None) -> PredictConfig:
    """Flags -> settings; a run folder stands for its best.pt.

    Raises:
        UserError: a number out of range, or flags that do not go together.
    """
    given = given_flags(PredictConfig, "Draw change maps with a trained network.", argv)
    config = PredictConfig(**given)
    bounds = {"batch_size": 1, "num_workers": 0, "min_area": 0, "tile_size": 0, "overlap": 0}
    at_least(config, **{name: bound for name, bound in bounds.items() if getattr(config, name) is not None})
    if config.skip_existing and config.overwrite:
        raise UserError("--skip-existing goes on with a prediction and --overwrite starts it again: give one of them")
    if config.masks:
        if config.label is None or given.keys() & {"before", "after", "data_root", "split", "checkpoint"}:
            raise UserError("--masks goes with --label, the folder of the truth, and wants neither network nor images")
        return config
    if ("before" in given) != ("after" in given) or ("label" in given and "before" not in given):
        raise UserError("--before and --after go together, and --label goes with them: the folders of a set of pairs")
    if "before" in given and given.keys() & {"data_root", "split"}:
        raise UserError("--before and --after stand in place of --data-root and --split: give one or the other")
    if isinstance(config.threshold, float) and not 0 <= config.threshold <= 1:
        raise UserError(f"--threshold {config.threshold}: must lie in [0, 1]")
    return replace(config, checkpoint=config.checkpoint / "best.pt") if config.checkpoint.is_dir() else config
