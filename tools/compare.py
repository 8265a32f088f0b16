"""Trains and scores methods under one protocol: `python -m tools.compare --data-root DATA --methods amfnet,unet,cva`.

--methods takes networks, methods without training, and rows with flags of their own, "NAME=FLAGS". A preset, such as
`python -m tools.compare amfnet-modules`, is a list of such rows; without --data-root, scenes are drawn. All other flags
are those of train_aux.py (`python train_aux.py --help`) and apply to all rows; the default is --recipe equal, 3 seeds.

The output folder, by default checkpoints/compare-DATA or ablation-TABLE, gets one run per row and seed, then tables,
figures and intervals. The same command resumes after an interruption and skips what is done; a larger --seeds adds
runs; --overwrite starts again. Processes with the same command, or those of torchrun, share the runs.
"""

import argparse
import hashlib
import json
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock, Timeout

if __name__ == "__main__":  # python path/to/tools/compare.py works from any folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.layouts import has_split, list_split
from datasets.pairs import complete_pairs, find_pairs, image_marks
from tools.methods.result_files import draw_comparisons, write_results
from tools.methods.rows import TABLES, Comparison, configs_of, draw, listing, of_methods, row_folder, shared_config
from tools.methods.untrained import UNTRAINED, score_untrained
from utils.checkpoint import load_checkpoint
from utils.console import UserError, errors_in_one_line, in_one_line, quantity, show_log
from utils.files import partial_of, write_text
from utils.flags import Parser
from utils.prediction.config import PredictConfig
from utils.prediction.session import predict
from utils.settings import BandConfig, DataConfig
from utils.training.config import TrainConfig, plain_config
from utils.training.run_folder import changed_settings
from utils.training.session import train

log = logging.getLogger("compare")
PROGRAM = "python -m tools.compare"
PAUSE = 5.0  # seconds between two looks at the runs of other processes


def main(argv: Sequence[str] | None = None) -> None:
    """Run a comparison; an expected error is one line on stderr and exit code 2."""
    words, parser = list(sys.argv[1:] if argv is None else argv), own_flags()
    first = words and not words[0].startswith("-")
    asked, rest = parser.parse_known_args(["--table", *words] if first else words)
    if asked.list:
        sys.stdout.write(listing())
        return
    if bool(asked.table) == bool(asked.methods):
        parser.error(f"name a table ({', '.join(TABLES)}) or --methods, or see --list")
    command = f"{PROGRAM} {shlex.join(word for word in words if word != '--overwrite')}"
    with errors_in_one_line(f"interrupted; to resume the table:\n  {command}"):
        rest = [*of_this_process(words), *rest]
        try:
            table = of_methods(asked.methods) if asked.methods else TABLES[asked.table]
            scoring = Scoring(asked.split, asked.threshold)
            run_table(table, f"ablation-{asked.table}" if asked.table else "", scoring, rest)
        except SystemExit:  # a signal stopped a run, which has logged its own command
            log.info("to resume the table:\n  %s", command)
            raise


def own_flags() -> Parser:
    """The flags that train_aux.py has not."""
    parser = Parser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"{PROGRAM} [TABLE | --methods METHOD ...] [flags of train_aux.py]",
    )  # fmt: skip
    parser.add_argument("--table", choices=TABLES, help=f"a preset, also as first word: {', '.join(TABLES)}")
    parser.add_argument("--list", action="store_true", help="show the presets with their rows, and leave")
    parser.add_argument(
        "--methods", nargs="+", action="extend", metavar="METHOD",
        help=f"networks, or {', '.join(UNTRAINED)}, separated by commas; or 'NAME=FLAGS', a row with its own flags",
    )  # fmt: skip
    parser.add_argument("--split", default="test", help="split of the data set to score (default: test)")
    parser.add_argument(
        "--threshold", choices=("0.5", "tuned"), default="0.5",
        help="probability above which a pixel is changed; tuned: each run's best one on val (default: 0.5)",
    )  # fmt: skip
    return parser


def of_this_process(words: Sequence[str]) -> list[str]:
    """Make a process of torchrun train whole runs alone, without --overwrite; return the flag of its GPU, if any."""
    rank = int(os.environ.get("LOCAL_RANK", "-1"))
    show_log(quiet=rank > 0)
    if rank >= 0 and "--overwrite" in words:
        raise UserError("--overwrite: processes of torchrun would remove each other's runs; remove the folder first")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)
    count = torch.cuda.device_count() if rank >= 0 else 0
    return ["--device", f"cuda:{rank % count}"] if count else []


