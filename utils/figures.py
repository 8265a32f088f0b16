"""Charts, drawn with matplotlib's Agg (imported only when one is drawn), and grids of images, drawn with Pillow."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.runtime import written_whole


def draw_curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw loss, F1, precision and recall against the epoch, training and validation, as a PNG.

    Args:
        rows: one mapping an epoch, with the columns of log.csv.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.6), dpi=110, layout="constrained")
    epochs = [row["epoch"] for row in rows]
    marker = "o" if len(rows) < 25 else None
    names = {"loss": "loss (main head)", "f1": "F1", "precision": "precision", "recall": "recall"}
    for axes, (name, title) in zip(figure.subplots(2, 2, sharex=True).flat, names.items(), strict=True):
        for split, colour in (("train", "#8c8c8c"), ("val", "#d1495b")):
            scale = 1 if name == "loss" else 100
            values = [row[f"{split}_{name}"] * scale for row in rows]
            axes.plot(epochs, values, color=colour, marker=marker, markersize=3, label=split)
        axes.set_title(title if name == "loss" else f"{title} of the changed class (%)", fontsize=10)
        axes.set_ylim(0, None if name == "loss" else 100)
        axes.grid(alpha=0.25)
        axes.xaxis.get_major_locator().set_params(integer=True)
    best = max(rows, key=lambda row: row["val_f1"])
    figure.axes[1].axvline(best["epoch"], color="#d1495b", alpha=0.35, linestyle="--")
    figure.axes[1].legend(title=f"best {best['val_f1'] * 100:.2f} at epoch {best['epoch']}", fontsize=8)
    for axes in figure.axes[2:]:
        axes.set_xlabel("epoch")
    with written_whole(path) as partial:
        figure.savefig(partial, format="png")


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


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) of an image whose longer side becomes `side`."""
    width, height = size
    longest = max(size)
    return max(1, round(width * side / longest)), max(1, round(height * side / longest))


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
