"""Pictures of a comparison: F1 of every seed, and F1 against parameters and multiply-adds."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from tools.figures.paper import COLOURS, COLUMN, PAGE, chart
from tools.tables.results import COUNTED_SIDE, Result

MARKERS = "osD^"
COSTS = {"parameters": "parameters (M)", "flops": f"multiply-adds (G), a pair of {COUNTED_SIDE} x {COUNTED_SIDE}"}


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
        panels[0].set_ylabel("F1 (%)")
        drawn = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
        names = [each.name for each in results]
        figure.legend([drawn[name] for name in names], names, ncols=5, loc="outside lower center")