class Scoring(NamedTuple):
    """How runs are scored: the split of the data set, and the threshold, 0.5 or tuned."""

    split: str
    threshold: str

    @property
    def folder(self) -> str:
        """Name of the folder of scores in that of a run."""
        return f"predict-{self.split}" + "-tuned" * (self.threshold == "tuned")


def run_table(table: Comparison, name: str, scoring: Scoring, words: Sequence[str]) -> None:
    """Train, score and show a table by words, flags of train_aux.py; UserError if the folder has other contents.

    Without --output, the folder is checkpoints/NAME, or is called after the data set.
    """
    common, configs = shared_config(table, words), configs_of(table, words)
    data = common.data_root.resolve().name
    folder = common.output or Path("checkpoints") / (name or f"compare-{data}")
    if common.data_root == table.scenes:
        with locked(table.scenes):
            draw(table.scenes)
        data = "drawn scenes"
    find_pairs(common.data_root, scoring.split, folders=common.folders)  # fails before hours of training
    begin(folder, table.rows, common.overwrite)
    with locked(folder / "data.json"):
        refuse_other_data(folder / "data.json", common, scoring.split)
    jobs = jobs_of(folder, table, configs, scoring)
    complete(jobs)
    title = f"{table.title}: {in_common([configs[row] for row in configs if row not in table.untrained], data)}"
    found = {row: [job.scores for job in jobs if job.row == row] for row in table.rows}
    with locked(folder / "tables"):  # another process may write the same
        write_results(folder, table.kind, title, {f"{row}@{data}": paths for row, paths in found.items()})
        draw_comparisons(folder, {row: paths[0] for row, paths in found.items()}, common, scoring.split)


def in_common(configs: Sequence[TrainConfig], data: str) -> str:
    """Text on the data, and on the length and the seeds of runs where they are alike."""
    lengths = {quantity(c.epochs, "epoch") + f" of {c.epoch_steps} steps" * bool(c.epoch_steps) for c in configs}
    seeds = {f"seed{'s' * (c.seeds > 1)} " + ", ".join(str(c.seed + n) for n in range(c.seeds)) for c in configs}
    length, seed = (words.pop() if len(words) == 1 else "" for words in (lengths, seeds))
    return f"{length} " * bool(length) + f"on {data}" + f", {seed}" * bool(seed)


def refuse_other_data(path: Path, config: TrainConfig, split: str) -> None:
    """Keep in a file what the data set holds, and how it is read; UserError if there is something else in the file."""
    settings = {each.name: getattr(config, each.name) for each in fields(BandConfig)}
    here = {"settings": json.loads(json.dumps({**settings, "data_root": ""}))}
    for name in {"train", "val", split}:
        if name == split or has_split(config.data_root, name):
            pairs = complete_pairs(list_split(config.data_root, name, False, config.folders))
            content = repr([(pair.name, mark) for pair, mark in zip(pairs, image_marks(pairs, True), strict=True)])
            here[name] = f"{quantity(len(pairs), 'pair')}, {hashlib.sha256(content.encode()).hexdigest()[:16]}"
    there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in sorted(here.keys() & there.keys()):
        if here[name] != there[name]:
            changed = changed_settings(there[name], here[name]) if name == "settings" else f"files of {name}"
            what = f"begun with other data ({changed})"
            raise UserError(f"{path.parent}: {what}; pass another --output, or --overwrite to start again")
    write_text(path, json.dumps({**there, **here}, indent=1) + "\n")


class Job(NamedTuple):
    """A run with its scores, or the scores of an untrained row; one process does it."""

    row: str
    scores: Path  # folder
    do: Callable[[], None]  # nothing, if it is done


