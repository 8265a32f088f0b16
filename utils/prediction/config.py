"""Every setting of prediction. A flag overrides a default; the checkpoint gives what neither sets."""

import argparse
import math
import os
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

from utils.change_map import PALETTES
from utils.console import UserError
from utils.flags import at_least, given_flags, named_path, setting
from utils.prediction.blending import BATCH, TILE, TTA
from utils.settings import BACKENDS, PRECISIONS, BandConfig, find_checkpoint

NO_DATA = 127  # in a map of 0 and 255
# outputs, which utils.prediction.maps draws
PNGS = {  # channels, bits
    "mask": (1, 8),
    "error": (3, 8),
    "overlay": (3, 8),
    "probability": (1, 8),
    "probability16": (1, 16),
}
TIFFS: dict[str, tuple[int | None, int]] = {  # value of probability 1, value of no data
    "geo": (None, NO_DATA),
    "geo-probability": (254, 255),
    "geo-probability16": (65534, 65535),
}
POLYGONS = {"polygons": "geojson", "geopackage": "gpkg"}  # suffixes
PLACED = {**dict.fromkeys(TIFFS, "tif"), **POLYGONS}  # only for georeferenced scenes
KINDS = (*PNGS, *PLACED)
REGISTER = ("off", "report", "auto")
PAIRS = ("consecutive", "first")  # with which date of a series each later one is compared
DRAWN_FROM = ("mask", "geo")  # outputs that change-date maps are drawn from


