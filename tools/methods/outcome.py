"""What a comparison ends with: tables of means and of every seed, clear differences, and pictures."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tools.figures.comparison import GRIDS, ComparisonConfig, comparison
from tools.figures.predicted import predict_masks
from tools.make_tables import TableConfig, collect
from tools.methods.noise import Difference, differences, in_a_line
from tools.methods.pictures import draw_costs, draw_seeds
from tools.tables.layout import build_table
from tools.tables.results import scored_images
from tools.tables.text import write_tables
from utils.files import write_csv
from utils.settings import BandConfig

log = logging.getLogger("compare")


def write_results(folder: Path, kind: str, title: str, found: Mapping[str, Sequence[Path]]) -> None:
    """Write and print the tables, with published rows of their kind, and draw F1 by seed and by cost.

    Args:
        folder: of the comparison.
        kind: as for `tools.make_tables`.
        title: shown above the table.
        found: NAME@DATA of each row to its folders of scores, one per seed.
    """
    results = collect(TableConfig(kind=kind, runs=[(name, path) for name, paths in found.items() for path in paths]))
    ours = [each for each in results if not each.published]
    here = {each.data for each in ours}
    table = build_table([each for each in results if kind != "comparison" or each.data in here], kind, title)
    rows = {name.partition("@")[0]: paths for name, paths in found.items()}
    clear, line = compared(rows)
    table = replace(table, remarks=(*table.remarks, *[line] * bool(line)))
    for form in ("md", "csv", "tex"):
        write_tables([table], folder / f"table.{form}")
    scores = {name: [scores_of(path) for path in paths] for name, paths in rows.items()}
    if clear:
        write_csv(folder / "differences.csv", [{**each._asdict(), "clear": each.clear} for each in clear])
    write_csv(folder / "seeds.csv", [{"method": name, **run} for name, runs in scores.items() for run in runs])
    for suffix in ("png", "svg"):
        draw_seeds({name: [run["f1"] for run in runs] for name, runs in scores.items()}, folder / f"figure.{suffix}")
        draw_costs(ours, folder / f"costs.{suffix}")
    log.info("written: %s", folder / "seeds.csv, figure and costs (.png, .svg)")
    write_tables([table], None)


def scores_of(folder: Path) -> dict[str, float]:
    """Scores of a prediction in percent, after the name of its run."""
    content = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {"run": folder.parent.name, **{name: 100 * value for name, value in content["scores"].items()}}


def compared(rows: Mapping[str, Sequence[Path]]) -> tuple[list[Difference], str]:
    """Return the differences between rows of the same images, and a line on them; none of one row or one image."""
    scored = {name: [scored_images(path) for path in paths] for name, paths in rows.items()}
    usual = Counter(images for runs in scored.values() for images, _ in runs).most_common(1)[0][0]
    alike = {name: runs for name, runs in scored.items() if all(images == usual for images, _ in runs)}
    if usual.pairs < 2 or len(alike) < 2:
        return [], ""
    found = differences({name: np.stack([counts for _, counts in runs]) for name, runs in alike.items()})
    return found, in_a_line(found, usual.pairs)


def draw_comparisons(folder: Path, rows: Mapping[str, Path], data: BandConfig, split: str) -> None:
    """Draw the maps of all rows as both papers compare them.

    Args:
        folder: of the comparison.
        rows: folder of scores of each row; without masks there, the checkpoint beside it predicts them.
        data: the data set.
        split: of it, that was scored.
    """
    how = {each.name: getattr(data, each.name) for each in fields(BandConfig)}
    config = ComparisonConfig(**how, split=split, output=folder)
    with TemporaryDirectory() as scratch:
        masks = {name: path for name, path in rows.items() if (path / "mask").is_dir()}
        for number, name in enumerate(rows.keys() - masks.keys()):
            masks[name] = predict_masks(rows[name].parent / "best.pt", config, Path(scratch) / f"{number}")
        methods = [(name, masks[name]) for name in rows]
        for style in GRIDS:
            comparison(replace(config, methods=methods, style=style, output=folder / f"comparison-{style}.png"))
