"""Pictures of a data set: changed shares of its images, and pairs with the outlines of their labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.pairs import Pair
from datasets.raster import read_image, read_label
from datasets.reading import PixelFormat, as_rgb
from tools.doctor.examination import Examination
from tools.doctor.pair_facts import DATES
from tools.figures.grids import draw_grid
from tools.figures.paper import PAGE, chart
from utils.change_map import change_map, fitted

SAMPLES = 8


def draw_pictures(results: Mapping[str, Examination], folder: Path) -> list[Path]:
    """Draw changed_share.png and samples.png, each if a label has a change; returns what was drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    shares = {label: list(result.shares.values()) for label, result in results.items() if result.shares}
    pairs, drawn = samples(results), []
    if shares:
        drawn.append(folder / "changed_share.png")
        draw_shares(shares, drawn[-1])
    if pairs:
        drawn.append(folder / "samples.png")
        columns: dict[str, list[np.ndarray]] = {"before": [], "after": [], "label": []}
        for _, pair, reading in pairs:
            mask = read_label(pair.label, reading) == 1
            for date in DATES:
                columns[date].append(outlined(as_rgb(read_image(getattr(pair, date), reading)), mask))
            columns["label"].append(change_map(mask))
        draw_grid(columns, drawn[-1], names=[f"{label}: {pair.name}" for label, pair, _ in pairs])
    return drawn


def samples(results: Mapping[str, Examination]) -> list[tuple[str, Pair, PixelFormat]]:
    """Up to SAMPLES pairs with change, equally many of each data set, in the order of their changed shares."""
    found: dict[str, list[tuple[float, tuple[str, Pair, PixelFormat]]]] = {}
    for label, result in results.items():
        of_set = found.setdefault(label.rpartition(":")[0], [])
        for name, share in result.shares.items():
            files = result.split.files[name]
            if share and all(files.get(date) in result.images for date in DATES):
                pair = Pair(name, files["before"], files["after"], files["label"])
                of_set.append((share, (label, pair, result.reading)))
    chosen = []
    for of_set in found.values():
        of_set.sort(key=lambda item: item[0])
        places = np.linspace(0, len(of_set) - 1, min(SAMPLES // len(found), len(of_set))).round().astype(int)
        chosen += [of_set[place][1] for place in places]
    return chosen


def draw_shares(shares: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw a histogram of changed shares, fractions in [0, 1], one bar per split and interval."""
    limits = np.array([0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1])  # roughly even steps of a logarithm
    names = ["none", "< 0.1", *(f"{100 * a:g}-{100 * b:g}" for a, b in zip(limits[1:-1], limits[2:], strict=True))]
    width = 0.8 / len(shares)
    with chart(path, PAGE, 3.6) as figure:
        axes = figure.subplots()
        for number, (split, values) in enumerate(shares.items()):
            changed = np.asarray([value for value in values if value > 0])
            counts = np.bincount(np.digitize(changed, limits[1:-1]), minlength=len(limits) - 1)
            places = np.arange(len(names)) + (number - (len(shares) - 1) / 2) * width
            bars = axes.bar(places, [len(values) - len(changed), *counts], width, label=f"{split} ({len(values)})")
            axes.bar_label(bars, fontsize=7)
        axes.set_xticks(range(len(names)), names)
        axes.set(xlabel="changed pixels of an image (%)", ylabel="images")
        axes.legend(title="split (images)")


def outlined(image: np.ndarray, mask: np.ndarray, side: int = 192) -> np.ndarray:
    """Shrink an image, uint8 (H, W, 3), to a longer side of `side`, and draw the outline of its changed regions in red.

    The mask (H, W) is changed where not 0. The outline is drawn after shrinking, which would erase it.
    """
    from scipy.ndimage import binary_erosion

    size = fitted((image.shape[1], image.shape[0]), side)
    small = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    changed = np.asarray(Image.fromarray(change_map(mask != 0)).resize(size)) >= 128
    small[changed & ~binary_erosion(changed, border_value=1)] = (255, 0, 0)
    return small