def jobs_of(folder: Path, table: Comparison, configs: Mapping[str, TrainConfig], scoring: Scoring) -> list[Job]:
    """A job per row and seed, the whole table with one seed first; `configs` as from `configs_of`."""
    jobs = []
    for turn in range(max(config.seeds for config in configs.values())):
        for row, config in configs.items():
            place = row_folder(folder, row)
            if row in table.untrained and turn == 0:
                scores = place / f"predict-{scoring.split}"
                jobs.append(Job(row, scores, partial(score_untrained, row, config, scoring.split, scores)))
            elif row not in table.untrained and turn < config.seeds:
                run = replace(config, seed=config.seed + turn, seeds=1, overwrite=False)
                run = replace(run, output=place / f"seed-{run.seed}")
                refuse_other_settings(run)
                jobs.append(Job(row, run.folder / scoring.folder, partial(train_and_score, run, scoring)))
    return jobs


def begin(folder: Path, names: Iterable[str], overwrite: bool) -> None:
    """With --overwrite, remove a folder's runs; UserError if it has other files, or a process works on a run."""
    rows, data = [row_folder(folder, row) for row in names], folder / "data.json"
    there = [path for path in folder.iterdir() if path.suffix != ".lock"] if folder.is_dir() else []
    known = any(row.is_dir() for row in rows) and (data.is_file() or overwrite)
    if there and not known and set(there) - {data, partial_of(data)}:
        raise UserError(f"{folder}: has other files, or rows without data.json; pass an empty folder as --output")
    if overwrite:
        for lock in folder.rglob("*.lock"):
            try:
                FileLock(lock, timeout=0).acquire().lock.release()
            except Timeout:
                raise UserError(f"{lock}: held by another process; end it first, or omit --overwrite") from None
        for row in rows:
            shutil.rmtree(row, ignore_errors=True)
        data.unlink(missing_ok=True)


def locked(path: Path, timeout: float = -1) -> FileLock:
    """A lock named after a file or folder; the system frees it when its process ends, however that happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"), timeout=timeout)


def complete(jobs: Sequence[Job]) -> None:
    """Do every job that no other process is doing, until all are done; UserError if some fail, after all others."""
    left, failed = jobs, dict[Path, str]()
    while left:
        busy = list[Job]()
        for job in left:
            try:
                with locked(job.scores.parent, timeout=0):
                    log.info("%s", job.scores.parent)
                    if not ((job.scores / "metrics.json").is_file() and (job.scores / "mask").is_dir()):
                        job.do()
            except Timeout:
                busy.append(job)
            except Exception as error:
                if not (message := in_one_line(error)):  # a bug
                    raise
                failed[job.scores.parent] = message
                log.error("%s: %s", job.scores.parent, message)
        if busy and len(busy) == len(left):
            log.info("waiting for another process: %s", busy[0].scores.parent)
            time.sleep(PAUSE)
        left = busy
    if failed:
        path, message = next(iter(failed.items()))
        raise UserError(f"{path}: {message}; {len(failed)} of {quantity(len(jobs), 'run')} failed, all others are done")


def refuse_other_settings(config: TrainConfig) -> None:
    """Raise UserError if a run is there that was made with other settings."""
    run = config.folder
    if (run / "best.pt").is_file():
        there, wanted = (
            {"data set": str(Path(str(each["data_root"])).resolve()), **each}
            for each in (load_checkpoint(run / "best.pt")["config"], plain_config(config))
        )
        if changes := changed_settings(there, wanted):
            raise UserError(
                f"{run}: made with other settings ({changes}); pass the same ones, another --output, or --overwrite to "
                f"start again"
            )


def train_and_score(config: TrainConfig, scoring: Scoring) -> None:
    """Train and score what is missing; UserError if a pair cannot be predicted."""
    run = config.folder
    if not (run / "metrics.json").is_file():
        train(replace(config, resume=(run / "last.pt").is_file()))
    (run / "last.pt").unlink(missing_ok=True)  # three times as large as best.pt, and no longer needed
    scores = run / scoring.folder
    data = {each.name: getattr(config, each.name) for each in fields(DataConfig)}
    settings = PredictConfig(
        **data, checkpoint=run / "best.pt", split=scoring.split, output=scores, save=("mask",), report=False,
        threshold=0.5 if scoring.threshold == "0.5" else scoring.threshold, device=config.device,
        num_workers=config.num_workers, overwrite=True,
    )  # fmt: skip
    if failed := predict(settings):
        (scores / "metrics.json").unlink(missing_ok=True)
        raise UserError(f"{scores}: {quantity(failed, 'pair')} could not be predicted; correct them and run again")


if __name__ == "__main__":
    main()
