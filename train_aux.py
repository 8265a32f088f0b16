#!/usr/bin/env python3
"""Trains a network on a data set of image pairs: one run, from flags to best.pt."""

if __name__ == "__main__":  # --help and wrong flags are answered before PyTorch is imported, which takes seconds
    from utils.console import errors_in_one_line, interrupts_in_one_line
    from utils.training.config import parse_train_config

    interrupts_in_one_line()
    with errors_in_one_line():
        parse_train_config(None)

import json
import logging
import shlex
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from datasets.catalog import STATISTICS, Statistics
from datasets.change_pairs import ChangePairs, check_sizes, same_size_batches
from datasets.held_out import hold_out, warn_of_overlap
from datasets.label_counts import LabelCounts, collect, count_changed, decide
from datasets.layouts import has_split
from datasets.measurements import choose_reading, measure_statistics
from datasets.pairs import Pair, find_pairs, fingerprint, image_fingerprint, refuse_inside
from datasets.pfbs import PFBSSampler
from datasets.reading import Reading, labels_of, reading_from
from datasets.recognition import introduce, recognise, set_statistics
from datasets.scenes import is_drawn
from datasets.tile_cache import TileCache, open_cache
from datasets.transforms import build_augmentation
from models import build_model
from utils.checkpoint import Checkpoint
from utils.console import choose, errors_in_one_line, show_log
from utils.machine import algorithms, pick_device, seed_everything, tiny_is_zero
from utils.run_log import score_table, write_text
from utils.training import distributed
from utils.training.config import TrainConfig, parse_train_config, recipe_table
from utils.training.engine import Epoch
from utils.training.run_folder import Run, load_resumable, run_folder
from utils.training.stopping import Stopping, ignore_interrupt, starting_workers
from utils.training.trainer import LOGGED, Trainer, build_learner, zero_heads

log = logging.getLogger("train")
HELD_OUT = "pairs held out of train"
COUNTS = "label_counts.json"  # kept in the run folder


@dataclass(frozen=True)
class Data:
    """The two splits of a run and what was measured on them."""

    train: list[Pair]
    val: list[Pair]
    val_sizes: list[tuple[int, int]]
    selected_on: str
    changed: list[int]
    statistics: Statistics
    reading: Reading
    label_counts: LabelCounts
    caches: dict[str, TileCache]  # by split; a held-out val is in train's
    fingerprint: str
    trained_on: str  # fingerprint of the images of train, with those held out


def main(argv: Sequence[str] | None = None) -> None:
    """Run the script; an expected error is one line on stderr and exit code 2."""
    with errors_in_one_line("interrupted; what last.pt holds is kept, and --resume goes on with it"):
        show_log(quiet=distributed.is_later_rank())
        config = parse_train_config(argv)
        if config.list_recipes:
            sys.stdout.write(recipe_table() + "\n")
        elif config.seeds > 1:
            train_seeds(config)
        else:
            train(config)