def _threshold(word: str) -> float | str:
    try:
        return word if word == "tuned" else float(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is neither a number nor tuned") from None


def _some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """A parser of words separated by commas, each of which must be known."""

    def parse(word: str) -> tuple[str, ...]:
        words = {"all": known, "none": ()}.get(word, tuple(word.split(",")))
        if unknown := [each for each in words if each not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not known; choose of {', '.join(known)}, or all")
        return tuple(each for each in known if each in words)

    return parse


@dataclass(frozen=True)
class PredictConfig(BandConfig):
    """Settings of a prediction; the fields are the flags of predict_batch.py."""

    checkpoint: Path = setting(
        Path("detector"), "best.pt of a run, its folder, a .onnx file, or detector: the network of this repository"
    )
    split: str = setting("test", "which split of the data set")
    before: Path | None = setting(None, "earlier image, or folder of them, in place of --data-root", parse=Path)
    after: Path | None = setting(None, "later image, or folder of them", parse=Path)
    label: Path | None = setting(None, "label, or folder of them, if there is any", parse=Path)
    series: Path | None = setting(
        None, "more than two dates: folder with a folder of images a place, or of one place; or a list", parse=Path
    )
    pairs: str = setting(PAIRS[0], "compare each date of a series with the one before, or with the first", PAIRS)
    output: Path | None = setting(
        None, "folder of the maps (default: predict-SPLIT beside the checkpoint; of the detector, here)", parse=Path
    )
    save: tuple[str, ...] = setting(
        ("mask", "error", "geo", "polygons", "geopackage"),
        f"what to write, as far as a pair has a label and a georeference: {','.join(KINDS)}, or all",
        parse=_some_of(KINDS),
    )  # fmt: skip
    palette: str = setting("amfnet", "colours of error maps", tuple(PALETTES))
    threshold: float | str | None = setting(
        None, "probability in [0, 1] above which a pixel is changed, or tuned: the best on val", parse=_threshold
    )
    origin: list[float] = setting(
        None, "upper left corner of --before in metres: maps of an image without georeference get a world file",
        parse=float,
    )  # fmt: skip
    min_area: int = setting(0, "pixels; smaller changed regions become unchanged")
    tile_size: int | None = setting(
        None, f"side of a window in pixels; 0: every image whole (default: whole up to 1024 x 1024, then {TILE})",
        parse=int,
    )  # fmt: skip
    overlap: int | None = setting(None, "pixels that windows share (default: a quarter of their side)", parse=int)
    tta: tuple[str, ...] | None = setting(
        None,
        f"test-time augmentation: {','.join(TTA)}, all or none; views are averaged, scales also looks at half the "
        "resolution and keeps the larger probability (default: as the checkpoint has it)",
        parse=_some_of(TTA),
    )
    batch_size: int | None = setting(None, f"windows at a time (default: {BATCH}, fewer of large ones)", parse=int)
    precision: str = setting(
        PRECISIONS[0], "bf16: faster on processors that have it; some pixels flip, and metrics.json has how many",
        PRECISIONS,
    )  # fmt: skip
    backend: str = setting(
        BACKENDS[0],
        "what runs the network; compile takes minutes per window size; onnxruntime, openvino: requirements-export.txt",
        BACKENDS,
    )
    resample: bool = setting(True, "resample images whose pixels are not of the size that the network was trained on")
    register: str = setting(
        REGISTER[0],
        "shift of the later image: report measures it, auto also corrects it where it is reliable and over 0.5 pixel",
        REGISTER,
    )
    keep_memory: bool = setting(True, "keep freed memory for the next batch (Linux): faster")
    report: bool = setting(True, "write report.html, a page with every pair and its map")
    skip_existing: bool = setting(False, "resume: skip pairs whose maps exist")
    overwrite: bool = setting(False, "replace the maps of an earlier prediction in the output folder")
    masks: list[tuple[str, Path]] = setting(
        None, "score folders of masks against --label, without a network", parse=named_path
    )
    num_workers: int = setting(min(4, os.cpu_count() or 1), "number of threads that read, and of those that write")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")


def _checked_series(config: PredictConfig, given: AbstractSet[str]) -> PredictConfig:
    """Return the settings, with the outputs that change-date maps are drawn from."""
    if config.series is None:
        if "pairs" in given:
            raise UserError("--pairs says how the dates of --series are compared: give both, or neither")
        return config
    if given & {"before", "after", "data_root", "split"}:
        raise UserError("--series replaces --before, --after, --data-root and --split: give one or the other")
    if config.register == "auto" and config.pairs != "first":
        raise UserError("--register auto moves each date onto the one it is compared with: add --pairs first")
    return replace(config, save=tuple(kind for kind in KINDS if kind in {*config.save, *DRAWN_FROM}))


def parse_predict_config(argv: Sequence[str] | None) -> PredictConfig:
    """Return the settings of a command line; a run folder means its best.pt.

    Raises:
        UserError: a number is out of range, or flags exclude each other.
    """
    given = given_flags(PredictConfig, "Draw change maps with a trained network.", argv)
    config = PredictConfig(**given)
    bounds = {"batch_size": 1, "num_workers": 0, "min_area": 0, "tile_size": 0, "overlap": 0}
    at_least(config, **{name: bound for name, bound in bounds.items() if getattr(config, name) is not None})
    if config.skip_existing and config.overwrite:
        raise UserError("--skip-existing resumes a prediction and --overwrite replaces it: give one of them")
    if config.masks:
        if config.label is None or given.keys() & {"before", "after", "data_root", "split", "checkpoint", "series"}:
            raise UserError("--masks needs --label, the folder of the truth, and takes neither network nor images")
        return config
    if ("before" in given) != ("after" in given) or ("label" in given and "before" not in given):
        raise UserError("give --before and --after together, and --label only with them")
    if "before" in given and given.keys() & {"data_root", "split"}:
        raise UserError("--before and --after replace --data-root and --split: give one or the other")
    config = _checked_series(config, given.keys())
    if config.origin is not None:
        if len(config.origin) != 2 or not all(map(math.isfinite, config.origin)):
            raise UserError("--origin takes two numbers, X and Y of the upper left corner")
        if config.pixel_size is None or config.before is None or config.before.is_dir():
            raise UserError("--origin places one pair: give --pixel-size, and two files as --before and --after")
    if isinstance(config.threshold, float) and not 0 <= config.threshold <= 1:
        raise UserError(f"--threshold {config.threshold}: must lie in [0, 1]")
    return replace(config, checkpoint=find_checkpoint(config.checkpoint))
