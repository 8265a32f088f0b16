"""Draws training curves of runs (HANet Fig. 7), and precision against recall."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tools.figures.paper import COLOURS, COLUMN, PAGE, FigureConfig, chart, unique_names
from utils.console import UserError
from utils.flags import named_path, setting
from utils.metrics import LEVELS, precision_recall
from utils.prediction.records import FOLDER, total_levels
from utils.training.config import read_config
from utils.training.curves import draw_f1_contours

SCORES = {"loss": "loss (main head)", "precision": "precision (%)", "recall": "recall (%)", "f1": "F1 (%)"}
SPLITS = {"train": "--", "val": "-"}
SMOOTHING = 0.6
SHORT = 20  # epochs; in a shorter run, smoothed lines lag behind by several points of F1


@dataclass(frozen=True)
class CurvesConfig(FigureConfig):
    """Settings of training curves."""

    REQUIRED: ClassVar = ("runs", "output")
    runs: list[tuple[str, Path]] = setting(None, "run folders", parse=named_path)
    smoothing: float | None = setting(
        None,
        "weight of the past in the bold lines, in [0, 1); raw values stay visible "
        f"(default: {SMOOTHING}, and 0 for runs of fewer than {SHORT} epochs)",
        parse=float,
    )
    against: str = setting("iteration", "what to draw against", ("iteration", "epoch"))


def curves(config: CurvesConfig) -> None:
    """Loss, precision, recall and F1 of runs against iteration (HANet Fig. 7), raw and smoothed, train and val."""
    if config.smoothing is not None and not 0 <= config.smoothing < 1:
        raise UserError(f"--smoothing {config.smoothing:g}: must lie in [0, 1)")
    folders = unique_names("--runs", config.runs)
    logs = {name: read_log(folder) for name, folder in folders.items()}
    by_epoch = config.against == "epoch"
    places = {name: log["epoch"] if by_epoch else iterations(folders[name], log) for name, log in logs.items()}
    with chart(config.output, PAGE, 4.2) as figure:
        for axes, (score, title) in zip(figure.subplots(2, 2, sharex=True).flat, SCORES.items(), strict=True):
            scale = 1 if score == "loss" else 100
            for colour, (name, log) in zip(COLOURS * len(logs), logs.items(), strict=False):
                short = len(log["epoch"]) < SHORT
                weight = (0 if short else SMOOTHING) if config.smoothing is None else config.smoothing
                how: dict[str, Any] = {"color": colour, "marker": "o" if short else None, "markersize": 2.5}
                for split, style in SPLITS.items():
                    values, label = scale * log[f"{split}_{score}"], f"{name}, {split}"
                    faint = {"color": colour, "alpha": 0.25, "linewidth": 0.7, "gid": f"{label} {score} raw"}
                    axes.plot(places[name], values, style, **faint)
                    bold = smooth(values, weight)
                    axes.plot(places[name], bold, style, label=label, gid=f"{label} {score}", **how)
            axes.set(title=title, ylim=(0, None if score == "loss" else 100))
            axes.grid(alpha=0.25, linewidth=0.4)
        for axes in figure.axes[2:]:
            axes.set_xlabel(config.against)
        figure.legend(*axes.get_legend_handles_labels(), ncols=min(4, 2 * len(logs)), loc="outside lower center")


def needed(path: Path, advice: str) -> Path:
    """A file of a run; if it is missing, the FileNotFoundError has this advice."""
    if not path.is_file():
        what = "no such file" if path.parent.is_dir() else "no such folder"
        raise FileNotFoundError(f"{path}: {what}; {advice}")
    return path


def columns_of(path: Path) -> dict[str, np.ndarray]:
    """The columns of a CSV file as float64 (rows,); words become nan."""
    table = np.atleast_1d(np.genfromtxt(path, delimiter=",", names=True, encoding="utf-8"))
    return {name: table[name] for name in table.dtype.names or ()}


def read_log(folder: Path) -> dict[str, np.ndarray]:
    """The columns of a run's log.csv; UserError if it has no epoch, or lacks a column."""
    log = columns_of(needed(folder / "log.csv", "pass folders of train_aux.py to --runs, after their first epoch"))
    wanted = ["epoch", *(f"{split}_{score}" for score in SCORES for split in SPLITS)]
    if lacking := [name for name in wanted if not len(log.get(name, ()))]:
        epochs = len(log.get("epoch", ()))
        raise UserError(f"{folder / 'log.csv'}: {epochs} epochs, no column {lacking[0]!r}; not the log of a run")
    return log