def train_seeds(config: TrainConfig) -> None:
    """Train the same with several seeds, each in a folder of its own, and report mean and deviation."""
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
        Scores, on the split that chose it, of the best.pt that the run's folder then holds.
    """
    device = distributed.join(pick_device(config.device))
    with algorithms(config.deterministic), tiny_is_zero(device):
        return train_on(device, config)


def train_on(device: torch.device, config: TrainConfig) -> dict[str, float]:
    """As `train`, on this device."""
    folder = run_folder(config)
    last = load_resumable(folder, config)
    seed_everything(config.seed)
    network = build_model(config.model, **config.network_options)
    data = open_data(config, network.size_divisor, last, folder)
    refuse_inside(folder, [*data.train, *data.val])
    if last is None and config.backbone_weights != "none":
        load_backbone(network, config)
    if config.zero_heads:
        zero_heads(network)
    loader, sampler = training_loader(data, config, device)
    a_step = config.batch_size // distributed.ranks()
    steps = [sampler.draws(epoch) // a_step for epoch in range(config.epochs)]
    learner = build_learner(config, network, data.statistics, device, steps)
    run = Run(folder, config, about_run(config, data), learner, texts={COUNTS: data.label_counts.as_text()})
    unfinished = run.start(last)
    with Stopping() as stopping, progress_bar(config, steps, len(run.history), unfinished) as progress:
        trainer = Trainer(run, validation_loader(data, config, device), stopping, progress)
        for number in range(len(run.history), config.epochs):
            epoch, unfinished = unfinished or Epoch(number, steps[number]), None
            progress.set_description(f"epoch {number + 1}/{config.epochs}")
            trainer.train(partial(batches_from, loader, sampler, a_step, number), epoch)
            run.end_epoch(trainer.validate(epoch, sampler.pool_size(number)))
        scores = trainer.finish()
    if distributed.rank() == 0:
        say_next(run)
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


def batches_from(loader: DataLoader, sampler: PFBSSampler, a_step: int, epoch: int, step: int) -> DataLoader:
    """The loader, which then gives the batches of an epoch from a step on; a step takes `a_step` draws."""
    sampler.set_epoch(epoch, skip=step * a_step)
    return loader


def load_backbone(network: nn.Module, config: TrainConfig) -> None:
    """Start the encoder from weights trained elsewhere; never from random ones unasked."""
    if not hasattr(network, "load_backbone"):
        raise ValueError(f"{config.model} has no encoder to load; use --backbone-weights none")
    network.load_backbone(config.backbone_weights)
    inflated = len(config.bands) not in (0, 3)
    how = f", the mean of its first filters for each of {len(config.bands)} bands" if inflated else ""
    log.info("encoder starts from %s%s", config.backbone_weights, how)


def open_data(config: TrainConfig, divisor: int, last: Checkpoint | None, folder: Path) -> Data:
    """Find, check and measure both splits before a single step is made."""
    name = recognise(config.data_root, config.data_name)
    pairs = find_pairs(config.data_root, "train", folders=config.folders)
    reading = reading_of(config, pairs, last)
    counts = LabelCounts(reading, folder / COUNTS)
    reading = decide(collect(pairs, counts), reading)
    changed = count_changed(pairs, reading, counts)
    if config.select_on == "test" or has_split(config.data_root, "val"):
        selected_on = config.select_on
        train, val = pairs, find_pairs(config.data_root, selected_on, folders=config.folders)
        count_changed(val, reading, counts)
        if selected_on == "test":
            log.warning("best.pt is chosen on the test split: its scores there flatter, and all output says so")
    else:
        train, val = hold_out(pairs, changed, config.seed)
        selected_on = HELD_OUT
        log.warning("no val split: %d training pairs (seed %d) are held out to choose best.pt", len(val), config.seed)
    size = check_sizes(train, divisor, alike=True, reading=reading, crop_size=config.crop_size)[0]
    val_sizes = check_sizes(val, divisor, alike=False, reading=reading)
    if selected_on == HELD_OUT:
        warn_of_overlap(train, val, size)
    introduce(name, {"train": len(pairs)} | ({"val": len(val)} if selected_on == "val" else {}), size)
    changed_in = dict(zip(pairs, changed, strict=True))
    data = fingerprint([*train, *val])
    if last and last["data"] != data:
        raise ValueError("the data set is not the one last.pt was trained on (names or sizes of files differ)")
    statistics = last["statistics"] if last else statistics_of(config, train, reading, name)
    caches = caches_of(config, {"train": pairs} if val[0] in changed_in else {"train": train, "val": val}, reading)
    changed = [changed_in[pair] for pair in train]
    seen = image_fingerprint(pairs)
    return Data(train, val, val_sizes, selected_on, changed, statistics, reading, counts, caches, data, seen)


def caches_of(config: TrainConfig, splits: Mapping[str, Sequence[Pair]], reading: Reading) -> dict[str, TileCache]:
    """The decoded tiles of --cache, a file a split; none without it."""
    if config.cache is None:
        return {}
    refuse_inside(config.cache, [pair for pairs in splits.values() for pair in pairs], "--cache")
    files = {split: config.cache / f"{split}.tiles" for split in splits}
    return distributed.first_on_each_node(
        lambda: {split: open_cache(files[split], pairs, reading) for split, pairs in splits.items()}
    )


def reading_of(config: TrainConfig, pairs: Sequence[Pair], last: Checkpoint | None) -> Reading:
    """How the run reads its files; a resumed run reads them as it did."""
    if last:
        return reading_from(last["reading"])
    return choose_reading(pairs, config.bands, config.scale, labels_of(config))


def statistics_of(config: TrainConfig, pairs: Sequence[Pair], reading: Reading, name: str) -> Statistics:
    """Mean and standard deviation a date and channel, by --statistics; `name` is the public set this is."""
    if config.statistics == "train":
        return measure_statistics(pairs, reading)
    by_set = config.statistics == "set"
    statistics = set_statistics(name) if by_set else choose(STATISTICS, config.statistics, "--statistics")
    if config.statistics == "none":
        return {name: [row[:1] * reading.channels for row in rows] for name, rows in statistics.items()}
    if reading.channels != 3:
        raise ValueError(
            f"--statistics {config.statistics}: of RGB, not of {reading.channels} bands; use train or none"
        )
    return statistics


def training_loader(data: Data, config: TrainConfig, device: torch.device) -> tuple[DataLoader, PFBSSampler]:
    """Augmented batches in the sampler's order: of each step this process's share, in the parts it is worked through.

    Raises:
        ValueError: the batch does not split evenly, or an epoch would have none.
    """
    ranks = distributed.ranks()
    if config.batch_size % (ranks * config.accumulate):
        raise ValueError(
            f"--batch-size {config.batch_size} does not split into {config.accumulate} parts on {ranks} processes"
        )
    augmentation = build_augmentation(
        config.augmentation,
        config.crop_size,
        config.time_swap,
        config.rotation_corners,
        config.drawn,
    )
    pairs = ChangePairs(data.train, augmentation, data.reading, data.caches.get("train"))
    sampler = PFBSSampler(
        data.changed,
        config.fixed_epochs,
        config.linear_epochs,
        config.seed,
        released=config.pfbs_released,
        pool_only=config.pfbs_pool_only,
        positions=config.epoch_steps * config.batch_size,
        rank=distributed.rank(),
        ranks=ranks,
    )
    if sampler.draws(0) * ranks < config.batch_size:  # no later epoch draws less than the first
        what = f"{sampler.draws(0) * ranks} training pairs in the first epoch make no batch of {config.batch_size}"
        raise ValueError(f"{what}; lower --batch-size")
    part = config.batch_size // (ranks * config.accumulate)
    return loader_of(pairs, BatchSampler(sampler, part, drop_last=True), config, device), sampler


def validation_loader(data: Data, config: TrainConfig, device: torch.device) -> DataLoader:
    """Batches of one size each; every pair once, on one of the processes."""
    batches = same_size_batches(data.val_sizes, config.batch_size // config.accumulate)[
        distributed.rank() :: distributed.ranks()
    ]
    cache = data.caches.get("val", data.caches.get("train"))
    return loader_of(ChangePairs(data.val, reading=data.reading, cached=cache), batches, config, device)


class Loader(DataLoader):
    """A loader whose workers leave Ctrl-C to this process, and whose dead workers are noticed between steps."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with starting_workers():
            return super().__iter__()


