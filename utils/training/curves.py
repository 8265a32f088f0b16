"""Charts of a run; matplotlib is imported only to draw one."""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = {
    "loss": "loss (main head)",
    "f1": "F1 of the changed class (%)",
    "precision": "precision (%)",
    "recall": "recall (%)",
    "lr": "learning rate",
    "pool": "images drawn from (PFBS)",
}
SERIES = {"train": "#8c8c8c", "val": "#d1495b", "val_raw": "#edae49"}


def draw_curves(rows: Sequence[Mapping[str, float]], path: Path, note: str = "") -> None:
    """Draw loss, scores, learning rate and pool against the epoch, as a PNG; rows are those of log.csv."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.6), dpi=110, layout="constrained")
    epochs = [row["epoch"] for row in rows]
    best = max(rows, key=lambda row: row["val_f1"])
    for axes, (name, title) in zip(figure.subplots(2, 3, sharex=True).flat, PANELS.items(), strict=True):
        scale = 100 if "%" in title else 1
        columns = {"": SERIES["train"]} if name in rows[0] else SERIES
        for series, colour in columns.items():
            column = f"{series}_{name}" if series else name
            if column in rows[0]:
                style = {"color": colour, "marker": "o" if len(rows) < 25 else None, "markersize": 3}
                axes.plot(epochs, [row[column] * scale for row in rows], label=series.replace("_", " "), **style)
        if name == "f1":
            axes.axvline(best["epoch"], color=SERIES["val"], alpha=0.35, linestyle="--")
            title = f"{title}: best {best['val_f1'] * 100:.2f} at epoch {best['epoch']:g}"
            figure.legend(*axes.get_legend_handles_labels(), ncols=3, fontsize=9, loc="outside lower center")
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0, 100 if scale == 100 else None)
        axes.grid(alpha=0.25)
        axes.xaxis.get_major_locator().set_params(integer=True)
    if len(rows) == 1:
        figure.axes[0].set_xticks(epochs)  # of all panels; else there would be fractions of an epoch
    for axes in figure.axes[3:]:
        axes.set_xlabel("epoch")
    if note:
        figure.suptitle(note, fontsize=10)
    with written_whole(path) as partial:
        figure.savefig(partial, format="png")
    del figure, axes
    gc.collect()  # a figure holds itself in memory, 7 MB; a run draws one an epoch


def draw_precision_recall(
    curve: Mapping[str, Sequence[float]], marks: Mapping[str, Mapping[str, float]], path: Path
) -> None:
    """Draw precision against recall with lines of equal F1, as a PNG.

    `curve` has the "precision" and "recall" of all thresholds, `marks` those of some, by the names to show.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=110, layout="constrained")
    axes = figure.subplots()
    draw_f1_contours(axes)
    axes.plot(100 * np.asarray(curve["recall"]), 100 * np.asarray(curve["precision"]), color="#30638e")
    for name, scores in marks.items():
        axes.plot(100 * scores["recall"], 100 * scores["precision"], "o", markersize=5, label=name)
    axes.set(xlabel="recall (%)", ylabel="precision (%)", xlim=(0, 100), ylim=(0, 101))
    figure.legend(title="threshold", ncols=len(marks), fontsize=8, loc="outside lower center")  # covers no curve
    with written_whole(path) as partial:
        figure.savefig(partial, format="png")


def draw_f1_contours(axes: "Axes") -> None:
    """Draw lines of equal F1 into a chart of precision against recall, both in percent."""
    grid = np.linspace(0.01, 1, 200)
    for f1 in (0.2, 0.4, 0.6, 0.8, 0.9):
        above = grid[grid > f1 / 2 + 1e-3]
        axes.plot(100 * above, 100 * f1 * above / (2 * above - f1), color="#dddddd", linewidth=0.8, zorder=0)
        axes.annotate(f" F1 {100 * f1:.0f}", (100, 100 * f1 / (2 - f1)), fontsize=7, color="#8c8c8c")
