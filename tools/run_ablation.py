"""Trains and scores the rows of an ablation table, with several seeds each: `python -m tools.run_ablation TABLE`.

Further flags are those of train_aux.py (`python train_aux.py --help`), for all rows. Without --data-root scenes are
drawn; without --output it all lands in checkpoints/ablation-TABLE: a run a row and seed, then table.md, .csv, .tex and
figure.png, .svg. The same command goes on after an interruption and leaves out what is done; more --seeds add to it;
--overwrite begins again.
"""

import argparse
import json
import logging
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
from tools.ablations import TABLES, configs_of, draw, folder_name, listing
from tools.figures.paper import COLOURS, COLUMN, chart
from tools.make_tables import TableConfig, collect
from tools.tables.layout import build_table
from tools.tables.text import write_tables
from utils.console import UserError, errors_in_one_line, show_log
from utils.files import write_text
from utils.flags import Parser
from utils.prediction.config import PredictConfig
from utils.prediction.session import predict
from utils.prediction.sharing import Share
from utils.settings import DataConfig
from utils.training.config import FREE_ON_RESUME, TrainConfig, plain_config
from utils.training.run_folder import changed_settings
from utils.training.session import train

log = logging.getLogger("ablation")
PROGRAM = "python -m tools.run_ablation"
MARKER = "ablation.json"  # what the folder was made with


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
    with errors_in_one_line(f"interrupted; to go on with the table:\n  {command}"):
        show_log()
        try:
            run_table(asked.table, words[1:])
        except SystemExit:  # a signal stopped a run, which has logged its own command
            log.info("to go on with the table:\n  %s", command)
            raise


def run_table(name: str, words: Sequence[str]) -> None:
    """Train, score and show a table of TABLES.

    Args:
        name: of the table.
        words: flags of train_aux.py.

    Raises:
        UserError: the folder holds something else, or a setting is wrong.
        FileNotFoundError: the data set lacks a split.
    """
    table = TABLES[name]
    configs = configs_of(table, words)
    common = next(iter(configs.values()))
    folder = common.output or Path("checkpoints") / f"ablation-{name}"
    if common.data_root == table.scenes:
        draw(table.scenes)
    find_pairs(common.data_root, "test", folders=common.folders)  # what is missing is told before hours of training
    begin(folder, name, configs, common.overwrite)
    found: dict[str, list[Path]] = {row: [] for row in configs}
    seeds = range(common.seed, common.seed + common.seeds)
    for seed in seeds:  # the whole table with one seed comes first
        for row, config in configs.items():
            log.info("%s, seed %d", row, seed)
            run = folder / folder_name(row) / f"seed-{seed}"
            found[row].append(train_and_score(replace(config, output=run, seed=seed, seeds=1, overwrite=False)))
    data = "drawn scenes" if common.data_root == table.scenes else common.data_root.resolve().name
    title = f"{table.title}: {common.epochs} epochs on {data}, seeds {', '.join(map(str, seeds))}"
    write_results(folder, table.kind, title, {f"{row}@{data}": paths for row, paths in found.items()})


def begin(folder: Path, name: str, configs: Mapping[str, TrainConfig], overwrite: bool) -> None:
    """Make the folder of a table, or go on in it; `overwrite` removes the runs it holds.

    Raises:
        UserError: it holds something else, or was made with settings that compute something else.
    """
    settings = {
        row: {
            **{key: value for key, value in plain_config(config).items() if key not in FREE_ON_RESUME | {"seed"}},
            "data set": str(config.data_root),
        }
        for row, config in configs.items()
    }
    wanted = json.loads(json.dumps({"table": name, "rows": settings}))
    marker = folder / MARKER
    if marker.is_file():
        there = json.loads(marker.read_text(encoding="utf-8"))
        both = [(there["rows"].get(row, {}), each) for row, each in wanted["rows"].items()]
        changes = "; ".join(dict.fromkeys(text for pair in both if (text := changed_settings(*pair))))
        if there["table"] != name:
            changes = f"table: {there['table']} there, {name} here"
        if changes and not overwrite:
            raise UserError(
                f"{folder}: made with other settings ({changes}); give the same ones, another --output, or --overwrite "
                f"to begin again"
            )
        for row in there["rows"] if overwrite else ():
            shutil.rmtree(folder / folder_name(row), ignore_errors=True)
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds other files; --output names a folder of the table's own")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(marker, json.dumps(wanted, indent=1) + "\n")


def train_and_score(config: TrainConfig) -> Path:
    """Do what is left of a run, training and scoring on the test split.

    Returns:
        the folder of its scores.
    """
    run = config.output
    assert run
    if not (run / "metrics.json").is_file():
        train(replace(config, resume=(run / "last.pt").is_file()))
    (run / "last.pt").unlink(missing_ok=True)  # three times as large as best.pt, and there is nothing to resume
    scores = run / "predict-test"
    if not (scores / "metrics.json").is_file():
        data = {each.name: getattr(config, each.name) for each in fields(DataConfig)}
        settings = PredictConfig(
            **data, checkpoint=run / "best.pt", output=scores, save=(), report=False, device=config.device,
            num_workers=config.num_workers, overwrite=True,
        )  # fmt: skip
        if failed := predict(settings, Share.of_torchrun()):
            (scores / "metrics.json").unlink(missing_ok=True)
            raise UserError(f"{scores}: {failed} test pairs could not be predicted; mend them and go on")
    return scores


def write_results(folder: Path, kind: str, title: str, found: Mapping[str, Sequence[Path]]) -> None:
    """Write and print the table, with published rows of its kind, and draw the figure.

    Args:
        folder: folder of the table.
        kind: as for `tools.make_tables`.
        title: shown above the table.
        found: NAME@DATA of each row to its folders of scores, one a seed.
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
    """Draw a row's seeds as dots and their mean as a stroke, rows from top to bottom.

    Args:
        rows: name to test F1 of each seed, percent.
        path: .png, .pdf or .svg.
    """
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
