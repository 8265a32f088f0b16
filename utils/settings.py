"""Settings that training, prediction and tools share: the place of a data set, and how its files are read."""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from utils.flags import setting

PRECISIONS = ("fp32", "bf16")  # of the arithmetic, the usual first
BACKENDS = ("torch", "compile", "onnxruntime", "openvino")  # what runs a network, the usual first
DETECTOR = Path(__file__).parents[1] / "checkpoints" / "detector.pt"  # trained weights of this repository


def find_checkpoint(name: Path | str) -> Path:
    """The file of a checkpoint: "detector" is the one of this repository, a run folder means its best.pt."""
    path = DETECTOR if str(name) == "detector" else Path(name)
    return path / "best.pt" if path.is_dir() else path


def _bands(word: str) -> tuple[int, ...]:
    try:
        bands = tuple(int(band) for band in word.split(","))
    except ValueError:
        bands = ()
    if not bands or min(bands) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no list of bands counted from 1, such as 4,3,2")
    return bands


def label_code(word: str) -> int | str:
    """A label value: a number, or a colour "#rrggbb"."""
    try:
        return "#" + f"{int(word[1:], 16):06x}" if word.startswith("#") and len(word) == 7 else int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is neither a number nor a colour such as '#ff0000'") from None


def _scale(word: str) -> str:
    try:
        fits = word in ("auto", "percentile") or 0 < float(word) < math.inf
    except ValueError:
        fits = False
    if not fits:
        raise argparse.ArgumentTypeError(f"{word!r} is neither auto nor percentile nor a number above 0, such as 10000")
    return word


def _metres(word: str) -> float:
    try:
        metres = float(word)
    except ValueError:
        metres = math.nan
    if not 0 < metres < math.inf:
        raise argparse.ArgumentTypeError(f"{word!r} is no number of metres above 0, such as 0.5")
    return metres


@dataclass(frozen=True)
class DataConfig:
    """The place of a data set, the names of its folders, and the codes of its labels."""

    data_root: Path = setting(Path("data"), "data set: {train,val,test}/{A,B,label}, or A,B,label and list/*.txt, ...")
    before_dir: str | None = setting(None, "name of the earlier images' folder, where it is unusual", parse=str)
    after_dir: str | None = setting(None, "name of the later images' folder", parse=str)
    label_dir: str | None = setting(None, "name of the labels' folder", parse=str)
    change_value: int | str | None = setting(
        None, "label value (palette index, or colour '#rrggbb') that means changed", parse=label_code
    )
    ignore_value: int | str | None = setting(
        None, "label value that means unknown: not trained on, not scored", parse=label_code
    )
    change_from: int | None = setting(
        None, "lowest grey level of labels that means changed: 128 for JPEG or soft edges", parse=int
    )

    @property
    def folders(self) -> dict[str, str | None]:
        """Names of folders by role; None: the usual ones."""
        return {"before": self.before_dir, "after": self.after_dir, "label": self.label_dir}


@dataclass(frozen=True)
class BandConfig(DataConfig):
    """The same, and how images become 8-bit channels."""

    bands: tuple[int, ...] = setting((), "bands to read, counted from 1, such as 4,3,2 (default: RGB)", parse=_bands)
    scale: str = setting(
        "auto",
        "values to 0..255: percentile (2nd to 98th of all pixels), a number (the value that becomes 255), or auto: 8 "
        "bits stay; deeper values by percentile in training, by the checkpoint's limits in prediction",
        parse=_scale,
    )
    pixel_size: float | None = setting(
        None, "metres per pixel of the images (default: from their georeference)", parse=_metres
    )


@dataclass(frozen=True)
class ReadConfig(BandConfig):
    """The same, and which public set it is."""

    data_name: str = setting("auto", "public set: levir, whu, ..., generic; auto recognises it by folder and layout")
