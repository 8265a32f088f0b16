"""How runs went and what they trade: HANet's Fig. 7, and precision against recall."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tools.figures.paper import COLOURS, COLUMN, PAGE, chart, known_suffix
from utils.flags import named_path, setting
from utils.metrics import LEVELS, precision_recall
from utils.prediction.records import FOLDER, total_levels
from utils.training.config import read_config
from utils.training.curves import draw_f1_contours

SCORES = {"loss": "loss (main head)", "precision": "precision (%)", "recall": "recall (%)", "f1": "F1 (%)"}
SPLITS = {"train": "--", "val": "-"}
SMOOTHING = 0.6
SHORT = 20  # a run of fewer epochs is not smoothed: its bold lines would lag behind by several points of F1


@dataclass(frozen=True)
class CurvesConfig:
    """Settings of training curves; the flags are made from these fields."""

    REQUIRED: ClassVar = ("runs", "output")
    runs: list[tuple[str, Path]] = setting(None, "run folders", parse=named_path)
    smoothing: float | None = setting(
        None,
        "weight of the past in the bold lines, in [0, 1); raw values stay visible "
        f"(default: {SMOOTHING}, and 0 for runs of fewer than {SHORT} epochs)",
        parse=float,
    )
    against: str = setting("iteration", "what to draw against", ("iteration", "epoch"))
    output: Path = setting(None, ".png, .pdf or .svg to write", parse=Path)


def curves(config: CurvesConfig) -> None:
    """Loss, precision, recall and F1 of runs against iteration (HANet Fig. 7), raw and smoothed, train and val."""
    known_suffix(config.output)
    if config.smoothing is not None and not 0 <= config.smoothing < 1:
        raise ValueError(f"--smoothing {config.smoothing:g}: must lie in [0, 1)")
    logs = {name: read_log(folder) for name, folder in named(config.runs)}
    places = {
        name: log["epoch"] if config.against == "epoch" else iterations(folder, log)
        for (name, folder), log in zip(config.runs, logs.values(), strict=True)
    }
    with chart(config.output, PAGE, 4.2) as figure:
        for axes, (score, title) in zip(figure.subplots(2, 2, sharex=True).flat, SCORES.items(), strict=True):
            scale = 1 if score == "loss" else 100
            for number, (name, log) in enumerate(logs.items()):
                colour, short = COLOURS[number % len(COLOURS)], len(log["epoch"]) < SHORT
                weight = (0 if short else SMOOTHING) if config.smoothing is None else config.smoothing
                how: dict[str, Any] = {"color": colour, "marker": "o" if short else None, "markersize": 2.5}
                for split, style in SPLITS.items():
                    values, label = scale * log[f"{split}_{score}"], f"{name}, {split}"
                    (raw,) = axes.plot(places[name], values, style, color=colour, alpha=0.25, linewidth=0.7)
                    (line,) = axes.plot(places[name], smooth(values, weight), style, label=label, **how)
                    raw.set_gid(f"{label} {score} raw")
                    line.set_gid(f"{label} {score}")
            axes.set(title=title, ylim=(0, None if score == "loss" else 100))
            axes.grid(alpha=0.25, linewidth=0.4)
        for axes in figure.axes[2:]:
            axes.set_xlabel(config.against)
        figure.legend(*axes.get_legend_handles_labels(), ncols=min(4, 2 * len(logs)), loc="outside lower center")


def named(runs: Sequence[tuple[str, Path]]) -> Sequence[tuple[str, Path]]:
    """Folders by name.

    Raises:
        ValueError: two of one name.
    """
    if len(dict(runs)) < len(runs):
        raise ValueError("--runs: two folders of one name; call them NAME=DIR")
    return runs


def needed(path: Path, advice: str) -> str:
    """The text of a file of a run.

    Raises:
        FileNotFoundError: it is not there; the message says what to do.
    """
    if not path.is_file():
        what = "no such file" if path.parent.is_dir() else "no such folder"
        raise FileNotFoundError(f"{path}: {what}; {advice}")
    return path.read_text(encoding="utf-8")


def read_log(folder: Path) -> dict[str, np.ndarray]:
    """The columns of a run's log.csv.

    Raises:
        FileNotFoundError: the folder has none.
        ValueError: it has no epoch, or lacks a column.
    """
    text = needed(folder / "log.csv", "--runs takes folders that train_aux.py wrote; an epoch must have ended")
    rows = list(csv.DictReader(text.splitlines()))
    wanted = ["epoch", *(f"{split}_{score}" for score in SCORES for split in SPLITS)]
    if lacking := [name for name in wanted if not rows or not rows[0].get(name)]:
        raise ValueError(f"{folder / 'log.csv'}: {len(rows)} epochs, no column {lacking[0]!r}; not the log of a run")
    columns = [*wanted, *(name for name in ("seconds", "pairs_per_second") if name in rows[0])]
    return {name: np.array([float(row[name]) for row in rows]) for name in columns}


def iterations(folder: Path, log: Mapping[str, np.ndarray]) -> np.ndarray:
    """Steps made by the end of each epoch: pairs seen, by the batch size in config.toml.

    Raises:
        FileNotFoundError: the folder has no config.toml.
        ValueError: an older log, which does not say how many pairs an epoch had.
    """
    needed(folder / "config.toml", "it says the batch size; or say --against epoch")
    batch_size = read_config(folder / "config.toml")["batch_size"]
    if "pairs_per_second" not in log:
        raise ValueError(f"{folder / 'log.csv'}: no column 'pairs_per_second', so steps are unknown: --against epoch")
    return np.round(log["seconds"] * log["pairs_per_second"] / batch_size).cumsum()


def smooth(values: np.ndarray, weight: float) -> np.ndarray:
    """Exponential moving average in which the first values count as they are, not as if zeros went before."""
    mean, total, result = 0.0, 0.0, []
    for value in values:
        mean, total = weight * mean + (1 - weight) * value, weight * total + (1 - weight)
        result.append(mean / total)
    return np.array(result)


@dataclass(frozen=True)
class PrecisionRecallConfig:
    """Settings of precision against recall; the flags are made from these fields."""

    REQUIRED: ClassVar = ("runs", "output")
    runs: list[tuple[str, Path]] = setting(
        None, "run folders (their validation split), or what predict_batch.py wrote of labelled pairs", parse=named_path
    )
    output: Path = setting(None, ".png, .pdf or .svg to write", parse=Path)


def precision_recall_figure(config: PrecisionRecallConfig) -> None:
    """Precision against recall of one or several runs, with lines of equal F1 and the chosen thresholds."""
    known_suffix(config.output)
    found = {name: read_curve(folder) for name, folder in named(config.runs)}
    with chart(config.output, COLUMN, 3.3 + 0.15 * len(found)) as figure:
        axes = figure.subplots()
        draw_f1_contours(axes)
        for number, (name, (curve, threshold)) in enumerate(found.items()):
            colour, chosen = COLOURS[number % len(COLOURS)], int(np.abs(curve["threshold"] - threshold).argmin())
            recall, precision = 100 * curve["recall"], 100 * curve["precision"]
            seen = (recall > 0) & (precision > 0)  # where nothing is called changed there is no precision
            label = f"{name}: F1 {100 * curve['f1'][chosen]:.2f} at {threshold:g}"
            (line,) = axes.plot(recall[seen], precision[seen], color=colour)
            line.set_gid(name)
            axes.plot(recall[chosen], precision[chosen], "o", markersize=4, color=colour, label=label)
        axes.set(xlabel="recall (%)", ylabel="precision (%)", xlim=(0, 100), ylim=(0, 101), aspect="equal")
        figure.legend(loc="outside lower center")


def read_curve(folder: Path) -> tuple[dict[str, np.ndarray], float]:
    """Threshold, precision, recall and F1 of a run or a prediction, and the threshold that was chosen.

    Raises:
        FileNotFoundError: a file that is needed is not there.
        ValueError: a prediction without labels.
    """
    if (folder / FOLDER).is_dir():
        return predicted_curve(folder)
    advice = "a run has it when it ends; a prediction's folder of labelled pairs serves, too"
    rows = list(csv.DictReader(needed(folder / "precision_recall.csv", advice).splitlines()))
    metrics = json.loads(needed(folder / "metrics.json", "a run has it when it ends"))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}, metrics["tuned_threshold"]


def predicted_curve(folder: Path) -> tuple[dict[str, np.ndarray], float]:
    """The same from the records of a prediction's pairs."""
    contents: list[Any] = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / FOLDER).glob("*.json"))
    ]
    levels = total_levels(contents, LEVELS)
    if not levels[1].sum():
        raise ValueError(f"{folder}: no pair here has a label with a change, so there is neither precision nor recall")
    protocol = json.loads(needed(folder / "metrics.json", "run predict_batch.py to its end"))["protocol"]
    curve = {name: values.numpy() for name, values in precision_recall(levels).items()}
    return {**curve, "threshold": np.arange(1, LEVELS) / LEVELS}, protocol["threshold"]
