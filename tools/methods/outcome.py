"""What a comparison ends with: tables of means and of every seed, and pictures."""

import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.figures.paper import COLOURS, COLUMN, chart
from tools.make_tables import TableConfig, collect
from tools.tables.layout import build_table
from tools.tables.text import write_tables

log = logging.getLogger("compare")


def write_results(folder: Path, kind: str, title: str, found: Mapping[str, Sequence[Path]]) -> None:
    """Write and print the table, with published rows of its kind, and draw the figure.

    Args:
        folder: folder of the table.
        kind: as for `tools.make_tables`.
        title: shown above the table.
        found: NAME@DATA of each row to its folders of scores, one per seed.
    """
    runs = [(name, path) for name, paths in found.items() for path in paths]
    results = collect(TableConfig(kind=kind, runs=runs))
    here = {each.data for each in results if not each.published}
    results = [each for each in results if kind != "comparison" or each.data in here]
    built = build_table(results, kind, title)
    for form in ("md", "csv", "tex"):
        write_tables([built], folder / f"table.{form}")
    f1: dict[str, list[float]] = {}
    for name, path in runs:
        content = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
        f1.setdefault(name.partition("@")[0], []).append(100 * content["scores"]["f1"])
    for suffix in ("png", "svg"):
        draw_seeds(f1, folder / f"figure.{suffix}")
        log.info("written: %s", folder / f"figure.{suffix}")
    write_tables([built], None)


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
        axes.set(xlabel="test F1 (%)", ylim=(len(rows) - 0.5, -0.5))
        axes.grid(axis="x", alpha=0.25, linewidth=0.4)
        figure.legend(ncols=2, loc="outside lower center")
