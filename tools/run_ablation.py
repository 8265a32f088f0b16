"""Trains and scores the rows of an ablation table, with several seeds each: `python -m tools.run_ablation TABLE`.

All other flags are those of train_aux.py (`python train_aux.py --help`) and apply to all rows. Without --data-root,
scenes are drawn. The output folder, by default checkpoints/ablation-TABLE, gets one run per row and seed, then
table.md, .csv, .tex and figure.png, .svg. The same command resumes after an interruption and skips what is done; a
larger --seeds adds runs; --overwrite starts again.
"""

import argparse
import json
import logging
import re
import shlex
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

if __name__ == "__main__":  # python path/to/tools/run_ablation.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.pairs import find_pairs
from tools.ablations import TABLES, configs_of, draw, listing
from tools.figures.paper import COLOURS, COLUMN, chart
from tools.make_tables import TableConfig, collect
from tools.tables.layout import build_table
from tools.tables.text import write_tables
from utils.checkpoint import load_checkpoint
from utils.console import UserError, errors_in_one_line, show_log
from utils.flags import Parser
from utils.prediction.config import PredictConfig
from utils.prediction.session import predict
from utils.prediction.sharing import Share
from utils.settings import DataConfig
from utils.training.config import TrainConfig, plain_config
from utils.training.run_folder import changed_settings
from utils.training.session import train

log = logging.getLogger("ablation")
PROGRAM = "python -m tools.run_ablation"


def main(argv: Sequence[str] | None = None) -> None:
    """Run a table; an expected error is one line on stderr and exit code 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = Parser(prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", choices=TABLES, metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--list", action="store_true", help="show the tables with their rows, and leave")
    first = [word for word in words[:1] if word == "--list" or not word.startswith("-")]
    asked = parser.parse_args([word for word in words if word in ("-h", "--help")] or first)
    if asked.list:
        sys.stdout.write(listing())
        return
    if not asked.table:
        parser.error(f"name a table ({', '.join(TABLES)}), or --list")
    command = f"{PROGRAM} {shlex.join(word for word in words if word != '--overwrite')}"
    with errors_in_one_line(f"interrupted; to resume the table:\n  {command}"):
        show_log()
        try:
            run_table(asked.table, words[1:])
        except SystemExit:  # a signal stopped a run, which has logged its own command
            log.info("to resume the table:\n  %s", command)
            raise


def run_table(name: str, words: Sequence[str]) -> None:
    """Train, score and show a table of TABLES, given flags of train_aux.py.

    Raises:
        UserError: the folder has other contents, or a setting is wrong.
        FileNotFoundError: the data set lacks a split.
    """
    table = TABLES[name]
    configs = configs_of(table, words)
    common = next(iter(configs.values()))
    folder = common.output or Path("checkpoints") / f"ablation-{name}"
    if common.data_root == table.scenes:
        draw(table.scenes)
    find_pairs(common.data_root, "test", folders=common.folders)  # fails before hours of training
    begin(folder, configs)
    found: dict[str, list[Path]] = {row: [] for row in configs}
    seeds = range(common.seed, common.seed + common.seeds)
    for seed in seeds:  # the whole table with one seed comes first
        for row, config in configs.items():
            log.info("%s, seed %d", row, seed)
            run = run_folder(folder, row) / f"seed-{seed}"
            found[row].append(train_and_score(replace(config, output=run, seed=seed, seeds=1, overwrite=False)))
    data = "drawn scenes" if common.data_root == table.scenes else common.data_root.resolve().name
    title = f"{table.title}: {common.epochs} epochs on {data}, seeds {', '.join(map(str, seeds))}"
    write_results(folder, table.kind, title, {f"{row}@{data}": paths for row, paths in found.items()})


def run_folder(folder: Path, row: str) -> Path:
    """Folder of a row's runs, by its letters and digits in lower case."""
    return folder / re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-")


def begin(folder: Path, configs: Mapping[str, TrainConfig]) -> None:
    """Check that a folder is empty, or has runs of these rows alone; with --overwrite, remove the runs.

    Raises:
        UserError: it has other files.
    """
    rows = [run_folder(folder, row) for row in configs]
    if folder.is_dir() and any(folder.iterdir()) and not any(row.is_dir() for row in rows):
        raise UserError(f"{folder}: has other files; pass an empty folder as --output")
    if next(iter(configs.values())).overwrite:
        for row in rows:
            shutil.rmtree(row, ignore_errors=True)


def train_and_score(config: TrainConfig) -> Path:
    """Complete a run, training and scoring on the test split; returns the folder of its scores.

    Raises:
        UserError: the run was made with other settings, or a test pair cannot be predicted.
    """
    run = config.output
    assert run
    if (run / "best.pt").is_file():
        there, wanted = load_checkpoint(run / "best.pt")["config"], plain_config(config)
        changes = changed_settings(
            {"data set": there["data_root"], **there}, {"data set": wanted["data_root"], **wanted}
        )
        if changes:
            raise UserError(
                f"{run}: made with other settings ({changes}); pass the same ones, another --output, or --overwrite to "
                f"start again"
            )
    if not (run / "metrics.json").is_file():
        train(replace(config, resume=(run / "last.pt").is_file()))
    (run / "last.pt").unlink(missing_ok=True)  # three times as large as best.pt, and no longer needed
    scores = run / "predict-test"
    if not (scores / "metrics.json").is_file():
        data = {each.name: getattr(config, each.name) for each in fields(DataConfig)}
        settings = PredictConfig(
            **data, checkpoint=run / "best.pt", output=scores, save=(), report=False, device=config.device,
            num_workers=config.num_workers, overwrite=True,
        )  # fmt: skip
        if failed := predict(settings, Share.of_torchrun()):
            (scores / "metrics.json").unlink(missing_ok=True)
            raise UserError(f"{scores}: {failed} test pairs could not be predicted; correct them and run again")
    return scores


def write_results(folder: Path, kind: str, title: str, found: Mapping[str, Sequence[Path]]) -> None:
    """Write and print the table, with published rows of its kind, and draw the figure.

    Args:
        folder: folder of the table.
        kind: as for `tools.make_tables`.
        title: shown above the table.
        found: NAME@DATA of each row to its folders of scores, one per seed.
    """
    runs = [(name, path) for name, paths in found.items() for path in paths]
    built = build_table(collect(TableConfig(kind=kind, runs=runs)), kind, title)
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
    """Draw rows from top to bottom: test F1 in percent, a dot per seed and a line for their mean."""
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


if __name__ == "__main__":
    main()