def iterations(folder: Path, log: Mapping[str, np.ndarray]) -> np.ndarray:
    """Steps until the end of each epoch: pairs seen, divided by the batch size in config.toml."""
    needed(folder / "config.toml", "it has the batch size; without it, pass --against epoch")
    batch_size = read_config(folder / "config.toml")["batch_size"]
    if "pairs_per_second" not in log:
        raise UserError(f"{folder / 'log.csv'}: no column 'pairs_per_second' to count steps by; pass --against epoch")
    return np.round(log["seconds"] * log["pairs_per_second"] / batch_size).cumsum()


def smooth(values: Sequence[float] | np.ndarray, weight: float) -> np.ndarray:
    """Exponential moving average, corrected for its start at zero."""
    from scipy.signal import lfilter

    return lfilter([1 - weight], [1, -weight], values) / (1 - weight ** np.arange(1, len(values) + 1))


@dataclass(frozen=True)
class PrecisionRecallConfig(FigureConfig):
    """Settings of precision against recall."""

    REQUIRED: ClassVar = ("runs", "output")
    runs: list[tuple[str, Path]] = setting(
        None, "run folders (validation split), or folders of predict_batch.py for labelled pairs", parse=named_path
    )


def precision_recall_figure(config: PrecisionRecallConfig) -> None:
    """Precision against recall of one or several runs, with lines of equal F1 and the chosen thresholds."""
    found = {name: read_curve(folder) for name, folder in unique_names("--runs", config.runs).items()}
    with chart(config.output, COLUMN, 3.3 + 0.15 * len(found)) as figure:
        axes = figure.subplots()
        draw_f1_contours(axes)
        for colour, (name, (curve, threshold)) in zip(COLOURS * len(found), found.items(), strict=False):
            chosen = int(np.abs(curve["threshold"] - threshold).argmin())
            recall, precision = 100 * curve["recall"], 100 * curve["precision"]
            seen = (recall > 0) & (precision > 0)  # without a changed pixel there is no precision
            label = f"{name}: F1 {100 * curve['f1'][chosen]:.2f} at {threshold:g}"
            axes.plot(recall[seen], precision[seen], color=colour, gid=name)
            axes.plot(recall[chosen], precision[chosen], "o", markersize=4, color=colour, label=label)
        axes.set(xlabel="recall (%)", ylabel="precision (%)", xlim=(0, 100), ylim=(0, 101), aspect="equal")
        figure.legend(loc="outside lower center")


def read_curve(folder: Path) -> tuple[dict[str, np.ndarray], float]:
    """Threshold, precision, recall and F1 of a run or a prediction with labels, and the chosen threshold."""
    if not (folder / FOLDER).is_dir():
        advice = "a run writes it when it ends; the folder of a prediction with labels works too"
        curve = columns_of(needed(folder / "precision_recall.csv", advice))
        metrics = json.loads(needed(folder / "metrics.json", "a run writes it when it ends").read_bytes())
        return curve, metrics["tuned_threshold"]
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / FOLDER).glob("*.json"))]
    levels = total_levels(records)
    if not levels[1].sum():
        raise UserError(f"{folder}: no pair has a label with a change, so precision and recall are not defined")
    protocol = json.loads(needed(folder / "metrics.json", "run predict_batch.py to its end").read_bytes())["protocol"]
    scores = {name: values.numpy() for name, values in precision_recall(levels).items()}
    return {**scores, "threshold": np.arange(1, LEVELS) / LEVELS}, protocol["threshold"]
