"""A training run from its settings to its result: data, network, loop, scores; also with several seeds."""

import json
import logging
import shlex
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.layouts import has_split
from datasets.pairs import refuse_inside
from models import build_model
from utils.checkpoint import load_checkpoint
from utils.console import mistakes_of_users
from utils.files import write_text
from utils.machine import algorithms, flush_denormals, pick_device, seed_everything
from utils.metrics import score_table
from utils.settings import find_checkpoint
from utils.training import distributed
from utils.training.config import TrainConfig
from utils.training.data import COUNTS, batches_from, open_data, training_loader, validation_loader
from utils.training.engine import Epoch
from utils.training.initial_weights import load_initial_weights
from utils.training.run_folder import Run, about_run, alone_in, run_folder
from utils.training.stopping import Stopping
from utils.training.trainer import LOGGED, Trainer, build_learner

log = logging.getLogger("train")


def train_seeds(config: TrainConfig) -> None:
    """Train with several seeds, each run in a folder of its own, and report mean and standard deviation."""
    folder = config.folder
    seeds = range(config.seed, config.seed + config.seeds)
    results = {f"seed {s}": train(replace(config, seed=s, seeds=1, output=folder / f"seed-{s}")) for s in seeds}
    columns = {name: [scores[name] for scores in results.values()] for name in LOGGED}
    results["mean"] = {name: statistics.mean(values) for name, values in columns.items()}
    results["deviation"] = {name: statistics.stdev(values) for name, values in columns.items()}
    log.info("%s", score_table(results, LOGGED))
    if distributed.rank() == 0:
        write_text(folder / "seeds.json", json.dumps(results, indent=1) + "\n")


def train(config: TrainConfig) -> dict[str, float]:
    """Train one run.

    Returns:
        Scores of best.pt, on the split that chose it, at the threshold 0.5.
    """
    device = distributed.join(pick_device(config.device))
    with algorithms(config.deterministic), flush_denormals(device), alone_in(config.folder):
        return train_on(device, config)


def train_on(device: torch.device, config: TrainConfig) -> dict[str, float]:
    """As `train`, on this device."""
    folder, last = run_folder(config)
    seed_everything(config.seed)
    with mistakes_of_users():
        network = build_model(config.model, **config.network_options)
    source = load_checkpoint(find_checkpoint(config.init_from)) if config.init_from and not last else None
    data = open_data(config, cast(int, network.size_divisor), last, folder, source)
    refuse_inside(folder, [*data.train, *data.val])
    if last is None:
        load_initial_weights(network, config, source)
    loader, sampler = training_loader(data, config, device)
    draws_per_step = config.batch_size // distributed.ranks()
    steps = [sampler.draws(epoch) // draws_per_step for epoch in range(config.epochs)]
    learner = build_learner(config, network, data.statistics, device, steps)
    run = Run(folder, config, about_run(config, data), learner, texts={COUNTS: data.label_counts.as_text()})
    unfinished = run.resume(last) if last else None
    with Stopping() as stopping, progress_bar(config, steps, len(run.history), unfinished) as progress:
        trainer = Trainer(run, validation_loader(data, config, device), stopping, progress)
        for number in range(len(run.history), config.epochs):
            epoch, unfinished = unfinished or Epoch(number, steps[number]), None
            progress.set_description(f"epoch {number + 1}/{config.epochs}")
            trainer.train(partial(batches_from, loader, sampler, draws_per_step, number), epoch)
            run.end_epoch(trainer.validate(epoch, sampler.pool_size(number)))
        scores = trainer.finish()
    if distributed.rank() == 0:
        log_next(run)
    return scores


@contextmanager
def progress_bar(config: TrainConfig, steps: Sequence[int], epochs: int, unfinished: Epoch | None) -> Iterator[tqdm]:
    """A bar over the pairs of the whole run; what was trained before counts as done."""
    done = sum(steps[:epochs]) + (unfinished.step if unfinished else 0)
    sizes = {"total": sum(steps) * config.batch_size, "initial": done * config.batch_size}
    with (
        tqdm(**sizes, unit="pair", dynamic_ncols=True, disable=distributed.rank() > 0) as progress,
        logging_redirect_tqdm(),
    ):
        yield progress


def log_next(run: Run) -> None:
    """Log where the result is, and the command that predicts with it."""
    best, root = run.folder / "best.pt", run.config.data_root
    log.info("best.pt: %s; curves: %s", best, run.folder / "curves.png")
    split = [["--split", name] for name in ("test", "val", "train") if has_split(root, name)]
    words = ["--checkpoint", best, "--data-root", root, *(split or [[]])[0]]
    log.info("next: python predict_batch.py %s", shlex.join(map(str, words)))
