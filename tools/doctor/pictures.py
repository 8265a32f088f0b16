"""Pictures of a data set: changed shares of its images, and pairs with the outlines of their labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.pairs import Pair
from datasets.raster import read_image, read_label
from datasets.reading import PixelFormat, as_rgb
from tools.doctor.examination import Examination
from tools.figures.grids import draw_grid
from utils.change_map import change_map, fitted
from utils.files import written_whole

SAMPLES = 8


def draw_pictures(results: Mapping[str, Examination], folder: Path) -> list[Path]:
    """Draw changed_share.png and samples.png, each if a label shows a change; returns what was drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    shares = {label: list(result.shares.values()) for label, result in results.items() if result.shares}
    pairs = samples(results)
    drawn = [folder / "changed_share.png"] * bool(shares) + [folder / "samples.png"] * bool(pairs)
    if shares:
        draw_shares(shares, folder / "changed_share.png")
    if pairs:
        masks = [read_label(pair.label, reading) == 1 for _, pair, reading in pairs]
        columns = {
            date: [
                outlined(as_rgb(read_image(getattr(pair, date), reading)), mask)
                for (_, pair, reading), mask in zip(pairs, masks, strict=True)
            ]
            for date in ("before", "after")
        }
        columns["label"] = [change_map(mask) for mask in masks]
        draw_grid(columns, folder / "samples.png", names=[f"{label}: {pair.name}" for label, pair, _ in pairs])
    return drawn


def samples(results: Mapping[str, Examination]) -> list[tuple[str, Pair, PixelFormat]]:
    """Up to SAMPLES pairs with change, as many of each data set, from the smallest changed share to the largest."""
    found: dict[str, list[tuple[float, tuple[str, Pair, PixelFormat]]]] = {}
    for label, result in results.items():
        of_set = found.setdefault(label.rpartition(":")[0], [])
        for name, share in result.shares.items():
            files = result.split.files[name]
            if share and all(files.get(role) in result.windows for role in ("before", "after")):
                pair = Pair(name, files["before"], files["after"], files["label"])
                of_set.append((share, (label, pair, result.reading)))
    chosen = []
    for of_set in found.values():
        of_set.sort(key=lambda item: item[0])
        places = np.linspace(0, len(of_set) - 1, min(SAMPLES // len(found), len(of_set))).round().astype(int)
        chosen += [of_set[place][1] for place in places]
    return chosen


def draw_shares(shares: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw a histogram of the changed shares of images, as a PNG.

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
    axes.set(xlabel="changed pixels of an image (%)", ylabel="images")
    axes.legend(title="split (images)", fontsize=8)
    with written_whole(path) as partial:
        figure.savefig(partial, format="png")


def outlined(image: np.ndarray, mask: np.ndarray, side: int = 192) -> np.ndarray:
    """Shrink an image and draw the outline of its changed regions in red: uint8 (h, w, 3).

    Args:
        image: uint8 (H, W, 3).
        mask: (H, W), changed where not 0.
        side: pixels of the result's longer side; an outline drawn before shrinking would vanish.
    """
    size = fitted((image.shape[1], image.shape[0]), side)
    small = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    changed = np.asarray(Image.fromarray(change_map(mask != 0)).resize(size)) >= 128
    framed = np.pad(changed, 1, mode="edge")
    inner = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    small[changed & ~inner] = (255, 0, 0)
    return small
