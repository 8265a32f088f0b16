"""Charts, drawn with matplotlib's Agg (imported only when one is drawn), and grids of images, drawn with Pillow."""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.change_map import fitted
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
    """Draw loss, scores, learning rate and sampling pool against the epoch, as a PNG.

    Args:
        rows: one mapping an epoch, with the columns of log.csv; what a row lacks is not drawn.
        path: the PNG to write.
        note: drawn as the title.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.6), dpi=110, layout="constrained")
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) < 25 else None
    for axes, (name, title) in zip(figure.subplots(2, 3, sharex=True).flat, PANELS.items(), strict=True):
        scale = 100 if name in ("f1", "precision", "recall") else 1
        for series, colour in SERIES.items():
            column = name if name in ("lr", "pool") and series == "train" else f"{series}_{name}"
            if column in rows[0]:
                values = [row[column] * scale for row in rows]
                label = series.replace("_", " ")
                axes.plot(epochs, values, color=colour, marker=marker, markersize=3, label=label)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(0, 100 if scale == 100 else None)
        axes.grid(alpha=0.25)
        axes.xaxis.get_major_locator().set_params(integer=True)
    if len(rows) == 1:
        figure.axes[0].set_xticks(epochs)  # of all panels; else there would be fractions of an epoch
    best = max(rows, key=lambda row: row["val_f1"])
    f1 = next(axes for axes in figure.axes if axes.get_title() == PANELS["f1"])
    f1.axvline(best["epoch"], color=SERIES["val"], alpha=0.35, linestyle="--")
    f1.set_title(f"{PANELS['f1']}: best {best['val_f1'] * 100:.2f} at epoch {best['epoch']:g}", fontsize=10)
    figure.legend(*f1.get_legend_handles_labels(), ncols=len(SERIES), fontsize=9, loc="outside lower center")
    for axes in figure.axes[3:]:
        axes.set_xlabel("epoch")
    if note:
        figure.suptitle(note, fontsize=10)
    with written_whole(path) as partial:
        figure.savefig(partial, format="png")
    del figure, axes, f1
    gc.collect()  # a figure holds itself in memory, 7 MB; a run draws one an epoch


def draw_precision_recall(
    curve: Mapping[str, Sequence[float]], marks: Mapping[str, tuple[float, float]], path: Path
) -> None:
    """Draw precision against recall with lines of equal F1, as a PNG.

    Args:
        curve: "precision" and "recall", a value a threshold.
        marks: name to (precision, recall) of the thresholds to point out.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=110, layout="constrained")
    axes = figure.subplots()
    draw_f1_contours(axes)
    axes.plot(100 * np.asarray(curve["recall"]), 100 * np.asarray(curve["precision"]), color="#30638e")
    for name, (precision, recall) in marks.items():
        axes.plot(100 * recall, 100 * precision, "o", markersize=5, label=name)
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


def draw_grid(
    columns: Mapping[str, Sequence[np.ndarray]],
    path: Path,
    side: int = 192,
    blocks: int = 2,
    names: Sequence[str] = (),
) -> None:
    """Draw images of pairs side by side, a line a pair, with the columns' names above, as a PNG.

    Args:
        columns: name to one uint8 image a pair, (H, W) or (H, W, 3).
        path: the PNG to write.
        side: pixels of an image's longer side in the grid; its shape is kept.
        blocks: the lines are split into so many blocks that stand next to each other.
        names: of the pairs, drawn below their first image.
    """
    gap, top, font, small = 4, 26, ImageFont.load_default(16), ImageFont.load_default(11)
    pairs = len(next(iter(columns.values())))
    tallest = max(fitted(image.shape[1::-1], side)[1] for images in columns.values() for image in images)
    blocks, line_height = min(blocks, pairs), tallest + gap + (14 if names else 0)
    lines = -(-pairs // blocks)
    block_width = len(columns) * (side + gap) + 3 * gap
    sheet = Image.new("RGB", (blocks * block_width - 4 * gap, top + lines * line_height - gap), "white")
    pen = ImageDraw.Draw(sheet)
    for number in range(pairs):
        for place, (name, images) in enumerate(columns.items()):
            x, y = number // lines * block_width + place * (side + gap), top + number % lines * line_height
            if number % lines == 0:
                pen.text((x + side // 2, top // 2), name, "black", font, anchor="mm")
            # maps keep their exact colours, photographs are smoothed
            smooth = Image.Resampling.BICUBIC if name in ("before", "after") else Image.Resampling.NEAREST
            image = Image.fromarray(images[number]).convert("RGB")
            sheet.paste(image.resize(fitted(image.size, side), smooth), (x, y))
            if names and place == 0:
                pen.text((x, y + tallest + 1), names[number], "black", small)
    with written_whole(path) as partial:
        sheet.save(partial, format="PNG")


def draw_shares(shares: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw how many images have how large a changed share, as a PNG.

    Args:
        shares: split to one fraction in [0, 1] an image.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    limits = np.array([0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1])  # roughly even steps of a logarithm
    names = ["none", "< 0.1", *(f"{100 * a:g}-{100 * b:g}" for a, b in zip(limits[1:-1], limits[2:], strict=True))]
    figure = Figure(figsize=(8, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(len(shares), 1)
    for number, (split, values) in enumerate(shares.items()):
        changed = np.asarray([value for value in values if value > 0])
        counts = np.bincount(np.digitize(changed, limits[1:-1]), minlength=len(limits) - 1)
        places = np.arange(len(names)) + (number - (len(shares) - 1) / 2) * width
        bars = axes.bar(places, [len(values) - len(changed), *counts], width, label=f"{split} ({len(values)})")
        axes.bar_label(bars, fontsize=7)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("changed pixels of an image (%)")
    axes.set_ylabel("images")
    axes.legend(title="split (images)", fontsize=8)
    with written_whole(path) as partial:
        figure.savefig(partial, format="png")


def outlined(image: np.ndarray, mask: np.ndarray, side: int = 192) -> np.ndarray:
    """Shrink an image to a grid's side and draw the outline of its changed regions in red: uint8 (h, w, 3).

    Args:
        image: uint8 (H, W, 3).
        mask: (H, W), changed where not 0.
        side: pixels of the result's longer side; an outline drawn before shrinking would vanish.
    """
    size = fitted((image.shape[1], image.shape[0]), side)
    small = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    changed = np.asarray(Image.fromarray((mask != 0).astype(np.uint8) * 255).resize(size)) >= 128
    framed = np.pad(changed, 1, mode="edge")
    inner = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    small[changed & ~inner] = (255, 0, 0)
    return small
