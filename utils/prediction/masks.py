"""Scores folders of masks, of any origin, against labels of the same names."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from datasets.label_codes import decide_alone, mask_reading
from datasets.layouts import list_images
from datasets.names import nfc
from datasets.raster import read_label
from datasets.reading import IGNORE, PixelFormat, labels_of
from datasets.threads import threaded
from utils.console import UserError
from utils.files import write_csv
from utils.metrics import SCORES, count_pixels, score_table, scores
from utils.prediction.config import PredictConfig
from utils.prediction.records import ImageSet, image_set

log = logging.getLogger("predict")


def score_masks(config: PredictConfig) -> int:
    """Score folders of masks and log a table, a line a folder; return 0.

    Raises:
        UserError: two folders have one name, or what `mask_scores` raises.
    """
    assert config.label
    if len(dict(config.masks)) < len(config.masks):
        raise UserError("--masks: two folders have one name; name them NAME=DIR")
    found = mask_scores(config.label, dict(config.masks), labels_of(config), config.num_workers or 1)
    table = {name: scored.values for name, scored in found.items()}
    log.info("%s", score_table(table, SCORES))
    if config.output:
        config.output.mkdir(parents=True, exist_ok=True)
        write_csv(config.output / "scores.csv", [{"masks": name, **row} for name, row in table.items()])
        log.info("scores, as fractions: %s", config.output / "scores.csv")
    return 0


class ScoredMasks(NamedTuple):
    """Scores of a folder of masks over all pixels, the images that were scored, and the number of labels."""

    values: dict[str, float]
    images: ImageSet
    labels: int


def mask_scores(
    label: Path, folders: Mapping[str, Path], reading: PixelFormat, workers: int = 1
) -> dict[str, ScoredMasks]:
    """Score folders of masks against the labels of the same names.

    Raises:
        UserError: no mask has a label, two files of a folder have one name, or sizes differ.
    """
    labels = _by_name(label)
    reading = decide_alone(list(labels.values()), reading)

    def counts_of(paths: tuple[Path, Path], how: PixelFormat) -> torch.Tensor:
        mask, truth = read_label(paths[0], how), read_label(paths[1], reading)
        if mask.shape != truth.shape:
            sizes = " and ".join("{} x {}".format(*each.shape) for each in (mask, truth))
            raise UserError(f"{paths[0]}: mask and label differ in size, {sizes}")
        truth[mask == IGNORE] = IGNORE
        return count_pixels(torch.from_numpy(mask == 1), torch.from_numpy(truth))

    found = {}
    for name, folder in folders.items():
        both = [(path, labels[name]) for name, path in _by_name(folder).items() if name in labels]
        if not both:
            raise UserError(f"{folder}: no mask has the name of a label in {label}")
        if len(both) < len(labels):
            log.warning("%s: masks of %d of %d labels; only these are scored", name, len(both), len(labels))
        how = mask_reading([path for path, _ in both])
        counts = list(threaded(partial(counts_of, how=how), both, workers))
        images = image_set((path.stem, *each.sum(1).tolist()) for (path, _), each in zip(both, counts, strict=True))
        found[name] = ScoredMasks(scores(torch.stack(counts).sum(0)), images, len(labels))
    return found


def _by_name(folder: Path) -> dict[str, Path]:
    """The images of a folder by their names without suffix."""
    found: dict[str, Path] = {}
    for path in list_images(folder):
        if (other := found.setdefault(nfc(path.stem), path)) is not path:
            raise UserError(f"{path}: a second file for the name {path.stem!r}, besides {other.name}")
    return found
