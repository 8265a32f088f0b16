"""Draws the balance of classes in data sets (HANet Fig. 2) and the images that samplers draw (HANet Fig. 3)."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datasets.label_codes import count_changed, decide_to_predict
from datasets.pairs import find_pairs
from datasets.pfbs import PFBSSampler
from datasets.raster import all_bands
from datasets.reading import labels_of
from tools.figures.paper import COLUMN, PAGE, FigureConfig, chart
from tools.tables.results import PAPERS, read_csv
from utils.console import UserError
from utils.flags import at_least, named_path, setting
from utils.settings import DataConfig

CHANGED, UNCHANGED = "#00b7c4", "#f2c14e"  # about those of Fig. 2: cyan and yellow


@dataclass(frozen=True)
class BalanceConfig(FigureConfig):
    """Settings of the balance of classes."""

    found: list[tuple[str, Path]] = setting(
        (), "files of `python -m tools.check_dataset --json FILE`, one per data set", parse=named_path
    )
    published: bool = setting(True, "add the numbers of HANet's Fig. 2, hatched")


def balance(config: BalanceConfig) -> None:
    """Changed against unchanged pixels of data sets (HANet Fig. 2), as measured here and as published."""
    rows = [(name, *pixels_found(path), False) for name, path in config.found]
    if config.published:
        published = read_csv(PAPERS / "hanet_fig2.csv")
        rows += [(row["dataset"], int(row["changed"]), int(row["unchanged"]), True) for row in published]
    if not rows:
        raise UserError("nothing to draw: pass --found, or leave --no-published out")
    with chart(config.output, COLUMN if len(rows) < 6 else PAGE, 2.4) as figure:
        axes = figure.subplots()
        for shift, colour, word, place in ((-0.2, CHANGED, "changed", 1), (0.2, UNCHANGED, "unchanged", 2)):
            for measured in (True, False):
                spots = [n for n, row in enumerate(rows) if row[3] != measured]
                how = {"color": colour, "edgecolor": "black", "linewidth": 0.4, "hatch": None if measured else "////"}
                label = f"{word}, {'measured' if measured else 'published'}" if spots else None
                axes.bar([n + shift for n in spots], [rows[n][place] for n in spots], 0.4, label=label, **how)
        axes.set_yscale("log")
        lowest = min(max(count, 1) for row in rows for count in row[1:3])
        axes.set_ylim(10 ** (math.ceil(math.log10(lowest)) - 1), 4 * max(row[2] for row in rows))
        names = [f"{name}\n{100 * changed / (changed + rest):.2f} %" for name, changed, rest, _ in rows]
        axes.set_xticks(range(len(rows)), names)
        axes.set(xlabel="data set, and share of changed pixels", ylabel="pixels (logarithmic)")
        figure.legend(ncols=2, loc="outside lower center")


def pixels_found(path: Path) -> tuple[int, int]:
    """Changed and unchanged pixels of all splits of a data set, from the JSON of check_dataset; UserError if none."""
    remedy = f"python -m tools.check_dataset --json {path}"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; write it with {remedy}")
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
        own = [about for label, about in splits.items() if ":" not in label]
        changed, known = (sum(about[key] for about in own) for key in ("changed_pixels", "known_pixels"))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: has no counts of pixels; write it again with {remedy}") from error
    if not known:
        raise UserError(f"{path}: this data set has no labels, so changed pixels cannot be counted")
    return changed, known - changed


@dataclass(frozen=True)
class PfbsConfig(FigureConfig, DataConfig):
    """Settings of the samplers' figure."""

    data_root: Path | None = setting(
        None, "data set whose training split is sampled (default: HANet's example, WHU-CD's counts)", parse=Path
    )
    epochs: int = setting(50, "epochs to show")
    fixed_epochs: int = setting(15, "X of Fixed-X; 15 in HANet's Fig. 3")
    linear_epochs: int = setting(15, "Y of Linear-Y; 15 there")
    both_epochs: int = setting(10, "X and Y of Fixed-X Linear-Y; 10 there")


def pfbs(config: PfbsConfig) -> None:
    """Images per epoch with the four samplers of PFBS (HANet Fig. 3), those with and those without change."""
    at_least(config, epochs=1, fixed_epochs=1, linear_epochs=1, both_epochs=1)
    changed = changed_pixels(config)
    x, y, both = config.fixed_epochs, config.linear_epochs, config.both_epochs
    samplers = {
        "normal": PFBSSampler(changed),
        f"Fixed-{x}": PFBSSampler(changed, fixed_epochs=x),
        f"Linear-{y}": PFBSSampler(changed, linear_epochs=y),
        f"Fixed-{both} Linear-{both}": PFBSSampler(changed, fixed_epochs=both, linear_epochs=both),
    }
    with chart(config.output, COLUMN, 3.1) as figure:
        epochs, panels = np.arange(config.epochs + 1), figure.subplots(2, 2, sharex=True, sharey=True).flat
        for axes, (name, sampler) in zip(panels, samplers.items(), strict=True):
            seen = images_seen(sampler, config.epochs)
            total, foreground = ([*row, row[-1]] for row in (seen.sum(1), seen[:, 0]))  # extends the last step
            axes.fill_between(epochs, foreground, color=CHANGED, label="with change", step="post", linewidth=0)
            axes.fill_between(
                epochs, total, foreground, color=UNCHANGED, label="without change", step="post", linewidth=0
            )
            axes.step(epochs, total, where="post", color="black", linewidth=0.8, gid=name)
            axes.set(title=name, xlim=(0, config.epochs), ylim=(0, None))
        for axes in figure.axes[2:]:
            axes.set_xlabel("epoch")
        figure.supylabel("different images per epoch", fontsize=8)
        figure.legend(*axes.get_legend_handles_labels(), ncols=2, loc="outside lower center")


def changed_pixels(config: PfbsConfig) -> Sequence[int]:
    """Changed pixels of each training image; in the paper's example, 1 for each image with change."""
    if config.data_root:
        pairs = find_pairs(config.data_root, "train", folders=config.folders)
        reading = replace(labels_of(config), bands=all_bands(pairs[0].before).bands)
        return count_changed(pairs, decide_to_predict(pairs, reading))
    (row,) = read_csv(PAPERS / "hanet_fig3.csv")
    return [1] * int(row["foreground"]) + [0] * (int(row["images"]) - int(row["foreground"]))


def images_seen(sampler: PFBSSampler, epochs: int) -> np.ndarray:
    """Different images per epoch, with and without change: int64 (epochs, 2)."""
    drawn = [np.unique(sampler.positions_to_images(epoch)) for epoch in range(epochs)]
    counts = [np.isin(images, sampler.order[: sampler.foreground]).sum() for images in drawn]
    return np.array([(count, len(images) - count) for count, images in zip(counts, drawn, strict=True)])
