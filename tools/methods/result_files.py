"""What a comparison ends with: tables of means and of every seed, significant differences, and pictures of both."""

import json
import logging
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from pathlib import Path

import numpy as np

from tools.figures.comparison import GRIDS, METHODS, ComparisonConfig, comparison
from tools.figures.paper import COLOURS, COLUMN, PAGE, chart
from tools.make_tables import TableConfig, collect
from tools.methods.significance import LEAST, Difference, differences, in_a_line
from tools.tables.layout import build_table
from tools.tables.results import COUNTED_SIDE, Result, scored_images
from tools.tables.text import write_tables
from utils.files import write_csv
from utils.settings import BandConfig

log = logging.getLogger("compare")
MARKERS = "osD^"
COSTS = {"parameters": "parameters (M)", "flops": f"multiply-adds (G), a pair of {COUNTED_SIDE} x {COUNTED_SIDE}"}


def write_results(folder: Path, kind: str, title: str, found: Mapping[str, Sequence[Path]]) -> None:
    """Write and print the tables, with published rows of their kind, and draw F1 by seed and by cost.

    The key of a row is NAME@DATA; it has a folder of scores per seed.
    """
    results = collect(TableConfig(kind=kind, runs=[(name, path) for name, paths in found.items() for path in paths]))
    ours = [each for each in results if not each.published]
    here = {each.data for each in ours}
    table = build_table([each for each in results if kind != "comparison" or each.data in here], kind, title)
    rows = {name.partition("@")[0]: paths for name, paths in found.items()}
    differing, line = significant_differences(rows)
    table = replace(table, remarks=(*table.remarks, *[line] * bool(line)))
    for form in ("md", "csv", "tex"):
        write_tables([table], folder / f"table.{form}")
    scores = {name: [scores_of(path) for path in paths] for name, paths in rows.items()}
    for name in ("differences.csv", "costs.png", "costs.svg"):
        (folder / name).unlink(missing_ok=True)
    if differing:
        lines = [{**each._asdict(), "significant": each.significant} for each in differing]
        write_csv(folder / "differences.csv", lines)
    write_csv(folder / "seeds.csv", [{"method": name, **run} for name, runs in scores.items() for run in runs])
    for suffix in ("png", "svg"):
        draw_seeds({name: [run["f1"] for run in runs] for name, runs in scores.items()}, folder / f"figure.{suffix}")
        if any(each.parameters for each in ours):
            draw_costs(ours, folder / f"costs.{suffix}")
    log.info("written: %s", folder / "seeds.csv, figures")
    write_tables([table], None)


def scores_of(folder: Path) -> dict[str, float]:
    """Scores of a prediction in percent, after the name of its run."""
    content = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {"run": folder.parent.name, **{name: 100 * value for name, value in content["scores"].items()}}


def significant_differences(rows: Mapping[str, Sequence[Path]]) -> tuple[list[Difference], str]:
    """Return the differences between rows of the same images, and a line on them; none of one row or of few images."""
    scored = {name: [scored_images(path) for path in paths] for name, paths in rows.items()}
    usual = Counter(images for runs in scored.values() for images, _ in runs).most_common(1)[0][0]
    alike = {name: runs for name, runs in scored.items() if all(images == usual for images, _ in runs)}
    if len(alike) < 2:
        return [], ""
    if usual.pairs < LEAST:
        return [], f"No intervals of differences in F1: they need {LEAST} images or more"
    found = differences({name: np.stack([counts for _, counts in runs]) for name, runs in alike.items()})
    others = ", ".join(name for name in rows if name not in alike)
    return found, in_a_line(
        found, usual.pairs
    ) + f"; these rows were scored on other images and are not compared: {others}" * bool(others)


def draw_seeds(rows: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw rows from top to bottom: F1 in percent, a dot per seed and a line for their mean."""
    with chart(path, COLUMN, 0.9 + 0.27 * len(rows)) as figure:
        axes = figure.subplots()
        for place, (name, values) in enumerate(rows.items()):
            mean, label = statistics.mean(values), place == 0
            dash = {"color": COLOURS[1], "markersize": 14, "markeredgewidth": 1.6, "gid": f"{name} mean"}
            dots = {"color": COLOURS[0], "markersize": 4, "alpha": 0.8, "gid": name}
            axes.plot(mean, place, "|", label="mean" if label else None, **dash)
            axes.plot(values, [place] * len(values), "o", label="one seed" if label else None, **dots)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set(xlabel="F1 (%)", ylim=(len(rows) - 0.5, -0.5))
        axes.grid(axis="x", alpha=0.25, linewidth=0.4)
        figure.legend(ncols=2, loc="outside lower center")


def draw_costs(results: Sequence[Result], path: Path) -> None:
    """Draw F1 against parameters and multiply-adds, with its deviation; a row without a network is a dashed line."""
    from matplotlib.ticker import LogLocator

    styles = [(colour, marker) for marker, colour in product(MARKERS, COLOURS)]
    with chart(path, PAGE, 2.6 + 0.15 * (len(results) // 4)) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, (key, title) in zip(panels, COSTS.items(), strict=True):
            for each, (colour, marker) in zip(results, styles * len(results), strict=False):
                cost, f1, how = getattr(each, key), each.scores["f1"], {"color": colour, "label": each.name}
                if cost is None:
                    axes.axhline(f1, linestyle="--", linewidth=0.8, gid=f"{each.name} {key}", **how)
                    continue
                spread = {"yerr": each.deviations.get("f1", 0), "elinewidth": 0.8, "capsize": 2}
                axes.errorbar(cost, f1, fmt=marker, markersize=5, gid=f"{each.name} {key}", **spread, **how)
            axes.set(xlabel=title, xscale="log")
            axes.minorticks_off()
            axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}")
            axes.grid(alpha=0.25, linewidth=0.4)
            axes.set_ylim(top=min(100, axes.get_ylim()[1]))
        panels[0].set_ylabel("F1 (%)")
        drawn = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
        names = [each.name for each in results]
        figure.legend([drawn[name] for name in names], names, ncols=5, loc="outside lower center")


def draw_comparisons(folder: Path, rows: Mapping[str, Path], data: BandConfig, split: str) -> None:
    """Draw the maps of all rows, each with a folder of masks, as both papers compare them."""
    if len(rows) > METHODS:
        log.warning("no comparison grids: they have room for %d rows", METHODS)
        return
    how = {each.name: getattr(data, each.name) for each in fields(BandConfig)}
    config = ComparisonConfig(**how, split=split, output=folder, methods=list(rows.items()))
    for style in GRIDS:
        comparison(replace(config, style=style, output=folder / f"comparison-{style}.png"))
