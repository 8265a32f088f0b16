"""The benchmark's ratios as bars."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.figures.paper import COLOURS, PAGE, chart

HEIGHT, EDGES = 0.16, 0.9  # inches of a bar, and of title and axis


def draw_ratios(suites: Mapping[str, Sequence[Mapping[str, Any]]], path: Path, title: str = "") -> None:
    """Draw a bar a case: the median of its ratio, a line from its lowest to its highest, and the base at 1.

    Args:
        suites: a suite's name to its rows, of which those that are their own base are left out.
        path: .png, .svg or .pdf; in the second a bar's id is `bar SUITE: CASE`.
        title: says what was measured.

    Raises:
        ValueError: another suffix, or no case that is compared with another.
    """
    bars = [(suite, row) for suite, rows in suites.items() for row in rows if row["case"] != row["base"]]
    if not bars:
        raise ValueError(f"{path}: nothing to draw, for none of these cases is compared with another")
    order = list(dict.fromkeys(suite for suite, _ in bars))
    with chart(path, PAGE, EDGES + HEIGHT * len(bars)) as figure:
        axes = figure.subplots()
        for place, (suite, row) in enumerate(bars):
            median, low, high = statistics.median(row["ratio"]), min(row["ratio"]), max(row["ratio"])
            colour = COLOURS[order.index(suite) % len(COLOURS)]
            (bar,) = axes.barh(place, median, height=0.7, color=colour, alpha=0.75, linewidth=0)
            bar.set_gid(f"bar {suite}: {row['case']}")
            (line,) = axes.plot([low, high], [place, place], color="black", linewidth=0.8)
            line.set_gid(f"spread {suite}: {row['case']}")
            axes.annotate(f"{median:.2f}", (high, place), (3, 0), textcoords="offset points", va="center", fontsize=6)
        axes.axvline(1, color="black", linewidth=0.8, linestyle="--").set_gid("base")
        axes.set_yticks(range(len(bars)), [f"{suite}: {row['case']}" for suite, row in bars], fontsize=6)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel("times as fast as its base, or times less memory")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(title)