def loader_of(
    pairs: ChangePairs, batches: Iterable[Sequence[object]], config: TrainConfig, device: torch.device
) -> DataLoader:
    """A loader whose workers live as long as the run, and whose batches reach a GPU without waiting."""
    workers = {"num_workers": config.num_workers, "persistent_workers": config.num_workers > 0}
    # with a generator of its own, starting a loader draws nothing from the one that dropout uses
    pin = device.type == "cuda"
    return Loader(
        pairs, None, sampler=batches, pin_memory=pin, generator=torch.Generator(), worker_init_fn=ignore_interrupt,
        **workers,
    )  # fmt: skip


def about_run(config: TrainConfig, data: Data) -> Checkpoint:
    """What every checkpoint of the run says besides its weights: all that a prediction, and a reader, needs."""
    return {
        "model": config.model,
        "options": config.network_options,
        "statistics": data.statistics,
        "reading": data.reading.as_plain(),
        "threshold": 0.5,
        "recipe": config.recipe,
        "selected_on": data.selected_on,
        "data": data.fingerprint,
        "trained_on": data.trained_on,
        "drawn_scenes": is_drawn(data.train[0].before),
    }


def say_next(run: Run) -> None:
    """Say where everything is and how to go on."""
    config, folder = run.config, run.folder
    log.info("best.pt: %s; curves: %s", folder / "best.pt", folder / "curves.png")
    split = next((name for name in ("test", "val", "train") if has_split(config.data_root, name)), None)
    words = [
        "--checkpoint",
        folder / "best.pt",
        "--data-root",
        config.data_root,
        *(["--split", split] if split else []),
    ]
    log.info("next: python predict_batch.py %s", shlex.join(map(str, words)))


if __name__ == "__main__":
    main()
